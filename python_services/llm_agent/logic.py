"""From a language model's views to a forecast. Pure.

    lean       = 2 x probability_up - 1
    expected   = EDGE x lean x min(expected_move, 2 x volatility over the horizon)
    volatility = RiskMetrics volatility x sqrt(horizon): the window's, not the model's
    confidence = RELIABILITY x |lean|
    clear      = |lean| >= 0.1

A stated probability is not a calibrated one: language models are overconfident (Xiong et al. 2024; Tian et al. 2023),
and their forecasts of events have been worse than those of people who bet (Halawi et al. 2024). EDGE says that a tenth
of the stated lean is believed, which puts a lean of one half about where an information coefficient of 0.05 puts a good
score; RELIABILITY halves the confidence. Both are priors until the coordinator has measured a track record.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from python_services.kit.agents import Agent, Mask, Reason, Signal, Window

from .analyst import MINIMUM_BARS, Opinion
from .config import Config
from .prompts import HORIZON_BARS, VERSION

EDGE, RELIABILITY = 0.1, 0.5
LEAST_LEAN, LARGEST_MOVE = 0.1, 2.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the agent sees: the bars, and the model's opinion."""

    window: Window
    opinion: Opinion


def agent_of(config: Config) -> Agent[Look]:
    """The one agent of the cluster."""
    how = f"A bull and a bear argue {config.debate_rounds} times, a judge concludes" if config.debate_rounds else "Asks"
    model_version = f"{config.model} prompt:{VERSION}"

    def compute(look: Look, eligible: Mask) -> Signal:
        return signal(look, eligible, model_version, config.maximum_instruments)

    return Agent(
        agent_id=config.agent_id,
        version="1.0.0",
        minimum_bars=MINIMUM_BARS,
        horizon_bars=HORIZON_BARS,
        description=f"{how}, about numbers of the snapshot: a language model.",
        compute=compute,
    )


def signal(look: Look, eligible: Mask, model_version: str, most: int) -> Signal:
    """See the module."""
    opinion, size = look.opinion, len(eligible)
    probability, move = np.full(size, 0.5), np.zeros(size)
    for row, view in opinion.views.items():
        probability[row], move[row] = view.probability_up, view.expected_move
    volatility = look.window.daily_volatility * np.sqrt(HORIZON_BARS)
    lean = 2.0 * probability - 1.0
    silent = (Reason.DEPENDENCY_UNAVAILABLE, opinion.silence)
    beyond = (Reason.NO_SIGNAL, f"it is asked about {most} instruments at most")
    unable = dict.fromkeys(opinion.asked if opinion.silence else (), silent)
    left_out = [row for row in np.flatnonzero(eligible & (volatility > 0.0)).tolist() if row not in opinion.asked]
    # The transcript's hash, as far as a double holds it: finds the text in the log and in the cassette.
    transcript = float(int(opinion.transcript_sha256[:13] or "0", 16))
    return Signal(
        expected_return=EDGE * lean * np.minimum(move, LARGEST_MOVE * volatility),
        volatility=volatility,
        confidence=RELIABILITY * np.abs(lean),
        clear=np.abs(lean) >= LEAST_LEAN,
        unclear="the model leans neither way",
        evidence={
            "probability_up": probability,
            "expected_move": move,
            "turns": np.full(size, float(opinion.turns)),
            "transcript": np.full(size, transcript),
        },
        unable=unable | dict.fromkeys(left_out, beyond),
        model_version=model_version,
    )
