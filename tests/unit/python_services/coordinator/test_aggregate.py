"""Combining forecasts: hand-computed cases and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_services.coordinator.aggregate import Estimate, combine


def voice(agent: str, returns: list[float], confidence: list[float], *, bars: int = 5, rows: list[int] | None = None):
    rows = list(range(len(confidence))) if rows is None else rows
    return Estimate(
        agent_id=agent,
        horizon_bars=bars,
        instrument_index=np.array(rows, np.int64),
        expected_return=np.array(returns, np.float64),
        volatility=np.full(len(rows), 0.02),
        confidence=np.array(confidence, np.float64),
    )


def test_confidence_weights_the_returns() -> None:
    combined = combine([voice("a", [0.03], [0.9]), voice("b", [-0.01], [0.3])], 1, 5)
    assert combined.expected_return == pytest.approx([(0.9 * 0.03 - 0.3 * 0.01) / 1.2])
    # Mean confidence 0.6, agreement 0.024 / 0.030.
    assert combined.confidence == pytest.approx([0.6 * 0.8])
    assert combined.contribution.sum(axis=1) == pytest.approx(combined.expected_return)


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


@given(st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(0, 1)), min_size=1, max_size=8))
def test_the_combination_stays_between_its_voices(said: list[tuple[float, float]]) -> None:
    combined = combine([voice(str(i), [r], [c]) for i, (r, c) in enumerate(said)], 1, 5)
    if len(combined.instrument_index):
        heard = [r for r, c in said if c > 0]
        assert min(heard) - 1e-12 <= combined.expected_return[0] <= max(heard) + 1e-12
        assert 0 <= combined.confidence[0] <= 1
