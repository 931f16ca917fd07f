"""Disagreement: where texts contradict each other, more will happen than the bars alone say.

    dispersion = weighted standard deviation of the scores, w = credibility x 2^(-days since publication / 3)
    volatility = volatility of the bars over the horizon x (1 + 0.25 x dispersion)
    number     = sum(w)^2 / sum(w^2), the effective number of texts
    confidence = number / (number + 10)

No expected return. Disagreement among messages goes with, and comes before, volatility (Antweiler and Frank 2004). The
gain of a quarter and the ten texts are priors: small, because the effect is.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import SAMPLE, Agent, Mask, Signal

from ..logic import View

FEWEST = 3
GAIN, PRIOR_TEXTS = 0.25, 10.0
HORIZON = 5


def compute(view: View, eligible: Mask) -> Signal:
    """See the module."""
    weight = view.weight
    total = view.total(weight)
    tone = view.total(weight * view.score) / total
    apart = view.score - tone[view.instrument]
    dispersion = np.sqrt(view.total(weight * apart * apart) / total)
    number = total * total / view.total(weight * weight)
    base = view.window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=None,
        volatility=base * (1.0 + GAIN * dispersion),
        confidence=number / (number + PRIOR_TEXTS) * view.trust(weight),
        clear=np.ones(view.instruments, dtype=np.bool_),
        unclear="",
        evidence={"dispersion": dispersion, "effective_texts": number, "bar_volatility": base},
        unable=view.without(view.count < FEWEST, _few, view.count),
        model_version=view.model,
        degraded=view.degraded,
    )


def _few(count: int) -> str:
    return f"{count} texts about it; {FEWEST} are needed"


AGENT = Agent(
    agent_id="sentiment.dispersion",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Raises the volatility where texts contradict each other.",
    compute=compute,
)
