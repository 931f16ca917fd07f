"""Change of tone: the last five days against the twenty-five before.

    mean      = sum(c x score) / sum(c), c the credibility of the source
    number    = sum(c)^2 / sum(c^2), the effective number of texts
    statistic = (mean of now - mean of before) / (spread x sqrt(1/number of now + 1/number of before))
    clear     = |statistic| >= 1
    expected  = IC x volatility over the horizon x clip(statistic, +-3)

Standard normal when the tone does not change. A company that is always praised is praised in its price already; what
moves it is another tone than usual (Tetlock, Saar-Tsechansky and Macskassy 2008 measure tone against its own past).
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import SAMPLE, Agent, Floats, Mask, Signal, confidence

from ..logic import DAYS, SPREAD, Ints, View

RECENT_DAYS = 5.0
FEWEST = 2  # texts on each side
NOISE_BAND, CAP = 1.0, 3.0
# A prior, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.02
HORIZON = 10


def compute(view: View, eligible: Mask) -> Signal:
    """See the module."""
    recent = view.age_days < RECENT_DAYS
    now, now_number, now_count = _mean(view, recent)
    before, before_number, before_count = _mean(view, ~recent)
    change = now - before
    statistic = change / (SPREAD * np.sqrt(1.0 / now_number + 1.0 / before_number))
    volatility = view.window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * np.clip(statistic, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(statistic) * view.trust(view.credibility),
        clear=np.abs(statistic) >= NOISE_BAND,
        unclear="the tone of what is written about it is as it was",
        evidence={"tone_change": change, "tone_change_statistic": statistic, "tone_recent": now, "tone_before": before},
        unable=view.without((now_count < FEWEST) | (before_count < FEWEST), _few, now_count, before_count),
        model_version=view.model,
        degraded=view.degraded,
    )


def _few(now: int, before: int) -> str:
    return (
        f"{now} texts about it in the last {RECENT_DAYS:.0f} days and {before} in the {DAYS - RECENT_DAYS:.0f} before; "
        f"{FEWEST} of each are needed"
    )


def _mean(view: View, rows: Mask) -> tuple[Floats, Floats, Ints]:
    """(mean score, effective number, number) of texts by instrument."""
    trusted = view.credibility
    total = view.total(trusted, rows)
    mean = view.total(trusted * view.score, rows) / total
    return (
        mean,
        total * total / view.total(trusted * trusted, rows),
        np.bincount(view.instrument[rows], minlength=view.instruments),
    )


AGENT = Agent(
    agent_id="sentiment.trend",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Follows a change of tone against the weeks before.",
    compute=compute,
)
