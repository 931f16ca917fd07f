"""Which texts count, and how much."""

from __future__ import annotations

import numpy as np
import pytest

from python_services.kit.config import ConfigError, load
from python_services.sentiment_agent.config import Config
from python_services.sentiment_agent.logic import HALF_LIFE_DAYS, distinct

from .views import AS_OF_NS, texts, view


def test_the_same_words_count_once_and_as_much_as_their_best_source() -> None:
    said = texts(
        (0, "blog", 4.0, "Profit up 12.5% at Acme"),
        (0, "wire", 2.0, "PROFIT up 12.5%, at  Acme! https://example.com/a"),
        (0, "wire", 1.0, "Profit up 12% at Acme"),
        (1, "blog", 3.0, "Profit up 12.5% at Acme"),
    )
    stories = distinct(said, AS_OF_NS, {"wire": 0.9, "blog": 0.2}, 0.5)
    assert stories.instrument.tolist() == [0, 1, 0]
    assert stories.age_days.tolist() == [4.0, 3.0, 1.0]  # as old as its first publication
    assert stories.credibility.tolist() == [0.9, 0.2, 0.9]
    assert [stories.texts[i] for i in stories.words] == [
        "Profit up 12.5% at Acme", "Profit up 12.5% at Acme", "Profit up 12% at Acme"
    ]  # fmt: skip
    assert len(stories.texts) == 2  # what is said of two companies is scored once


def test_sources_that_count_nothing_are_left_out_and_others_count_as_configured() -> None:
    said = texts((0, "rumour", 1.0, "a b"), (0, "unheard", 1.0, "c d"))
    stories = distinct(said, AS_OF_NS, {"rumour": 0.0}, 0.3)
    assert (stories.texts, stories.credibility.tolist()) == (("c d",), [0.3])


def test_weight_is_credibility_and_halves_with_the_half_life() -> None:
    ages = [0.0, HALF_LIFE_DAYS, 2 * HALF_LIFE_DAYS]
    said = texts(*((0, "wire", age, f"text {age}") for age in ages))
    seen = view(said, {f"text {age}": 0.0 for age in ages}, {"wire": 0.8})
    np.testing.assert_allclose(sorted(seen.weight, reverse=True), [0.8, 0.4, 0.2])


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
