"""The obvious twin of execution_core.simulation.l2: dictionaries, lists and one event at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from execution_core.simulation.l2 import L2Model, QueueModel
from execution_core.types import FeedKind, LiquidityFlag, OrderState, OrderType, Side, TimeInForce

Row = dict[str, int]
Levels = dict[int, int]
OTHER = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}
CLOSED = {OrderState.FILLED, OrderState.CANCELED}


class Book:
    """Both sides; where they cross, the newer update wins."""

    def __init__(self) -> None:
        self.levels: dict[Side, Levels] = {Side.BUY: {}, Side.SELL: {}}
        self.best: dict[Side, int | None] = {Side.BUY: None, Side.SELL: None}

    def behind(self, side: Side, tick: int) -> int | None:
        """The best level of `side` strictly worse than `tick`."""
        if side == Side.BUY:
            return max((t for t in self.levels[side] if t < tick), default=None)
        return min((t for t in self.levels[side] if t > tick), default=None)

    def set(self, side: Side, tick: int, lots: int) -> None:
        self.levels[side].pop(tick, None)
        best, other = self.best[side], self.best[OTHER[side]]
        if lots == 0:
            if tick == best:
                self.best[side] = self.behind(side, tick)
            return
        self.levels[side][tick] = lots
        if best is None or better(side, tick, best):
            self.best[side] = tick
            if other is not None and (tick == other or better(side, tick, other)):
                self.best[OTHER[side]] = self.behind(OTHER[side], tick)

    def quote(self, side: Side, tick: int, including: bool) -> list[int]:
        """The levels that a quote (or clear) at `tick` declares gone, best first."""
        best = self.best[side]
        gone = [
            t
            for t in self.levels[side]
            if best is not None and not better(side, t, best) and (better(side, t, tick) or (including and t == tick))
        ]
        return sorted(gone, reverse=side == Side.BUY)


def better(side: Side, a: int, b: int) -> bool:
    return a > b if side == Side.BUY else a < b


@dataclass
class Order:
    number: int
    side: Side
    kind: OrderType
    tif: TimeInForce
    tick: int
    leaves: int
    post_only: bool
    state: OrderState = OrderState.SUBMITTED
    front: float = 0.0
    traded: float = 0.0


@dataclass
class Twin:
    """Venue side of the simulation. Feed and requests in; fills out."""

    model: L2Model
    low: int
    high: int
    response_ns: int
    book: Book = field(default_factory=Book)
    taken: dict[Side, Levels] = field(default_factory=lambda: {Side.BUY: {}, Side.SELL: {}})
    orders: list[Order] = field(default_factory=list)
    live: list[Order] = field(default_factory=list)
    fills: list[tuple[int, ...]] = field(default_factory=list)
    heard: int = 0

    def event(self, ts: int, row: Row) -> None:
        side, tick, lots = Side(row["side"]), row["price"], row["lots"]
        if row["kind"] == FeedKind.TRADE:
            self.trade(ts, OTHER[side], tick, lots)
            return
        if row["kind"] in (FeedKind.QUOTE, FeedKind.CLEAR):
            quote = row["kind"] == FeedKind.QUOTE
            for gone in self.book.quote(side, tick, including=not quote):
                self.level(side, gone, 0, tells=quote)
        if row["kind"] != FeedKind.CLEAR:
            if not self.low <= tick <= self.high:
                if row["kind"] == FeedKind.DEPTH:
                    return
            else:
                self.level(side, tick, lots, tells=True)
        best = self.book.best[side]
        if best is not None:
            self.crossed(ts, OTHER[side], best)

    def level(self, side: Side, tick: int, lots: int, *, tells: bool) -> None:
        previous = self.book.levels[side].get(tick, 0)
        self.book.set(side, tick, lots)
        if not tells:
            return
        if tick in self.taken[side]:
            self.taken[side][tick] = min(self.taken[side][tick], lots)
        for order in self.live:
            if order.side == side and order.tick == tick:
                self.move_up(order, previous, lots)

    def move_up(self, order: Order, previous: int, lots: int) -> None:
        change = previous - lots - order.traded
        if self.model.queue == QueueModel.RISK_AVERSE or change < 0:
            if self.model.queue != QueueModel.RISK_AVERSE:
                order.traded = 0.0
            order.front = min(order.front, float(lots))
            return
        order.traded = 0.0
        back = previous - order.front
        behind = self.probability(order.front, back)
        guess = order.front - (1.0 - behind) * change + min(back - behind * change, 0.0)
        order.front = min(guess, float(lots))

    def probability(self, front: float, back: float) -> float:
        def f(x: float) -> float:
            if self.model.queue in (QueueModel.LOG, QueueModel.LOG_OF_TOTAL):
                return math.log(1.0 + x * self.model.lot_size)
            return float(x**self.model.power)

        try:
            if self.model.queue == QueueModel.POWER_OF_SHARE:
                value = 1.0 - f(front / (front + back))
            elif self.model.queue in (QueueModel.POWER_OF_TOTAL, QueueModel.LOG_OF_TOTAL):
                value = f(back) / f(back + front)
            else:
                value = f(back) / (f(back) + f(front))
        except (ZeroDivisionError, ValueError, OverflowError):
            return 1.0
        return value if math.isfinite(value) else 1.0

    def own(self, side: Side, limit: int) -> list[Order]:
        """Live orders of `side` at `limit` or more aggressive, by price, then arrival."""
        found = [o for o in self.live if o.side == side and (o.tick == limit or better(side, o.tick, limit))]
        return sorted(found, key=lambda o: -o.tick if side == Side.BUY else o.tick)

    def trade(self, ts: int, side: Side, tick: int, lots: int) -> None:
        ours = 0
        for order in self.own(side, tick):
            past_the_queue = lots
            if order.tick == tick:
                order.front -= lots
                order.traded += lots
                past_the_queue = math.floor(0.5 - order.front)
                if past_the_queue <= 0:
                    continue
                order.front = 0.0
            size = order.leaves
            if self.model.partial_fills:
                size = max(min(size, past_the_queue - ours), 0)
                ours += size
            self.fill(ts, order, size, order.tick, LiquidityFlag.MAKER)

    def crossed(self, ts: int, side: Side, best: int) -> None:
        for order in self.own(side, best):
            if self.model.partial_fills:
                self.take(ts, order, order.tick, best, LiquidityFlag.MAKER)
            else:
                self.fill(ts, order, order.leaves, order.tick, LiquidityFlag.MAKER)

    def available(self, side: Side, best: int, limit: int) -> list[tuple[int, int]]:
        """Untaken lots against an order of `side`, from the other side's best to `limit`."""
        other = OTHER[side]
        reached = [
            t for t in self.book.levels[other] if not better(other, t, best) and (t == limit or better(other, t, limit))
        ]
        rest = [(t, self.book.levels[other][t] - self.taken[other].get(t, 0)) for t in reached]
        return sorted((r for r in rest if r[1] > 0), reverse=side == Side.SELL)

    def take(self, ts: int, order: Order, limit: int, best: int, liquidity: LiquidityFlag) -> None:
        for tick, lots in self.available(order.side, best, limit):
            size = min(lots, order.leaves)
            if size == 0:
                return
            taken = self.taken[OTHER[order.side]]
            taken[tick] = taken.get(tick, 0) + size
            self.fill(ts, order, size, order.tick if liquidity == LiquidityFlag.MAKER else tick, liquidity)

    def fill(self, ts: int, order: Order, lots: int, tick: int, liquidity: LiquidityFlag) -> None:
        if lots == 0:
            return
        order.leaves -= lots
        order.state = OrderState.PARTIALLY_FILLED if order.leaves else OrderState.FILLED
        self.heard = max(self.heard, ts + self.response_ns)
        self.fills.append((ts, self.heard, order.number, tick, lots, order.leaves, order.side, liquidity))
        if not order.leaves and order in self.live:
            self.live.remove(order)

    def accept(self, ts: int, order: Order) -> None:
        best = self.book.best[OTHER[order.side]]
        market = order.kind == OrderType.MARKET
        limit = (self.high if order.side == Side.BUY else self.low) if market else order.tick
        crosses = best is not None and (limit == best or better(order.side, limit, best))
        order.state = OrderState.ACCEPTED
        rests = not market and order.tif not in (TimeInForce.IOC, TimeInForce.FOK)
        if crosses and best is not None:
            if order.post_only:
                rests = False
            elif not self.model.partial_fills:
                self.fill(ts, order, order.leaves, best, LiquidityFlag.TAKER)
                return
            else:
                enough = sum(lots for _, lots in self.available(order.side, best, limit)) >= order.leaves
                if order.tif != TimeInForce.FOK or enough:
                    self.take(ts, order, limit, best, LiquidityFlag.TAKER)
                if not order.leaves:
                    return
        if rests:
            order.front = float(self.book.levels[order.side].get(order.tick, 0))
            self.live.append(order)
        else:
            order.state, order.leaves = OrderState.CANCELED, 0

    def cancel(self, order: Order) -> None:
        if order in self.live:
            self.live.remove(order)
            order.state, order.leaves = OrderState.CANCELED, 0


Action = tuple[int, str, Any]


def simulate_slowly(
    feed: Any, model: L2Model, entry_ns: int, response_ns: int, actions: list[Action], window: tuple[int, int]
) -> Twin:
    """Run the venue over the feed with `actions` (local time, "submit" or "cancel", arguments)."""
    twin = Twin(model, window[0], window[1], response_ns)
    names = feed.dtype.names
    rows = [dict(zip(names, map(int, record), strict=True)) for record in feed.tolist()]
    agenda: list[tuple[int, int, int, str, Any]] = [
        (row["ts_event_ns"], 0, k, "feed", row) for k, row in enumerate(rows)
    ]
    agenda += [(ts + entry_ns, 1, k, verb, what) for k, (ts, verb, what) in enumerate(actions)]
    for ts, _, _, verb, what in sorted(agenda, key=lambda item: item[:3]):
        if verb == "feed":
            twin.event(ts, what)
        elif verb == "submit":
            order = Order(len(twin.orders), *what)
            twin.orders.append(order)
            twin.accept(ts, order)
        else:
            twin.cancel(twin.orders[what])
    return twin
