"""Estimates for tests of the deliberation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from python_services.coordinator.estimates import Estimate


def voice(
    agent: str,
    returns: Sequence[float],
    confidence: Sequence[float],
    *,
    bars: int = 5,
    rows: Sequence[int] | None = None,
    version: str = "1",
    volatility: float = 0.02,
) -> Estimate:
    """One agent's estimates; without returns it only states volatilities."""
    rows = list(range(len(confidence))) if rows is None else rows
    return Estimate(
        agent_id=agent,
        version=version,
        horizon_bars=bars,
        instrument_index=np.array(rows, np.int64),
        expected_return=np.array(returns, np.float64),
        volatility=np.full(len(rows), volatility),
        confidence=np.array(confidence, np.float64),
    )
