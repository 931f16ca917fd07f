"""What the agents make of texts: direction, silence, degradation, and no look-ahead."""

from __future__ import annotations

import math

import numpy as np
import pytest

from python_services.kit.agents import Forecast, Reason
from python_services.sentiment_agent.agents import AGENTS, dispersion, news, trend
from python_services.sentiment_agent.logic import LEXICON_CONFIDENCE, SPREAD

from .views import column, texts, told, view, window

GOOD, BAD = {"good": 0.9, "better": 0.8, "bad": -0.9, "worse": -0.8, "so so": 0.02}, ("bad", "worse")


def why(found: Forecast, instrument: int) -> tuple[Reason, str]:
    return next((a.reason, a.detail) for a in found.abstentions if a.index == instrument)


def test_good_news_rises_bad_news_falls_neutral_news_is_silent() -> None:
    said = texts((0, "wire", 0.5, "good"), (1, "wire", 0.5, "bad"), (2, "wire", 0.5, "so so"))
    found = told(news.AGENT, view(said, GOOD))
    assert found.index.tolist() == [0, 1]
    assert why(found, 2) == (
        Reason.NO_SIGNAL,
        "what is written about it is neutral, contradictory, old or not credible",
    )
    weight = 2 ** (-0.5 / 3)
    statistic = weight * 0.9 / (SPREAD * math.sqrt(1 + weight**2))
    assert column(found, "tone_statistic", 0) == pytest.approx(statistic)
    assert column(found, "tone", 1) == pytest.approx(-0.9)
    assert [column(found, name, 0) for name in ("texts", "weight", "newest_age_days", "credibility")] == pytest.approx(
        [1.0, weight, 0.5, 1.0]
    )
    volatility = column(found, "volatility", 0)
    assert volatility == pytest.approx(window().daily_volatility[0] * math.sqrt(5))
    assert column(found, "expected_return", 0) == pytest.approx(0.03 * volatility * statistic)
    assert column(found, "confidence", 1) == pytest.approx(math.erf(statistic / math.sqrt(2)))
    assert (found.model_version, found.degraded) == ("m:1", None)


def test_more_agreement_is_more_confidence_and_contradiction_less() -> None:
    def confidence(*words: str) -> float:
        found = told(news.AGENT, view(texts(*((0, "wire", 1.0, word) for word in words)), GOOD))
        return column(found, "confidence", 0) if 0 in found.index else 0.0

    assert confidence("good", "better") > confidence("good") > confidence("good", "so so") > 0.0
    assert confidence("good", "bad") == 0.0


def test_old_news_and_news_that_nobody_trusts_are_silent() -> None:
    said = texts((0, "wire", 20.0, "good"), (1, "blog", 0.5, "good"), (2, "wire", 0.5, "good"))
    found = told(news.AGENT, view(said, GOOD, {"blog": 0.05}))
    assert found.index.tolist() == [2]


def test_without_a_text_every_agent_abstains_and_says_so() -> None:
    for agent in AGENTS:
        found = told(agent, view(texts(), GOOD))
        assert not len(found.index)
        assert {(a.reason, a.detail) for a in found.abstentions} == {
            (Reason.MISSING_DATA, "no text about it in the last 30 days")
        }
        assert found.degraded is None


def test_a_change_of_tone_is_seen_and_needs_texts_on_both_sides() -> None:
    before = [(i, "wire", 9.0 + number, word) for i in (0, 1) for number, word in enumerate(BAD)]
    now = [(0, "wire", 1.0 + number, word) for number, word in enumerate(("good", "better"))]
    found = told(trend.AGENT, view(texts(*before, *now, (1, "wire", 1.0, "good")), GOOD))
    assert found.index.tolist() == [0]
    assert column(found, "tone_change", 0) == pytest.approx(0.85 + 0.85)
    assert column(found, "tone_change_statistic", 0) == pytest.approx(1.7 / (SPREAD * math.sqrt(0.5 + 0.5)))
    assert column(found, "expected_return", 0) > 0.0
    assert why(found, 1) == (
        Reason.MISSING_DATA,
        "1 texts about it in the last 5 days and 2 in the 25 before; 2 of each are needed",
    )
    assert why(found, 2)[1] == "no text about it in the last 30 days"


def test_disagreement_raises_the_volatility_and_says_nothing_of_the_direction() -> None:
    apart = [(0, "wire", 1.0, word) for word in ("good", "better", "bad")]
    alike = [(1, "wire", 1.0, word) for word in ("good", "better", "so so")]
    found = told(dispersion.AGENT, view(texts(*apart, *alike, (2, "wire", 1.0, "good")), GOOD))
    assert found.expected_return is None
    assert found.index.tolist() == [0, 1]
    assert column(found, "dispersion", 0) == pytest.approx(np.std([0.9, 0.8, -0.9]))
    excess = [column(found, "volatility", i) / column(found, "bar_volatility", i) for i in (0, 1)]
    assert 1.0 < excess[1] < excess[0] < 1.25
    assert why(found, 2) == (Reason.MISSING_DATA, "1 texts about it; 3 are needed")


def test_what_the_lexicon_scored_is_worth_less() -> None:
    said = texts((0, "wire", 0.5, "good"), (1, "wire", 0.5, "better"))
    whole, part = (told(news.AGENT, view(said, GOOD, lexical=by)) for by in ((), ("good",)))
    assert part.degraded == "some by the lexicon"
    assert column(part, "confidence", 0) == pytest.approx(LEXICON_CONFIDENCE * column(whole, "confidence", 0))
    assert column(part, "confidence", 1) == column(whole, "confidence", 1)
    assert column(part, "expected_return", 0) == column(whole, "expected_return", 0)
