"""From stated probabilities to a forecast: less sure than the model, and bounded by the window's volatility."""

from __future__ import annotations

import numpy as np
import pytest

from python_services.kit.agents import Forecast, Reason, forecast
from python_services.llm_agent import logic
from python_services.llm_agent.analyst import Opinion
from python_services.llm_agent.answers import View
from python_services.llm_agent.config import Config
from python_services.llm_agent.logic import Look

from .test_table import window

CONFIG = Config(base_url="http://localhost:1/v1", model="m", maximum_instruments=3)


def view(up: float, move: float = 0.05) -> View:
    return View(probability_up=up, expected_move=move, reason="")


def found(opinion: Opinion) -> Forecast:
    made = window()
    return forecast(logic.agent_of(CONFIG), made, Look(window=made, opinion=opinion))


def test_a_view_becomes_a_small_return_and_half_the_confidence() -> None:
    views = {0: view(0.75), 1: view(0.25), 2: view(0.53)}
    said = found(Opinion(asked=frozenset(views), views=views, transcript_sha256="ab" * 32, turns=1))
    assert said.index.tolist() == [0, 1]
    assert said.expected_return is not None
    assert said.expected_return.tolist() == pytest.approx([0.1 * 0.5 * 0.05, -0.1 * 0.5 * 0.05])
    assert said.confidence.tolist() == pytest.approx([0.25, 0.25])
    assert said.evidence["probability_up"].tolist() == [0.75, 0.25]
    assert [f"{int(value):x}" for value in said.evidence["transcript"]] == [("ab" * 32)[:13]] * 2
    assert said.model_version == "m prompt:1"
    silent = {abstention.index: (abstention.reason, abstention.detail) for abstention in said.abstentions}
    assert silent == {
        2: (Reason.NO_SIGNAL, "the model leans neither way"),
        3: (Reason.NO_SIGNAL, "it is asked about 3 instruments at most"),
    }


def test_an_absurd_move_is_cut_at_two_deviations_and_the_volatility_is_the_windows() -> None:
    said = found(Opinion(asked=frozenset({0}), views={0: view(1.0, 1.0)}, transcript_sha256="1", turns=1))
    assert said.expected_return is not None
    assert said.volatility[0] == pytest.approx(window().daily_volatility[0] * np.sqrt(20))
    assert said.expected_return[0] == pytest.approx(0.2 * said.volatility[0])
    assert said.confidence[0] == 0.5


def test_without_an_answer_it_abstains_and_says_why() -> None:
    said = found(Opinion(asked=frozenset({0, 1, 2}), views={}, silence="TIMED_OUT: no answer within 1 s"))
    assert not len(said.index)
    assert [a.reason for a in said.abstentions[:3]] == [Reason.DEPENDENCY_UNAVAILABLE] * 3
    assert said.abstentions[0].detail == "TIMED_OUT: no answer within 1 s"
