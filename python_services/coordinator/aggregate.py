"""Combining the agents' forecasts. Pure: no gRPC, no clock.

Method "confidence_weighted": every estimate is first brought to one horizon (returns grow with the
number of bars, standard deviations with its square root). For each instrument, with confidence c,
return r and volatility v of the agents that estimated it,

    return      sum(c r) / sum(c)
    volatility  sqrt(sum(c v^2) / sum(c))        over all agents, also those without a return
    confidence  mean(c) * |sum(c r)| / sum(c |r|)

so that agents who contradict each other lower the confidence (1 when they all point one way, 0 when
they cancel out). An instrument without any expected return has no combined forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

METHOD = "confidence_weighted"

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One agent's estimates, in columns over the instruments it estimated."""

    agent_id: str
    horizon_bars: int
    instrument_index: Integers
    expected_return: Floats  # empty when the agent does not forecast returns
    volatility: Floats
    confidence: Floats


@dataclass(frozen=True, kw_only=True)
class Combined:
    """The combined view over the instruments that have one; contribution is instruments x agents."""

    instrument_index: Integers
    expected_return: Floats
    volatility: Floats
    confidence: Floats
    agent_ids: tuple[str, ...]
    contribution: Floats


def combine(estimates: Sequence[Estimate], instruments: int, horizon_bars: int) -> Combined:
    """Combines `estimates` over `instruments` rows at `horizon_bars`.

    contribution[i, a] is agent a's share of the combined return of row i: the shares of a row sum to
    the combined return.
    """
    voices = [estimate for estimate in estimates if len(estimate.expected_return)]
    weight = np.zeros((instruments, len(voices)))
    returns = np.zeros((instruments, len(voices)))
    variance = np.zeros(instruments)
    variance_weight = np.zeros(instruments)
    for estimate in estimates:
        rows, scale = estimate.instrument_index, horizon_bars / estimate.horizon_bars
        variance[rows] += estimate.confidence * estimate.volatility**2 * scale
        variance_weight[rows] += estimate.confidence
    for column, estimate in enumerate(voices):
        rows, scale = estimate.instrument_index, horizon_bars / estimate.horizon_bars
        weight[rows, column] = estimate.confidence
        returns[rows, column] = estimate.expected_return * scale
    total = weight.sum(axis=1)
    rows = np.flatnonzero((total > 0) & (variance > 0))
    weighted = weight[rows] * returns[rows]
    contribution = weighted / total[rows, None]
    combined = contribution.sum(axis=1)
    strength = np.abs(weighted).sum(axis=1)
    agreement = np.divide(np.abs(weighted.sum(axis=1)), strength, out=np.zeros(len(rows)), where=strength > 0)
    voices_per_row = (weight[rows] > 0).sum(axis=1)
    return Combined(
        instrument_index=rows.astype(np.int64),
        expected_return=combined,
        volatility=np.sqrt(variance[rows] / variance_weight[rows]),
        confidence=np.minimum(total[rows] / voices_per_row * agreement, 1.0),
        agent_ids=tuple(estimate.agent_id for estimate in voices),
        contribution=contribution,
    )
