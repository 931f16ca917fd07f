"""How a parent order is worked: schedules of the core, with what they need taken from a snapshot. Pure.

A schedule is made once, when the parent is first worked, and recorded; what is due follows from it, the
clock and the children so far. POV has no schedule: it follows the market's volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from execution_core.algorithms.almgren_chriss import ImpactModel
from execution_core.algorithms.schedule import (
    due_lots,
    implementation_shortfall,
    pov_due_lots,
    slice_starts,
    twap,
    vwap,
)
from execution_core.types import SCHEDULE_SLICE

# Numbers of alphamesh.execution.v1.ExecutionAlgorithm.Kind; a contract test holds them.
TWAP: Final = 1
VWAP: Final = 2
POV: Final = 3
IMPLEMENTATION_SHORTFALL: Final = 4

DAY_NS: Final = 86_400_000_000_000
DEFAULT_SLICES: Final = 5
_MILLION: Final = 1_000_000
_BPS_TO_PPM: Final = 100


@dataclass(frozen=True, kw_only=True)
class Parent:
    """What the parent asks for, in lots."""

    kind: int
    lots: int
    start_ns: int
    end_ns: int
    slices: int
    participation_bps: int
    risk_aversion: float


@dataclass(frozen=True, kw_only=True)
class Market:
    """One instrument's bars in a snapshot: closes (adjusted), volumes in lots, times of the closes."""

    ts_ns: NDArray[np.int64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    mark: float
    lot_value: float

    def volume_since(self, start_ns: int) -> int:
        """Lots traded in bars that closed after `start_ns`."""
        return int(np.nansum(self.volume[self.ts_ns > start_ns]))


def schedule(parent: Parent, market: Market, impact_ppm: int, spread_ppm: int) -> list[tuple[int, int]]:
    """(start, lots) of each slice; empty for POV. The lots sum to the parent's.

    VWAP weighs each slice with the mean volume of its weekday in the snapshot. IMPLEMENTATION_SHORTFALL
    takes the volatility of the snapshot's daily returns and a linear temporary impact that costs
    `impact_ppm` of the price at one mean day's volume per day. Raises CoreError for a parent that no
    schedule fits.
    """
    slices = parent.slices or DEFAULT_SLICES
    if parent.kind == POV:
        return []
    if parent.kind == TWAP:
        plan = twap(parent.lots, parent.start_ns, parent.end_ns, slices)
    elif parent.kind == VWAP:
        starts = slice_starts(parent.start_ns, parent.end_ns, slices)
        plan = vwap(parent.lots, parent.start_ns, parent.end_ns, _weekday_volumes(starts, market))
    else:
        plan = implementation_shortfall(
            parent.lots,
            parent.start_ns,
            parent.end_ns,
            slices,
            _impact(market, impact_ppm, spread_ppm),
            shares_per_lot=market.lot_value,
            horizon=(parent.end_ns - parent.start_ns) / DAY_NS,
            risk_aversion=parent.risk_aversion,
        )
    return [(int(row["start_ns"]), int(row["lots"])) for row in plan]


def due(parent: Parent, plan: Sequence[tuple[int, int]], now_ns: int, committed: int, market: Market) -> int:
    """Lots to send now, after `committed` lots that are filled or working."""
    if now_ns < parent.start_ns or now_ns >= parent.end_ns:
        return 0
    if parent.kind == POV:
        traded = market.volume_since(parent.start_ns)
        return pov_due_lots(parent.lots, committed, traded, parent.participation_bps * _BPS_TO_PPM)
    return due_lots(np.array(list(plan), SCHEDULE_SLICE), now_ns, committed)


def _weekday_volumes(starts: NDArray[np.int64], market: Market) -> NDArray[np.int64]:
    days = np.array([_weekday(ts) for ts in market.ts_ns.tolist()])
    everywhere = float(np.nanmean(market.volume))
    weights = []
    for start in starts.tolist():
        same_day = market.volume[(days == _weekday(start)) & np.isfinite(market.volume)]
        weights.append(float(same_day.mean()) if same_day.size else everywhere)
    return np.maximum(np.rint(weights), 1).astype(np.int64)


def _weekday(ts_ns: int) -> int:
    return datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC).weekday()


def _impact(market: Market, impact_ppm: int, spread_ppm: int) -> ImpactModel:
    closes = market.close[np.isfinite(market.close)]
    returns = closes[1:] / closes[:-1] - 1.0
    daily_volume = float(np.nanmean(market.volume)) * market.lot_value
    return ImpactModel(
        volatility=float(returns.std(ddof=1)) * market.mark,
        permanent=0.0,
        temporary=market.mark * impact_ppm / _MILLION / daily_volume,
        half_spread=market.mark * spread_ppm / _MILLION,
    )
