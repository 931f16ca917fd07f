"""Combining the agents' forecasts. Pure: no gRPC, no clock.

Method "skill_weighted": every estimate is first brought to one horizon (returns grow with the number of bars, standard
deviations with its square root). For each instrument, with confidence c, voice weight k (skill x effective share),
return r and volatility v of the agents that estimated it,

    return      sum(k c r) / sum(k c)
    volatility  sqrt(sum(k c v^2) / sum(k c))    over all agents that are heard, also those without a return
    confidence  sum(k c) / sum(k) * |sum(k c r)| / sum(k c |r|)

so that agents who contradict each other lower the confidence (1 when they all point one way, 0 when
they cancel out). An instrument without any expected return has no combined forecast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .estimates import Estimate, Floats, Integers

METHOD = "skill_weighted"


@dataclass(frozen=True, kw_only=True)
class Combined:
    """The combined view over the instruments that have one; contribution is instruments x agents."""

    instrument_index: Integers
    expected_return: Floats
    volatility: Floats
    confidence: Floats
    agent_ids: tuple[str, ...]
    contribution: Floats


def combine(
    estimates: Sequence[Estimate],
    instruments: int,
    horizon_bars: int,
    weights: Mapping[str, float],
    unheard: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Combined:
    """Combines `estimates` over `instruments` rows at `horizon_bars`.

    weights: of each agent, 0 for one that is not heard. unheard: rows for which an agent's return does not count.
    contribution[i, a] is agent a's share of the combined return of row i: the shares of a row sum to
    the combined return.
    """
    heard = [estimate for estimate in estimates if weights[estimate.agent_id] > 0]
    voices = [estimate for estimate in heard if estimate.speaks]
    weight = np.zeros((instruments, len(voices)))  # k c
    present = np.zeros((instruments, len(voices)))  # k
    returns = np.zeros((instruments, len(voices)))
    variance = np.zeros(instruments)
    variance_weight = np.zeros(instruments)
    for estimate in heard:
        rows, scale = estimate.instrument_index, horizon_bars / estimate.horizon_bars
        counts = weights[estimate.agent_id] * estimate.confidence
        variance[rows] += counts * estimate.volatility**2 * scale
        variance_weight[rows] += counts
    for column, estimate in enumerate(voices):
        rows, scale = estimate.instrument_index, horizon_bars / estimate.horizon_bars
        own = np.full(len(rows), weights[estimate.agent_id])
        if unheard and estimate.agent_id in unheard:
            own[unheard[estimate.agent_id][rows]] = 0.0
        present[rows, column] = np.where(estimate.confidence > 0, own, 0.0)
        weight[rows, column] = own * estimate.confidence
        returns[rows, column] = estimate.expected_return * scale
    total = weight.sum(axis=1)
    rows = np.flatnonzero((total > 0) & (variance > 0))
    weighted = weight[rows] * returns[rows]
    contribution = weighted / total[rows, None]
    strength = np.abs(weighted).sum(axis=1)
    agreement = np.divide(np.abs(weighted.sum(axis=1)), strength, out=np.zeros(len(rows)), where=strength > 0)
    return Combined(
        instrument_index=rows.astype(np.int64),
        expected_return=contribution.sum(axis=1),
        volatility=np.sqrt(variance[rows] / variance_weight[rows]),
        confidence=np.minimum(total[rows] / present[rows].sum(axis=1) * agreement, 1.0),
        agent_ids=tuple(estimate.agent_id for estimate in voices),
        contribution=contribution,
    )
