"""From the features of a row to a forecast, and back to reasons where there is none. Pure: no gRPC, no clock.

A classifier says with which probability p the price is higher at the horizon, a regressor with which standard deviation
v it will have moved. For a normal return that moves by v, P(return > 0) = p means an expected return of v times the
normal quantile of p. Confidence is |2p - 1|: 0 for a coin, 1 for a certainty; p is calibrated out of sample, so it is
how often the sign comes true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

HORIZON_BARS = 5
_QUANTILE = NormalDist().inv_cdf


@dataclass(frozen=True, kw_only=True)
class Table:
    """Features of every instrument asked for: rows x columns, NaN where there is no value."""

    names: tuple[str, ...]
    values: Floats

    def complete(self) -> NDArray[np.int64]:
        """Rows that have all values."""
        return np.flatnonzero(np.isfinite(self.values).all(axis=1))

    def missing(self, row: int) -> str:
        """Names of what a row does not have, for a person."""
        return ", ".join(
            name for name, value in zip(self.names, self.values[row].tolist(), strict=True) if value != value
        )


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Columns over `index`, the rows that have an estimate."""

    index: NDArray[np.int64]
    expected_return: Floats
    volatility: Floats
    confidence: Floats
    evidence: Mapping[str, Floats]


def in_order(found: Mapping[str, Floats], names: Sequence[str]) -> Table:
    """Columns in the order that a model was trained with. Raises KeyError with the first that is not there."""
    return Table(names=tuple(names), values=np.column_stack([found[name] for name in names]))


def rows(table: Table, index: NDArray[np.int64]) -> Singles:
    """What the model is given: rows x columns, single precision, C-contiguous."""
    return np.ascontiguousarray(table.values[index], dtype=np.float32)


def forecast(table: Table, index: NDArray[np.int64], up_probability: Singles, volatility: Singles) -> Forecast:
    """What the model says of `index`. Raises ValueError for a probability outside (0, 1), or a volatility of 0."""
    probability, deviation = up_probability.astype(np.float64).ravel(), volatility.astype(np.float64).ravel()
    if not ((probability > 0.0) & (probability < 1.0)).all():
        raise ValueError(
            f"up_probability must be between 0 and 1, it is {probability.min():g} to {probability.max():g}"
        )
    if not (deviation > 0.0).all():
        raise ValueError(f"volatility must be above 0, the smallest is {deviation.min():g}")
    quantiles = np.array([_QUANTILE(value) for value in probability.tolist()])
    evidence = {name: table.values[index, column] for column, name in enumerate(table.names)}
    return Forecast(
        index=index,
        expected_return=deviation * quantiles,
        volatility=deviation,
        confidence=np.abs(2.0 * probability - 1.0),
        evidence={"up_probability": probability, **evidence},
    )
