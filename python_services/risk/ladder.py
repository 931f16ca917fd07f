"""The trading state that risk wants, and what moves it. Pure; numbers are those of the contract.

An operator moves it anywhere. A breach of the daily loss or of the drawdown moves ACTIVE to REDUCE_ONLY
by itself. The daily loss lifts itself on the next trading day; a drawdown stays until an operator
lifts it, and trips again at once while it is still beyond its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from execution_core.types import TradingState

DAY_NS = 86_400_000_000_000


class Cause(IntEnum):
    """TradingStateRequested.Cause."""

    UNSPECIFIED = 0
    OPERATOR = 1
    DAILY_LOSS = 2
    DRAWDOWN = 3


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The state, why, and the market time of the change."""

    state: int = int(TradingState.ACTIVE)
    cause: Cause = Cause.UNSPECIFIED
    reason: str = ""
    ts_ns: int = 0


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Losses against their limits, basis points."""

    daily_loss_bps: float
    daily_loss_limit_bps: float
    drawdown_bps: float
    drawdown_limit_bps: float

    @property
    def daily_loss_reached(self) -> bool:
        """The day's loss is at or beyond its limit."""
        return self.daily_loss_bps >= self.daily_loss_limit_bps

    @property
    def drawdown_reached(self) -> bool:
        """The fall from the highest equity is at or beyond its limit."""
        return self.drawdown_bps >= self.drawdown_limit_bps


def losses(equity: int, day_start: int, peak: int, daily_loss_limit_bps: int, drawdown_limit_bps: int) -> Losses:
    """Losses of an account; equities in nano units."""
    return Losses(
        daily_loss_bps=max(day_start - equity, 0) * 10_000 / max(day_start, 1),
        daily_loss_limit_bps=float(daily_loss_limit_bps),
        drawdown_bps=max(peak - equity, 0) * 10_000 / max(peak, 1),
        drawdown_limit_bps=float(drawdown_limit_bps),
    )


def step(wanted: Wanted, found: Losses, ts_ns: int) -> Wanted:
    """The state wanted after `found` at `ts_ns`; `wanted` itself when nothing changes."""
    on_its_own = wanted.cause is Cause.DAILY_LOSS and wanted.state == TradingState.REDUCE_ONLY
    if wanted.state != TradingState.ACTIVE and not on_its_own:
        return wanted
    if found.drawdown_reached:
        reason = f"drawdown {found.drawdown_bps:.0f} bps reached its limit {found.drawdown_limit_bps:.0f}"
        return Wanted(state=int(TradingState.REDUCE_ONLY), cause=Cause.DRAWDOWN, reason=reason, ts_ns=ts_ns)
    if found.daily_loss_reached:
        if on_its_own and wanted.ts_ns // DAY_NS == ts_ns // DAY_NS:
            return wanted
        reason = f"daily loss {found.daily_loss_bps:.0f} bps reached its limit {found.daily_loss_limit_bps:.0f}"
        return Wanted(state=int(TradingState.REDUCE_ONLY), cause=Cause.DAILY_LOSS, reason=reason, ts_ns=ts_ns)
    if on_its_own and wanted.ts_ns // DAY_NS < ts_ns // DAY_NS:
        return Wanted(
            state=int(TradingState.ACTIVE), cause=Cause.DAILY_LOSS, reason="a new trading day began", ts_ns=ts_ns
        )
    return wanted
