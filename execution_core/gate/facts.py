"""What the gate is told: facts about an instrument, the risk policy, the account.

All money in nano units of the account's currency (1e-9), ratios in basis points or parts per million.
``None`` switches a limit off. The constructors refuse what the kernels' arithmetic could not hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from execution_core.errors import InvalidValueError
from execution_core.gate.layout import LOTS_MAX, MONEY_MAX, TIME_MAX
from execution_core.types import OrderType

MARGIN_BPS_MAX = 100_000


def within(name: str, value: int, low: int, high: int) -> int:
    """`value` as an int if low <= value <= high; InvalidValueError otherwise."""
    if not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise InvalidValueError(name, f"{value!r} is not an integer from {low} to {high}", "pass one in that range")
    return int(value)


def limit(name: str, value: int | None, high: int) -> int:
    """A limit in 0..high; None means `high`, which no representable account can reach."""
    return high if value is None else within(name, value, 0, high)


@dataclass(frozen=True, kw_only=True)
class InstrumentFacts:
    """One instrument as the gate sees it.

    tick_value      nano units that one lot gains when the price rises by one tick; at most 2**61 / price
    lots            minimum and maximum of one order
    notional        minimum and maximum of one order, nano units, at its limit price (market types: mark)
    position_limit  worst-case lots, long or short
    sector          index of the sector table
    order_types     accepted types
    fee_ppm, fee_per_lot  the worst-case fee of a fill: share of its value plus nano units per lot
    var_ppm         risk that one unit of new exposure adds at most, e.g. its stand-alone VaR
    margin_*_bps    initial margin where it is more than the policy's
    """

    tick_value: int
    min_lots: int = 1
    max_lots: int | None = None
    min_notional: int = 0
    max_notional: int | None = None
    position_limit: int | None = None
    sector: int = 0
    restricted: bool = False
    shortable: bool = False
    market_open: bool = True
    order_types: Iterable[OrderType] = field(default_factory=lambda: tuple(OrderType))
    fee_ppm: int = 0
    fee_per_lot: int = 0
    var_ppm: int = 0
    margin_long_bps: int = 0
    margin_short_bps: int = 0

    def __post_init__(self) -> None:
        within("tick_value", self.tick_value, 1, MONEY_MAX)
        within("min_lots", self.min_lots, 1, LOTS_MAX)
        limit("max_lots", self.max_lots, LOTS_MAX)
        within("min_notional", self.min_notional, 0, MONEY_MAX)
        limit("max_notional", self.max_notional, MONEY_MAX)
        limit("position_limit", self.position_limit, LOTS_MAX)
        within("sector", self.sector, 0, LOTS_MAX)
        within("fee_ppm", self.fee_ppm, 0, 1_000_000)
        within("fee_per_lot", self.fee_per_lot, 0, MONEY_MAX)
        within("var_ppm", self.var_ppm, 0, 1_000_000)
        within("margin_long_bps", self.margin_long_bps, 0, MARGIN_BPS_MAX)
        within("margin_short_bps", self.margin_short_bps, 0, MARGIN_BPS_MAX)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the risk service allows, as of `ts_ns`. A gate without one denies all but reductions.

    version             1 or more
    max_age_ns          an older policy is RISK_POLICY_STALE: reductions only
    price_max_age_ns    an older price is PRICE_STALE
    stale_price_reductions  the operator's word: reductions may use a stale price
    collar_bps          how far a limit price may be on the wrong side of the mark (or of the
                        trigger), and what a market order's cash is reserved for; at most 10,000
    gross_limit ..      worst-case exposure, see exposure.py; sector_limit and concentration_limit
                        hold for every sector and every instrument
    leverage_limit_bps  worst-case gross over equity, 10,000 = 1x
    daily_loss_limit    a loss since the start of the day that reaches it stops all but reductions
    drawdown_limit      the same, from the peak equity
    var_budget, var_use what may be used, and the use that the risk service measured on the
                        positions which the gate holds at this call
    cash_buffer         cash that must stay free; negative: a credit line
    margin_*_bps        initial margin of worst-case long and short exposure
    fee_per_order       the worst-case fixed fee of an order, nano units
    burst_*, rate_*     at most so many approved orders within any such window (sliding, exact)
    max_open_orders     open reservations
    """

    version: int
    ts_ns: int
    max_age_ns: int
    price_max_age_ns: int
    stale_price_reductions: bool = False
    collar_bps: int = 500
    gross_limit: int | None = None
    net_limit: int | None = None
    sector_limit: int | None = None
    concentration_limit: int | None = None
    leverage_limit_bps: int | None = None
    daily_loss_limit: int | None = None
    drawdown_limit: int | None = None
    var_budget: int | None = None
    var_use: int = 0
    cash_buffer: int = 0
    margin_long_bps: int = 0
    margin_short_bps: int = 0
    fee_per_order: int = 0
    burst_orders: int | None = None
    burst_window_ns: int = 1_000_000_000
    rate_orders: int | None = None
    rate_window_ns: int = 60_000_000_000
    max_open_orders: int | None = None

    def __post_init__(self) -> None:
        within("version", self.version, 1, TIME_MAX)
        for name in ("ts_ns", "max_age_ns", "price_max_age_ns", "burst_window_ns", "rate_window_ns"):
            within(name, getattr(self, name), 0, TIME_MAX)
        within("collar_bps", self.collar_bps, 0, 10_000)
        for name in (
            "gross_limit",
            "net_limit",
            "sector_limit",
            "concentration_limit",
            "daily_loss_limit",
            "drawdown_limit",
            "var_budget",
        ):
            limit(name, getattr(self, name), MONEY_MAX)
        if self.leverage_limit_bps is not None:
            within("leverage_limit_bps", self.leverage_limit_bps, 1, 10_000_000)
        within("var_use", self.var_use, 0, MONEY_MAX)
        within("fee_per_order", self.fee_per_order, 0, MONEY_MAX)
        within("cash_buffer", self.cash_buffer, -MONEY_MAX, MONEY_MAX)
        within("margin_long_bps", self.margin_long_bps, 0, MARGIN_BPS_MAX)
        within("margin_short_bps", self.margin_short_bps, 0, MARGIN_BPS_MAX)
        for name in ("burst_orders", "rate_orders", "max_open_orders"):
            if getattr(self, name) is not None:
                within(name, getattr(self, name), 1, LOTS_MAX)
