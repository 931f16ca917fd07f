"""Test statistics of signals: how clearly something is there that a random walk would not show."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from execution_core.indicators import latest

from .window import Floats

_SQRT2 = math.sqrt(2.0)


def tail(values: Floats, bars: int) -> Floats:
    """The last rows, so that an indicator reads exactly the bars that the agent declares."""
    return values[-bars:]


def mean(x: Floats) -> Floats:
    """Mean of each column."""
    return np.asarray(x.sum(axis=0) * (1.0 / len(x)))


def confidence(statistic: Floats) -> Floats:
    """1 - p of a two-sided test: erf(|t| / sqrt 2), with t standard normal when there is no signal."""
    return np.asarray(special.erf(np.abs(statistic) / _SQRT2))


def weighted_past(weights: Floats) -> float:
    """Standard deviation of sum(w x return) of independent returns with deviation 1."""
    return float(np.sqrt(np.square(weights).sum()))


def average_weights(bars: int, length: int) -> Floats:
    """Weights of the last `length` returns, newest first, in x - mean of the last `bars` values of x."""
    return np.maximum(bars - 1 - np.arange(length), 0.0) / bars


def sample_variance(x: Floats) -> Floats:
    """Variance of each column, with n - 1; for returns, whose mean is small beside their deviation."""
    return variance_of(len(x), *latest.sums(x))


def variance_of(n: int, total: Floats, squares: Floats) -> Floats:
    """`sample_variance` of n values with that sum and that sum of squares."""
    return np.asarray((squares - total * total / n) / max(n - 1, 1))
