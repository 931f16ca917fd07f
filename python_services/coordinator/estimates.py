"""One agent's estimates in columns: what every module of the deliberation works on. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one agent estimated, in columns over the instruments it estimated.

    Returns are simple, volatilities standard deviations, both over `horizon_bars`; confidence is in [0, 1].
    """

    agent_id: str
    version: str
    horizon_bars: int
    instrument_index: Integers
    expected_return: Floats  # empty when the agent does not forecast returns
    volatility: Floats
    confidence: Floats

    @property
    def speaks(self) -> bool:
        """Whether it forecasts returns."""
        return len(self.expected_return) > 0
