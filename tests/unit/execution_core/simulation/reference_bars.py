"""The obvious twin of execution_core.simulation.bars: walk the bar tick by tick in plain Python."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from execution_core.simulation.bars import UNCAPPED
from execution_core.types import (
    NO_PRICE,
    CancelReason,
    Contingency,
    LiquidityFlag,
    OrderFlag,
    OrderState,
    OrderType,
    Side,
    TimeInForce,
    VenueEventKind,
)

MARKETS = {
    OrderType.MARKET,
    OrderType.STOP_MARKET,
    OrderType.MARKET_IF_TOUCHED,
    OrderType.TRAILING_STOP_MARKET,
}
TRAILING = {OrderType.TRAILING_STOP_MARKET, OrderType.TRAILING_STOP_LIMIT}
STOPS = {OrderType.STOP_MARKET, OrderType.STOP_LIMIT} | TRAILING
TOUCHES = {OrderType.MARKET_IF_TOUCHED, OrderType.LIMIT_IF_TOUCHED}

Row = dict[str, int]


def share(amount: int, ppm: int) -> int:
    return -(-abs(amount) * ppm // 1_000_000)


def root_ppm(lots: int, volume: int) -> int:
    if lots >= volume:
        return 1_000_000
    participation_e9 = -(-lots * 10**9 // volume)
    root = math.isqrt(participation_e9 * 1000)
    return root if root * root == participation_e9 * 1000 else root + 1


def steps(start: int, end: int) -> list[int]:
    return list(range(start, end + 1)) if end >= start else list(range(start, end - 1, -1))


@dataclass
class Venue:
    orders: list[Row]
    bars: list[Row]
    models: list[Row]
    session_start: bool
    session_end: bool
    events: list[dict[str, int]] = field(default_factory=list)

    def run(self) -> list[dict[str, int]]:
        self.used = [0] * len(self.bars)
        arrivals = sorted(range(len(self.orders)), key=lambda row: self.orders[row]["arrival_seq"])
        for leg in range(4):
            for row in arrivals:
                if self.orders[row]["leaves"] and self.bar(row)["ts_event_ns"]:
                    self.walk(row, leg)
        for row in arrivals:
            order, now = self.orders[row], self.bar(row)["ts_event_ns"]
            if order["leaves"] and now:
                order["flags"] |= OrderFlag.RESTED
                ends_today = order["tif"] in {TimeInForce.DAY, TimeInForce.IOC, TimeInForce.FOK}
                gone = order["tif"] == TimeInForce.GTD and order["expire_ts_ns"] <= now
                if gone or (ends_today and self.session_end):
                    self.end(row, VenueEventKind.EXPIRED, 3)
        return self.events

    def bar(self, row: int) -> Row:
        return self.bars[self.orders[row]["instrument"]]

    def model(self, row: int) -> Row:
        return self.models[self.orders[row]["instrument"]]

    def walk(self, row: int, leg: int) -> None:
        order, bar = self.orders[row], self.bar(row)
        buys = order["side"] == Side.BUY
        adverse, favourable = (bar["high"], bar["low"]) if buys else (bar["low"], bar["high"])
        path = [
            [bar["open"]],
            steps(bar["open"], adverse),
            steps(adverse, favourable),
            steps(favourable, bar["close"]),
        ][leg]
        if order["tif"] == TimeInForce.GTD and order["expire_ts_ns"] < bar["ts_event_ns"]:
            self.end(row, VenueEventKind.EXPIRED, leg)
            return
        if order["tif"] == TimeInForce.AT_OPEN:
            if leg == 0 and self.session_start:
                self.auction(row, bar["open"], leg)
            return
        if order["tif"] == TimeInForce.AT_CLOSE:
            if leg == 3 and self.session_end:
                self.auction(row, bar["close"], leg)
            return
        if leg == 0 and not self.pending(row):
            self.open_active(row)
        for price in path:
            if order["leaves"] and self.pending(row):
                self.watch(row, price, leg)
            if order["leaves"] and not self.pending(row) and leg == 2 and order["type"] not in MARKETS:
                self.rest(row, price, adverse)

    def pending(self, row: int) -> bool:
        order = self.orders[row]
        return order["type"] in STOPS | TOUCHES and not order["flags"] & OrderFlag.HAS_TRIGGERED

    def open_active(self, row: int) -> None:
        order, opened = self.orders[row], self.bar(row)["open"]
        if order["type"] in MARKETS or not order["flags"] & OrderFlag.RESTED:
            self.arrive(row, opened, 0)
        elif self.beyond(row, opened):
            self.fill(row, opened, LiquidityFlag.MAKER, 0)

    def beyond(self, row: int, price: int) -> bool:
        """Whether trading at `price` has gone far enough through the order's limit."""
        order, through = self.orders[row], self.model(row)["through_ticks"]
        if order["side"] == Side.BUY:
            return price <= order["price"] - through
        return price >= order["price"] + through

    def rest(self, row: int, price: int, adverse: int) -> None:
        order = self.orders[row]
        if self.beyond(row, price):
            best = min if order["side"] == Side.BUY else max
            self.fill(row, best(order["price"], adverse), LiquidityFlag.MAKER, 2)

    def watch(self, row: int, price: int, leg: int) -> None:
        order = self.orders[row]
        buys = order["side"] == Side.BUY
        trail = order["trail"] if buys else -order["trail"]
        if order["type"] in TRAILING and order["trigger"] == NO_PRICE:
            order["trigger"] = price + trail
        up = (order["type"] in STOPS) == buys
        if (price >= order["trigger"]) if up else (price <= order["trigger"]):
            order["flags"] |= OrderFlag.HAS_TRIGGERED
            order["state"] = OrderState.TRIGGERED
            if order["type"] == OrderType.TRAILING_STOP_LIMIT:
                offset = order["limit_offset"]
                order["price"] = order["trigger"] + (offset if buys else -offset)
            self.emit(row, VenueEventKind.TRIGGERED, leg, price, 0)
            self.arrive(row, price, leg)
        elif order["type"] in TRAILING:
            closer = min if buys else max
            order["trigger"] = closer(order["trigger"], price + trail)

    def half(self, row: int, price: int) -> int:
        model = self.model(row)
        return model["half_spread_ticks"] + share(price, model["half_spread_ppm"])

    def arrive(self, row: int, price: int, leg: int) -> None:
        order = self.orders[row]
        half = self.half(row, price)
        if order["type"] not in MARKETS:
            quote = price + half if order["side"] == Side.BUY else price - half
            crosses = quote <= order["price"] if order["side"] == Side.BUY else quote >= order["price"]
            if not crosses:
                if order["tif"] == TimeInForce.IOC:
                    self.end(row, VenueEventKind.CANCELED, leg, CancelReason.IMMEDIATE_REMAINDER)
                if order["tif"] == TimeInForce.FOK:
                    self.end(row, VenueEventKind.CANCELED, leg, CancelReason.FILL_OR_KILL)
                return
            if order["flags"] & OrderFlag.POST_ONLY:
                self.end(row, VenueEventKind.CANCELED, leg, CancelReason.POST_ONLY_WOULD_CROSS)
                return
        self.fill(row, price, LiquidityFlag.TAKER, leg)

    def auction(self, row: int, price: int, leg: int) -> None:
        order = self.orders[row]
        good = price <= order["price"] if order["side"] == Side.BUY else price >= order["price"]
        if order["type"] in MARKETS or good:
            self.fill(row, price, LiquidityFlag.AUCTION, leg)
        if order["leaves"]:
            self.end(row, VenueEventKind.EXPIRED, leg)

    def fill(self, row: int, price: int, liquidity: LiquidityFlag, leg: int) -> None:
        order, bar, model = self.orders[row], self.bar(row), self.model(row)
        i = order["instrument"]
        cap = model["participation_cap_ppm"]
        room = 2**62 if cap == UNCAPPED else bar["volume"] * cap // 1_000_000 - self.used[i]
        lots = min(order["leaves"], room)
        if order["tif"] == TimeInForce.FOK and lots < order["leaves"]:
            self.end(row, VenueEventKind.CANCELED, leg, CancelReason.FILL_OR_KILL)
            return
        if lots:
            self.used[i] += lots
            buys = order["side"] == Side.BUY
            if liquidity != LiquidityFlag.MAKER:
                impact = share(model["impact_ppm"], root_ppm(self.used[i], bar["volume"]))
                slip = self.half(row, price) + share(price, impact)
                bound = model["slippage_bound_ppm"]
                if buys:
                    price = min(price + slip, bar["high"] + share(bar["high"], bound))
                else:
                    price = max(price - slip, bar["low"] - share(bar["low"], bound))
                if order["type"] not in MARKETS:
                    price = min(price, order["price"]) if buys else max(price, order["price"])
            if bar["low"] > 0:
                price = max(price, 1)
            order["leaves"] -= lots
            order["state"] = OrderState.PARTIALLY_FILLED if order["leaves"] else OrderState.FILLED
            self.emit(row, VenueEventKind.FILL, leg, price, lots, liquidity)
            self.tell_group(row, lots, leg)
        if order["leaves"] and order["tif"] == TimeInForce.IOC:
            self.end(row, VenueEventKind.CANCELED, leg, CancelReason.IMMEDIATE_REMAINDER)

    def tell_group(self, row: int, lots: int, leg: int) -> None:
        order = self.orders[row]
        for other_row, other in enumerate(self.orders):
            related = order["group"] != 0 and other["group"] == order["group"] and other_row != row
            if not related or not other["leaves"]:
                continue
            if order["contingency"] == Contingency.ONE_CANCELS_OTHER or other["leaves"] <= lots:
                self.end(other_row, VenueEventKind.CANCELED, leg, CancelReason.CONTINGENT_ORDER_FILLED, row)
            else:
                other["leaves"] -= lots
                self.emit(other_row, VenueEventKind.REDUCED, leg, 0, lots, clock=row)

    def end(self, row: int, kind: VenueEventKind, leg: int, reason: int = 0, clock: int | None = None) -> None:
        order = self.orders[row]
        lots, order["leaves"] = order["leaves"], 0
        order["state"] = OrderState.EXPIRED if kind == VenueEventKind.EXPIRED else OrderState.CANCELED
        self.emit(row, kind, leg, 0, lots, reason=reason, clock=clock)

    def emit(
        self,
        row: int,
        kind: VenueEventKind,
        leg: int,
        price: int,
        lots: int,
        liquidity: int = 0,
        reason: int = 0,
        clock: int | None = None,
    ) -> None:
        order = self.orders[row]
        self.events.append(
            {
                "ts_event_ns": self.bar(row if clock is None else clock)["ts_event_ns"],
                "order_id": order["order_id"],
                "row": row,
                "price": price,
                "lots": lots,
                "leaves": order["leaves"],
                "instrument": order["instrument"],
                "kind": int(kind),
                "side": order["side"],
                "liquidity": int(liquidity),
                "reason": int(reason),
                "leg": leg,
            }
        )


def as_rows(records: np.ndarray[Any, Any]) -> list[Row]:
    names = records.dtype.names or ()
    return [dict(zip(names, map(int, record), strict=True)) for record in records.tolist()]


def match_bars_slowly(
    orders: Any, bars: Any, models: Any, *, session_start: bool, session_end: bool
) -> tuple[list[Row], list[Row]]:
    """The events, and the orders afterwards."""
    venue = Venue(as_rows(orders), as_rows(bars), as_rows(models), session_start, session_end)
    return venue.run(), venue.orders
