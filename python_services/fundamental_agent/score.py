"""From a statistic to a signal, the same way for all agents here.

    expected return = IC x volatility over the horizon x clip(z, +-2)      Grinold and Kahn 2000, chapter 10
    confidence      = 1 - p of a two-sided test that z is no more than chance

**Peers.** A ratio says something next to those of others. z is how far a company lies outside the others in the
snapshot: with mean m and deviation s of the n - 1 others,

    t = (x - m) / (s sqrt(1 + 1 / (n - 1)))      Student's t with n - 2 degrees of freedom, were it one of them

and z is the normal deviate with the same p. So the same gap counts for less among three companies than among five
hundred, and nobody is measured by a deviation that he has made himself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtr

from python_services.kit.agents import Floats, Mask, Reason, Signal, confidence

from .view import Fundamentals, Unable

# Statements move slowly: a quarter of a year ahead, within which the next one comes.
HORIZON = 60
MINIMUM_BARS = 61
NOISE_BAND, CAP = 1.0, 2.0
FEWEST = 3
# Ratios further out say that something is odd with a filing rather than how good a company is.
BOUND = 3.0
_SMALLEST_P = 1e-300


def signal(
    view: Fundamentals, ic: float, z: Floats, unable: Unable, unclear: str, evidence: Mapping[str, Floats]
) -> Signal:
    """The signal of a statistic that is standard normal when there is nothing to say."""
    volatility = view.window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=ic * volatility * np.clip(z, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(z),
        clear=np.abs(z) >= NOISE_BAND,
        unclear=unclear,
        evidence={**evidence, "balance_sheet_age_days": view.accounts.age_days(view.window.as_of_ns)},
        unable=unable,
    )


def composite(ratios: Sequence[Floats], usable: Mask) -> Floats:
    """The mean of ratios, each in deviations from its mean over the usable companies; NaN for the others."""
    bounded = np.compress(usable, np.clip(ratios, -BOUND, BOUND), axis=1)
    found = np.full(len(usable), np.nan)
    count = bounded.shape[1]
    if count:
        gap = bounded - bounded.sum(axis=1, keepdims=True) / count
        spread = np.sqrt(np.square(gap).sum(axis=1, keepdims=True) / count)
        found[usable] = np.divide(gap, spread, out=np.zeros_like(gap), where=spread > 0.0).mean(axis=0)
    return found


def against_peers(values: Floats, usable: Mask, unable: Unable) -> Floats:
    """z of each usable company, see the module. With fewer than three it is NaN, and `unable` says so."""
    z = np.full(len(values), np.nan)
    count = int(usable.sum())
    if count < FEWEST:
        for i in np.flatnonzero(usable).tolist():
            unable[i] = Reason.MISSING_DATA, f"{count - 1} other companies to compare with, {FEWEST - 1} are needed"
        return z
    z[usable] = np.frombuffer(_deviates(values[usable].tobytes()))
    return z


@lru_cache(maxsize=16)
def _deviates(content: bytes) -> bytes:
    """z of each of some companies, doubles; kept, because most ratios stay the same until somebody files."""
    values = np.frombuffer(content)
    count = len(values)
    gap = values - values.mean()
    # Of the others: their mean is off by gap x n / (n - 1), and their squares lack this company's.
    gap_to_others = gap * count / (count - 1)
    squares = np.square(gap).sum() - np.square(gap) * count / (count - 1)
    deviation = np.sqrt(np.maximum(squares, 0.0) / (count - 2) * count / (count - 1))
    t = np.divide(gap_to_others, deviation, out=np.zeros(count), where=deviation > 0.0)
    p = np.maximum(stdtr(count - 2, -np.abs(t)), _SMALLEST_P)
    return np.asarray(np.sign(t) * -ndtri(p)).tobytes()
