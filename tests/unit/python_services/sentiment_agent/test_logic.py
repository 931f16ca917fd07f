"""Which texts count, and how much."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_services.kit.config import ConfigError, load
from python_services.sentiment_agent.config import Config
from python_services.sentiment_agent.logic import HALF_LIFE_DAYS
from python_services.sentiment_agent.reader import Reader

from .views import AS_OF_NS, texts, view


def test_the_same_words_count_once_and_as_much_as_their_best_source() -> None:
    said = texts(
        (0, "blog", 4.0, "Profit up 12.5% at Acme"),
        (0, "wire", 2.0, "PROFIT up 12.5%, at  Acme! https://example.com/a"),
        (0, "wire", 1.0, "Profit up 12% at Acme"),
        (1, "blog", 3.0, "Profit up 12.5% at Acme"),
    )
    stories = Reader({"wire": 0.9, "blog": 0.2}, 0.5).read(said, AS_OF_NS)
    assert stories.instrument.tolist() == [0, 1, 0]
    assert stories.age_days.tolist() == [4.0, 3.0, 1.0]  # as old as its first publication
    assert stories.credibility.tolist() == [0.9, 0.2, 0.9]
    assert stories.texts.take(pa.array(stories.words)).to_pylist() == [
        "Profit up 12.5% at Acme", "Profit up 12.5% at Acme", "Profit up 12% at Acme"
    ]  # fmt: skip
    assert len(stories.texts) == 2  # what is said of two companies is scored once


def test_sources_that_count_nothing_are_left_out_and_others_count_as_configured() -> None:
    said = texts((0, "rumour", 1.0, "a b"), (0, "unheard", 1.0, "c d"))
    stories = Reader({"rumour": 0.0}, 0.3).read(said, AS_OF_NS)
    assert (stories.texts.to_pylist(), stories.credibility.tolist()) == (["c d"], [0.3])


def test_weight_is_credibility_and_halves_with_the_half_life() -> None:
    ages = [0.0, HALF_LIFE_DAYS, 2 * HALF_LIFE_DAYS]
    said = texts(*((0, "wire", age, f"text {age}") for age in ages))
    seen = view(said, {f"text {age}": 0.0 for age in ages}, {"wire": 0.8})
    np.testing.assert_allclose(sorted(seen.weight, reverse=True), [0.8, 0.4, 0.2])


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["wire", "blog", "rumour"]),
        st.integers(0, 40).map(float),
        st.sampled_from(
            ["A gains", "a  GAINS!", "B falls", "B falls https://example.com", "C is \u2460", "C is 1", "D"]
        ),
    ),
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, windows=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), min_size=1, max_size=6))
def test_what_was_read_before_changes_nothing(
    rows: list[tuple[int, str, float, str]], windows: list[tuple[int, int]]
) -> None:
    """Snapshots in any order, also ones that share nothing with the one before."""
    trust = {"wire": 0.9, "rumour": 0.0}
    kept = Reader(trust, 0.5)
    for newest, days in windows:
        said = texts(*(row for row in rows if newest <= row[2] < newest + days))
        found, fresh = kept.read(said, AS_OF_NS), Reader(trust, 0.5).read(said, AS_OF_NS)
        for name in ("instrument", "age_days", "credibility", "words"):
            np.testing.assert_array_equal(getattr(found, name), getattr(fresh, name))
        assert found.texts.equals(fresh.texts)
        # A score stays with its text, whatever is read between.
        known = found.scores[found.number]
        expected = np.array([float(len(text)) for text in found.texts.to_pylist()])
        np.testing.assert_array_equal(known[~np.isnan(known)], expected[~np.isnan(known)])
        found.scores[found.number] = expected


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"sources": [{"name": "wire", "credibility": 1.5}]}, r"credibility of wire is 1\.5; give 0 to 1"),
        ({"sources": [{"name": "a", "credibility": 1}, {"name": "a", "credibility": 0.5}]}, "lists a twice"),
        ({"other_credibility": -0.1}, "other_credibility is -0.1"),
        ({"model_version": 0}, "name the version to ask"),
        ({"sources": [{"name": "wire", "trust": 1.0}]}, "unknown key 'trust'"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_with_the_field(values: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(Config, values, where="sentiment_agent")
