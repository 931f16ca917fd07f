"""What the model reads: volatility of the last day, week and month from the bars' ranges, as in the HAR model.

Daily variance from the range, ln(high / low)^2 / (4 ln 2), is five times as precise as the squared return (Parkinson
1980); its averages over 1, 5 and 22 days forecast volatility about as well as anything (Corsi 2009).
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import Floats

LENGTHS = (1, 5, 22)
NAMES = tuple(f"log_range_variance_{length}" for length in LENGTHS)
# A day whose highest and lowest price are equal would have a variance of zero, and no logarithm.
_FLOOR = 1e-8


def range_variance(high: Floats, low: Floats) -> Floats:
    """Variance of each bar, bars x instruments."""
    return np.asarray(np.maximum(np.square(np.log(high / low)) / (4.0 * np.log(2.0)), _FLOOR))


def rows(high: Floats, low: Floats) -> Floats:
    """Features now: instruments x LENGTHS, from the last 22 bars."""
    variance = range_variance(high[-max(LENGTHS) :], low[-max(LENGTHS) :])
    return np.log(np.stack([variance[-length:].mean(axis=0) for length in LENGTHS], axis=1))
