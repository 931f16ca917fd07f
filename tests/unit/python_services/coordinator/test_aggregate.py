"""Combining forecasts: hand-computed cases and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_services.coordinator import aggregate
from python_services.coordinator.aggregate import Combined
from python_services.coordinator.estimates import Estimate
from python_services.coordinator.similarity import Similarity

from .voices import voice


def combine(estimates: list[Estimate], instruments: int, bars: int, **weights: float) -> Combined:
    """Weights by agent; 1 where none is given."""
    every = {estimate.agent_id: weights.get(estimate.agent_id, 1.0) for estimate in estimates}
    return aggregate.combine(estimates, instruments, bars, every)


def test_confidence_weights_the_returns() -> None:
    combined = combine([voice("a", [0.03], [0.9]), voice("b", [-0.01], [0.3])], 1, 5)
    assert combined.expected_return == pytest.approx([(0.9 * 0.03 - 0.3 * 0.01) / 1.2])
    # Mean confidence 0.6, agreement 0.024 / 0.030.
    assert combined.confidence == pytest.approx([0.6 * 0.8])
    assert combined.contribution.sum(axis=1) == pytest.approx(combined.expected_return)


def test_the_weight_of_a_voice_multiplies_its_confidence() -> None:
    combined = combine([voice("a", [0.03], [0.5]), voice("b", [-0.01], [0.5])], 1, 5, a=3.0, b=1.0)
    assert combined.expected_return == pytest.approx([(3 * 0.03 - 0.01) / 4])
    assert combined.confidence == pytest.approx([0.5 * 0.08 / 0.10])


def test_who_has_no_weight_is_not_heard() -> None:
    alone = combine([voice("a", [0.03], [0.5])], 1, 5)
    muted = combine([voice("a", [0.03], [0.5]), voice("b", [-0.09], [1.0])], 1, 5, b=0.0)
    assert muted.expected_return == alone.expected_return
    assert muted.volatility == alone.volatility
    assert muted.agent_ids == ("a",)


def test_who_is_not_heard_on_one_row_is_heard_on_the_other() -> None:
    voices = [voice("a", [0.03, 0.03], [0.5, 0.5]), voice("b", [-0.01, -0.01], [0.5, 0.5])]
    combined = aggregate.combine(voices, 2, 5, {"a": 1.0, "b": 1.0}, {"b": np.array([True, False])})
    assert combined.expected_return == pytest.approx([0.03, 0.01])
    assert combined.confidence == pytest.approx([0.5, 0.5 * 0.5])


def test_horizons_are_brought_to_one() -> None:
    combined = combine([voice("slow", [0.04], [0.5], bars=20)], 1, 5)
    assert combined.expected_return == pytest.approx([0.01])
    assert combined.volatility == pytest.approx([0.01])


def test_opposite_voices_cancel_the_confidence() -> None:
    combined = combine([voice("a", [0.02], [0.5]), voice("b", [-0.02], [0.5])], 1, 5)
    assert combined.confidence == pytest.approx([0.0])


def test_an_instrument_that_nobody_forecasts_is_left_out() -> None:
    only_volatility = voice("vol", [], [0.7, 0.7])
    combined = combine([voice("a", [0.01], [0.5], rows=[1]), only_volatility], 3, 5)
    assert combined.instrument_index.tolist() == [1]
    assert combined.agent_ids == ("a",)


# None, or a share that is large enough for arithmetic: below 1e-300 there are no digits left.
SHARES = st.just(0.0) | st.floats(1e-6, 1.0)


@given(st.lists(st.tuples(st.floats(-0.1, 0.1), SHARES, SHARES), min_size=1, max_size=8))
def test_the_combination_stays_between_its_voices(said: list[tuple[float, float, float]]) -> None:
    weights = {str(i): k for i, (_, _, k) in enumerate(said)}
    combined = combine([voice(str(i), [r], [c]) for i, (r, c, _) in enumerate(said)], 1, 5, **weights)
    if len(combined.instrument_index):
        heard = [r for r, c, k in said if c * k > 0]
        assert min(heard) - 1e-12 <= combined.expected_return[0] <= max(heard) + 1e-12
        assert 0 <= combined.confidence[0] <= 1


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), copies=st.integers(2, 8), others=st.integers(1, 4))
def test_copies_of_one_idea_count_about_as_one(seed: int, copies: int, others: int) -> None:
    """Five copies among independent agents leave the combined view almost as one does."""
    days, instruments = 60, 20
    sure = [0.5] * instruments

    def view(copied: int, aware: bool) -> np.ndarray:
        draw = np.random.default_rng(seed)
        similarity = Similarity()
        for _ in range(days):
            ideas = draw.normal(0, 0.01, (1 + others, instruments))
            said = [voice(f"copy{n}", ideas[0], sure) for n in range(copied)]
            said += [voice(f"other{n}", idea, sure) for n, idea in enumerate(ideas[1:])]
            similarity = similarity.after(said, instruments, 126.0)
        shares = similarity.shares([e.agent_id for e in said], 5.0)
        weights = shares if aware else dict.fromkeys(shares, 1.0)
        return aggregate.combine(said, instruments, 5, weights).expected_return

    once, often, naive = view(1, True), view(copies, True), view(copies, False)
    scale = np.abs(once).max()
    assert np.abs(often - once).max() < 0.05 * scale
    assert np.abs(naive - once).max() > 3 * np.abs(often - once).max()


def test_a_copy_is_seen_at_its_first_word_and_an_opposite_is_no_copy() -> None:
    idea = [0.01, -0.02, 0.03, 0.01, -0.01, 0.02, 0.01, -0.02, 0.01, 0.02]
    sure = [0.5] * len(idea)
    said = [voice("a", idea, sure), voice("b", idea, sure), voice("c", [-r for r in idea], sure)]
    shares = Similarity().after(said, len(idea), 126.0).shares(["a", "b", "c"], 5.0)
    assert shares["a"] == shares["b"] == pytest.approx(1 / (1 + 10 / 15))
    assert shares["c"] == 1.0
    assert Similarity().shares(["unknown"], 5.0) == {"unknown": 1.0}
