"""Tone of the news: good news drifts on for some days, and so does bad news.

    w         = credibility of the source x 2^(-days since publication / 3)
    statistic = sum(w x score) / (spread x sqrt(1 + sum(w^2)))
    clear     = |statistic| >= 0.5
    expected  = IC x volatility over the horizon x clip(statistic, +-3)

Scores of texts that say nothing have the deviation `spread`, so without the 1 the statistic of unrelated texts would be
standard normal. The 1 is a text's worth of doubt: one old text, or one of a source that nobody trusts, is not loud for
being alone. Texts that contradict each other cancel out, and take the confidence with them.

Drift after news: Tetlock, Saar-Tsechansky and Macskassy 2008; Heston and Sinha 2017, who find that a day's news carries
for one or two days and a week's for longer, hence the half-life of three. IC: Grinold and Kahn 2000, chapter 10.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import SAMPLE, Agent, Mask, Signal, confidence

from ..logic import SPREAD, View

NOISE_BAND, CAP = 0.5, 3.0
# A prior from that literature, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.03
HORIZON = 5


def compute(view: View, eligible: Mask) -> Signal:
    """See the module."""
    weight = view.weight
    total, tone = view.total(weight), view.total(weight * view.score)
    statistic = tone / (SPREAD * np.sqrt(1.0 + view.total(weight * weight)))
    volatility = view.window.daily_volatility * np.sqrt(HORIZON)
    newest = np.full(view.instruments, np.inf)
    np.minimum.at(newest, view.instrument, view.age_days)
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * np.clip(statistic, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(statistic) * view.trust(weight),
        clear=np.abs(statistic) >= NOISE_BAND,
        unclear="what is written about it is neutral, contradictory, old or not credible",
        evidence={
            "tone": tone / total,
            "tone_statistic": statistic,
            "texts": view.count.astype(np.float64),
            "weight": total,
            "newest_age_days": newest,
            "credibility": view.total(view.credibility) / view.count,
        },
        unable=view.silent(),
        model_version=view.model,
        degraded=view.degraded,
    )


AGENT = Agent(
    agent_id="sentiment.news",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Follows the tone of what was written, by credibility of the source and with time decay.",
    compute=compute,
)
