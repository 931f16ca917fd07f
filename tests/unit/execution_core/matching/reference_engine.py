"""The matching engine again, slowly: plain lists, sorted when needed, one rule after the other.

It shares nothing with the kernels but the enumerations. Orders are known by the sequence number of
their acceptance instead of by slots; prices that are not there are None. Every trade is looked at on
its own for triggers, and an auction tries every price.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from execution_core.types import (
    CommandKind,
    LiquidityFlag,
    MatchEventKind,
    MatchReason,
    OrderType,
    SelfTradePrevention,
    SessionPhase,
    Side,
    TimeInForce,
)

LEVELS = 262_144
ACCOUNTS = 4096
CAPACITY = 16_383
MAX_ICEBERGS = 1024
MAX_QUANTITY = 2**40
POST_ONLY, REDUCE_ONLY = 1, 2

Kind, Why, Type, Tif, Phase = MatchEventKind, MatchReason, OrderType, TimeInForce, SessionPhase

HAS_LIMIT = {Type.LIMIT, Type.ICEBERG, Type.STOP_LIMIT, Type.LIMIT_IF_TOUCHED}
TRAILING = {Type.TRAILING_STOP_MARKET, Type.TRAILING_STOP_LIMIT}
TOUCHED = {Type.MARKET_IF_TOUCHED, Type.LIMIT_IF_TOUCHED}
CONDITIONAL = {Type.STOP_MARKET, Type.STOP_LIMIT} | TRAILING | TOUCHED
CALLS = {Phase.OPENING_AUCTION, Phase.CLOSING_AUCTION, Phase.INTRADAY_AUCTION}
PASSING = {Tif.IOC, Tif.FOK}


class Event(NamedTuple):
    kind: int
    reason: int
    liquidity: int
    side: int
    account: int
    order: int  # sequence number; 0 where there is none
    client_tag: int
    price: int | None
    quantity: int
    leaves: int
    trade_id: int
    ts_event_ns: int


@dataclass
class Command:
    kind: int
    side: int = 0
    order_type: int = 0
    time_in_force: int = 0
    flags: int = 0
    self_trade: int = 0
    phase: int = 0
    account: int = 0
    order: int = 0
    client_tag: int = 0
    price: int | None = None
    quantity: int = 0
    ts_event_ns: int = 0
    stop_price: int | None = None
    display_quantity: int = 0
    trailing_offset: int = 0
    limit_offset: int = 0
    expire_time_ns: int = 0


@dataclass(eq=False)
class Order:
    sequence: int
    terms: Command
    type: int
    quantity: int
    shown: int
    hidden: int
    price: int | None
    stop: int | None = None
    place: int = 0  # who waits at the same price is served in order of place

    @property
    def leaves(self) -> int:
        return self.shown + self.hidden

    @property
    def side(self) -> int:
        return self.terms.side

    @property
    def account(self) -> int:
        return self.terms.account

    @property
    def tif(self) -> int:
        return self.terms.time_in_force

    @property
    def reduce_only(self) -> bool:
        return bool(self.terms.flags & REDUCE_ONLY)

    @property
    def fires_when_rising(self) -> bool:
        return (self.side == Side.BUY) != (self.type in TOUCHED)


def allowed_times(order_type: int) -> set[int]:
    if order_type == Type.MARKET:
        return {Tif.DAY, Tif.GTC, Tif.IOC, Tif.FOK, Tif.AT_OPEN, Tif.AT_CLOSE}
    if order_type == Type.LIMIT:
        return set(Tif)
    if order_type == Type.ICEBERG:
        return {Tif.DAY, Tif.GTC, Tif.GTD}
    return {Tif.DAY, Tif.GTC, Tif.GTD, Tif.IOC, Tif.FOK}


class ReferenceEngine:
    def __init__(
        self, base: int = 0, phase: SessionPhase = SessionPhase.CONTINUOUS, reference: int | None = None
    ) -> None:
        self.base, self.lower, self.upper = base, base, base + LEVELS - 1
        self.phase: int = phase
        self.last: int | None = None
        self.reference = reference
        self.now = self.sequence = self.trades = self.places = 0
        self.positions = dict.fromkeys(range(ACCOUNTS), 0)
        self.resting: list[Order] = []
        self.waiting: list[Order] = []
        self.held: list[Order] = []
        self.fired: list[Order] = []
        self.events: list[Event] = []

    # --- small things ---

    @property
    def top(self) -> int:
        return self.base + LEVELS - 1

    @property
    def live(self) -> list[Order]:
        return sorted(self.resting + self.waiting + self.held, key=lambda order: order.sequence)

    def queue(self, side: int) -> list[Order]:
        """One side in order of priority: market orders first, then the best price, then the first come."""
        sign = -1 if side == Side.BUY else 1
        return sorted(
            (order for order in self.resting if order.side == side),
            key=lambda order: (order.price is not None, sign * (order.price or 0), order.place),
        )

    def on_ladder(self, price: int | None) -> bool:
        return price is not None and self.base <= price <= self.top

    def outside_band(self, side: int, price: int) -> bool:
        return price > self.upper if side == Side.BUY else price < self.lower

    def reducible(self, account: int, side: int) -> int:
        position = self.positions[account]
        return max(0, -position) if side == Side.BUY else max(0, position)

    def crossing(self, side: int, limit: int | None) -> list[Order]:
        """The resting orders of the other side that an order with this limit may trade with, best first."""
        others = [(order, order.price) for order in self.queue(3 - side) if order.price is not None]
        if side == Side.BUY:
            highest = self.upper if limit is None else min(self.upper, limit)
            return [order for order, price in others if price <= highest]
        lowest = self.lower if limit is None else max(self.lower, limit)
        return [order for order, price in others if price >= lowest]

    def enqueue(self, orders: list[Order], order: Order) -> None:
        self.places += 1
        order.place = self.places
        orders.append(order)

    def remove(self, order: Order) -> None:
        for orders in (self.resting, self.waiting, self.held, self.fired):
            if any(order is other for other in orders):
                orders[:] = [other for other in orders if other is not order]

    def tell(self, kind: int, order: Order, quantity: int, leaves: int, reason: int = Why.NONE, **fill: Any) -> None:
        event = Event(
            kind, reason, 0, order.side, order.account, order.sequence, order.terms.client_tag,
            order.price, quantity, leaves, 0, self.now,
        )  # fmt: skip
        self.events.append(event._replace(**fill))

    def answer(self, command: Command, kind: int, reason: int, price: int | None, quantity: int) -> None:
        named = command.order if command.kind in {CommandKind.CANCEL, CommandKind.REPLACE} else 0
        account = command.account if -1 <= command.account < 2**31 else -1
        self.events.append(
            Event(kind, reason, 0, command.side, account, named, command.client_tag, price, quantity, 0, 0, self.now)
        )

    def refuse(self, command: Command, reason: int) -> None:
        kinds: dict[int, int] = {
            CommandKind.CANCEL: Kind.CANCEL_REJECTED,
            CommandKind.REPLACE: Kind.REPLACE_REJECTED,
        }
        kind = kinds.get(command.kind, Kind.REJECTED)
        self.answer(command, kind, reason, command.price, command.quantity)

    def close(self, order: Order, kind: int, reason: int = Why.NONE) -> None:
        self.tell(kind, order, order.leaves, 0, reason)
        self.remove(order)

    def find(self, command: Command) -> Order | None:
        for order in self.live:
            if order.sequence == command.order and order.account == command.account:
                return order
        return None

    # --- commands ---

    def execute(self, command: Command) -> list[Event]:
        self.events = []
        self.now = max(self.now, command.ts_event_ns)
        late = [o for o in self.live if o.tif == Tif.GTD and o.terms.expire_time_ns <= self.now]
        for order in sorted(late, key=lambda o: (o.terms.expire_time_ns, o.sequence)):
            self.close(order, Kind.EXPIRED)
        handlers: dict[int, Callable[[Command], None]] = {
            CommandKind.NEW: self.new,
            CommandKind.REPLACE: self.replace,
            CommandKind.CANCEL: self.cancel,
            CommandKind.MASS_CANCEL: self.mass_cancel,
            CommandKind.SET_PHASE: self.set_phase,
            CommandKind.SET_BAND: self.set_band,
            CommandKind.SET_REFERENCE: self.set_reference,
            CommandKind.SET_POSITION: self.set_position,
            CommandKind.ADVANCE_TIME: self.advance_time,
            CommandKind.REBASE: self.rebase,
        }
        handlers.get(command.kind, self.unknown)(command)
        return self.events

    def unknown(self, command: Command) -> None:
        self.refuse(command, Why.UNKNOWN_COMMAND)

    def advance_time(self, command: Command) -> None:
        self.answer(command, Kind.APPLIED, Why.NONE, None, 0)

    def cancel(self, command: Command) -> None:
        order = self.find(command)
        if order is None:
            self.refuse(command, Why.UNKNOWN_ORDER)
        else:
            self.close(order, Kind.CANCELED, Why.REQUESTED)

    def mass_cancel(self, command: Command) -> None:
        if not -1 <= command.account < ACCOUNTS:
            return self.refuse(command, Why.UNKNOWN_ACCOUNT)
        chosen = [order for order in self.live if command.account in (-1, order.account)]
        for order in chosen:
            self.close(order, Kind.CANCELED, Why.MASS_CANCEL)
        return self.answer(command, Kind.APPLIED, Why.NONE, None, len(chosen))

    def fields_refused(self, c: Command) -> int:
        if c.side not in (Side.BUY, Side.SELL):
            return Why.INVALID_SIDE
        if c.order_type not in set(Type):
            return Why.INVALID_ORDER_TYPE
        if c.time_in_force not in allowed_times(c.order_type):
            return Why.INVALID_TIME_IN_FORCE
        if c.flags & ~(POST_ONLY | REDUCE_ONLY):
            return Why.INVALID_FLAGS
        may_rest = c.order_type in HAS_LIMIT | {Type.TRAILING_STOP_LIMIT} and c.time_in_force not in PASSING
        if c.flags & POST_ONLY and not may_rest:
            return Why.INVALID_FLAGS
        if not 0 <= c.self_trade <= 4:
            return Why.INVALID_SELF_TRADE_MODE
        if not 1 <= c.quantity <= MAX_QUANTITY:
            return Why.INVALID_QUANTITY
        if not 0 <= c.account < ACCOUNTS:
            return Why.UNKNOWN_ACCOUNT
        if c.order_type in HAS_LIMIT and not self.on_ladder(c.price):
            return Why.INVALID_PRICE
        if c.order_type == Type.ICEBERG and not (1 <= c.display_quantity <= c.quantity <= 100 * c.display_quantity):
            return Why.INVALID_DISPLAY_QUANTITY
        if c.order_type in TRAILING and not 1 <= c.trailing_offset <= LEVELS:
            return Why.INVALID_OFFSET
        if c.order_type == Type.TRAILING_STOP_LIMIT and not 0 <= c.limit_offset <= LEVELS:
            return Why.INVALID_OFFSET
        if c.time_in_force == Tif.GTD and c.expire_time_ns <= self.now:
            return Why.EXPIRE_TIME_IN_PAST
        return Why.NONE

    def phase_refused(self, c: Command) -> int:
        if self.phase == Phase.CLOSED:
            return Why.MARKET_CLOSED
        if self.phase == Phase.HALTED:
            return Why.TRADING_HALTED
        if c.time_in_force == Tif.AT_OPEN and self.phase != Phase.OPENING_AUCTION:
            return Why.WRONG_PHASE
        if self.phase in CALLS and c.time_in_force in PASSING and c.order_type not in CONDITIONAL:
            return Why.WRONG_PHASE
        return Why.NONE

    def book_refused(self, c: Command) -> int:
        acts_now = self.phase == Phase.CONTINUOUS and c.time_in_force != Tif.AT_CLOSE
        if c.order_type != Type.MARKET:
            assert c.price is not None
            if self.outside_band(c.side, c.price):
                return Why.PRICE_BAND
            if c.flags & POST_ONLY and acts_now and self.crossing(c.side, c.price):
                return Why.POST_ONLY_WOULD_CROSS
        if c.flags & REDUCE_ONLY and self.reducible(c.account, c.side) == 0:
            return Why.REDUCE_ONLY_WOULD_INCREASE
        if c.order_type == Type.ICEBERG and sum(o.type == Type.ICEBERG for o in self.live) >= MAX_ICEBERGS:
            return Why.BOOK_FULL
        return Why.NONE

    def first_stop(self, c: Command) -> int | None:
        if c.stop_price is not None or c.order_type not in TRAILING:
            return c.stop_price
        start = self.reference if self.last is None else self.last
        if start is None:
            return None
        return start + c.trailing_offset if c.side == Side.BUY else start - c.trailing_offset

    def new(self, c: Command) -> None:
        conditional = c.order_type in CONDITIONAL
        stop = None
        reason = self.fields_refused(c) or self.phase_refused(c)
        if not reason and conditional:
            stop = self.first_stop(c)
            if stop is None and c.order_type in TRAILING:
                reason = Why.NO_REFERENCE_PRICE
            elif not self.on_ladder(stop):
                reason = Why.INVALID_STOP_PRICE
        elif not reason:
            reason = self.book_refused(c)
        if not reason and len(self.live) >= CAPACITY:
            reason = Why.BOOK_FULL
        if reason:
            return self.refuse(c, reason)
        self.sequence += 1
        price = c.price if c.order_type in HAS_LIMIT else None
        order = Order(self.sequence, replace(c), c.order_type, c.quantity, c.quantity, 0, price, stop)
        self.tell(Kind.ACCEPTED, order, order.quantity, order.quantity)
        if conditional:
            self.enqueue(self.waiting, order)
            return self.look_at_last()
        if c.time_in_force == Tif.AT_CLOSE and self.phase != Phase.CLOSING_AUCTION:
            return self.enqueue(self.held, order)
        if self.phase != Phase.CONTINUOUS:
            return self.rest(order)
        self.enter(order)
        return self.run_fired()

    # --- continuous trading ---

    def rest(self, order: Order) -> None:
        if order.type == Type.ICEBERG:
            total = order.leaves
            order.shown = min(order.terms.display_quantity, total)
            order.hidden = total - order.shown
        self.enqueue(self.resting, order)

    def fill(self, order: Order, liquidity: int, price: int, traded: int) -> None:
        self.tell(Kind.FILL, order, traded, order.leaves, price=price, liquidity=liquidity, trade_id=self.trades)

    def trade(self, buyer: Order, seller: Order, traded: int) -> None:
        self.trades += 1
        self.positions[buyer.account] += traded
        self.positions[seller.account] -= traded

    def enter(self, order: Order) -> None:
        """Match an order that is in no list; its whole remainder is shown."""
        if order.price is not None:
            if self.outside_band(order.side, order.price):
                return self.close(order, Kind.CANCELED, Why.PRICE_BAND)
            if order.terms.flags & POST_ONLY and self.crossing(order.side, order.price):
                return self.close(order, Kind.CANCELED, Why.POST_ONLY_WOULD_CROSS)
        if order.tif == Tif.FOK and not self.sure_to_fill(order):
            return self.close(order, Kind.CANCELED, Why.FILL_OR_KILL)
        reason = self.cross(order)
        if order.leaves == 0:
            return None
        if reason:
            return self.close(order, Kind.CANCELED, reason)
        if order.type == Type.MARKET:
            blocked = any(other.price is not None for other in self.queue(3 - order.side))
            return self.close(order, Kind.CANCELED, Why.PRICE_BAND if blocked else Why.NO_LIQUIDITY)
        if order.tif == Tif.IOC:
            return self.close(order, Kind.CANCELED, Why.IMMEDIATE_OR_CANCEL)
        return self.rest(order)

    def sure_to_fill(self, taker: Order) -> bool:
        if taker.reduce_only and self.reducible(taker.account, taker.side) < taker.leaves:
            return False
        others = self.crossing(taker.side, taker.price)
        own = [o for o in others if taker.terms.self_trade and o.account == taker.account]
        if own and taker.terms.self_trade != SelfTradePrevention.CANCEL_OLDEST:
            # Everything at better prices, and what is shown ahead of the first own order at its price.
            stop = own[0]
            better = [o for o in others if o.price != stop.price and others.index(o) < others.index(stop)]
            ahead = [o for o in others if o.price == stop.price and o.place < stop.place]
            supply = sum(o.leaves for o in better if not o.reduce_only)
            supply += sum(o.shown for o in ahead if not o.reduce_only)
        else:
            supply = sum(o.leaves for o in others if not o.reduce_only and o not in own)
        return supply >= taker.leaves

    def cross(self, taker: Order) -> int:
        """Trade until nothing fits; the reason to cancel the rest, or NONE."""
        while taker.leaves > 0:
            others = self.crossing(taker.side, taker.price)
            if not others:
                break
            maker = others[0]
            if taker.terms.self_trade and maker.account == taker.account:
                if self.prevent(taker, maker):
                    continue
                return Why.SELF_TRADE
            traded = min(taker.leaves, maker.shown)
            if maker.reduce_only:
                traded = min(traded, self.reducible(maker.account, maker.side))
                if traded == 0:
                    self.close(maker, Kind.CANCELED, Why.REDUCE_ONLY_WOULD_INCREASE)
                    continue
            if taker.reduce_only:
                traded = min(traded, self.reducible(taker.account, taker.side))
                if traded == 0:
                    return Why.REDUCE_ONLY_WOULD_INCREASE
            assert maker.price is not None
            taker.shown -= traded
            maker.shown -= traded
            self.trade(*((taker, maker) if taker.side == Side.BUY else (maker, taker)), traded)
            self.fill(maker, LiquidityFlag.MAKER, maker.price, traded)
            self.fill(taker, LiquidityFlag.TAKER, maker.price, traded)
            if maker.leaves == 0:
                self.remove(maker)
            elif maker.shown == 0:
                self.remove(maker)
                self.rest(maker)
            if maker.leaves and maker.reduce_only and self.reducible(maker.account, maker.side) == 0:
                self.close(maker, Kind.CANCELED, Why.REDUCE_ONLY_WOULD_INCREASE)
            self.see(maker.price)
        return Why.NONE

    def prevent(self, taker: Order, maker: Order) -> bool:
        """Apply the taker's mode; whether it goes on."""
        mode = taker.terms.self_trade
        if mode == SelfTradePrevention.CANCEL_NEWEST:
            return False
        if mode in (SelfTradePrevention.CANCEL_OLDEST, SelfTradePrevention.CANCEL_BOTH):
            self.close(maker, Kind.CANCELED, Why.SELF_TRADE)
            return mode == SelfTradePrevention.CANCEL_OLDEST
        cut = min(taker.leaves, maker.leaves)
        for order in (maker, taker):
            total = order.leaves - cut
            if total == 0:
                self.close(order, Kind.CANCELED, Why.SELF_TRADE)
            order.quantity -= cut
            order.shown = min(order.shown, total)
            order.hidden = total - order.shown
            if total > 0:
                self.tell(Kind.REPLACED, order, order.quantity, total, Why.SELF_TRADE)
        return True

    # --- triggers ---

    def see(self, price: int) -> None:
        """A trade happened: trailing stops follow, then orders fire."""
        self.last = price
        for order in sorted(self.waiting, key=lambda o: o.sequence):
            if order.type in TRAILING:
                assert order.stop is not None
                buys = order.side == Side.BUY
                stop = price + order.terms.trailing_offset if buys else price - order.terms.trailing_offset
                if stop < order.stop if buys else stop > order.stop:
                    order.stop = stop
                    self.remove(order)
                    self.enqueue(self.waiting, order)
        rising = [o for o in self.waiting if o.fires_when_rising and (o.stop or 0) <= price]
        falling = [o for o in self.waiting if not o.fires_when_rising and (o.stop or 0) >= price]
        rising.sort(key=lambda o: (o.stop or 0, o.place))
        falling.sort(key=lambda o: (-(o.stop or 0), o.place))
        for order in rising + falling:
            if order.type == Type.TRAILING_STOP_LIMIT:
                assert order.stop is not None
                away = order.terms.limit_offset
                limit = order.stop + away if order.side == Side.BUY else order.stop - away
                order.price = min(max(limit, self.base), self.top)
            order.stop = None
            self.remove(order)
            self.enqueue(self.fired, order)

    def run_fired(self) -> None:
        while self.fired:
            order = self.fired.pop(0)
            order.type = Type.MARKET if order.price is None else Type.LIMIT
            self.tell(Kind.TRIGGERED, order, order.quantity, order.leaves)
            self.enter(order)

    def look_at_last(self) -> None:
        if self.phase == Phase.CONTINUOUS and self.last is not None:
            self.see(self.last)
            self.run_fired()

    # --- amending ---

    def replace_refused(self, c: Command, order: Order) -> int:
        if self.phase == Phase.CLOSED:
            return Why.MARKET_CLOSED
        if self.phase == Phase.HALTED:
            return Why.TRADING_HALTED
        if not 0 <= c.quantity <= MAX_QUANTITY:
            return Why.INVALID_QUANTITY
        left = c.quantity - (order.quantity - order.leaves)
        if order.type == Type.ICEBERG and c.quantity and left > 100 * order.terms.display_quantity:
            return Why.INVALID_DISPLAY_QUANTITY
        if c.price is not None:
            if order.type not in HAS_LIMIT or not self.on_ladder(c.price):
                return Why.INVALID_PRICE
            waits = order.type in CONDITIONAL
            if not waits and self.outside_band(order.side, c.price):
                return Why.PRICE_BAND
            in_market = self.phase == Phase.CONTINUOUS and order in self.resting
            if order.terms.flags & POST_ONLY and in_market and self.crossing(order.side, c.price):
                return Why.POST_ONLY_WOULD_CROSS
        if c.stop_price is not None and (order.type not in CONDITIONAL or not self.on_ladder(c.stop_price)):
            return Why.INVALID_STOP_PRICE
        return Why.NONE

    def replace(self, c: Command) -> None:
        order = self.find(c)
        if order is None:
            return self.refuse(c, Why.UNKNOWN_ORDER)
        reason = self.replace_refused(c, order)
        if reason:
            return self.refuse(c, reason)
        filled = order.quantity - order.leaves
        before = order.quantity
        quantity = max(c.quantity, filled) if c.quantity else before
        leaves = quantity - filled
        order.quantity = quantity
        if leaves == 0:
            self.tell(Kind.REPLACED, order, quantity, 0)
            return self.remove(order)
        repriced = c.price is not None and c.price != order.price
        if repriced:
            order.price = c.price
        keeps_place = order.type in CONDITIONAL or (not repriced and quantity <= before)
        order.shown = min(order.shown, leaves) if keeps_place and order.type not in CONDITIONAL else leaves
        order.hidden = leaves - order.shown
        if not keeps_place:
            self.move(order)
        else:
            self.tell(Kind.REPLACED, order, quantity, leaves)
            if c.stop_price is not None and c.stop_price != order.stop:
                order.stop = c.stop_price
                self.remove(order)
                self.enqueue(self.waiting, order)
                self.look_at_last()
        return None

    def move(self, order: Order) -> None:
        """Send an amended order to the end of its queue, or into the market."""
        self.tell(Kind.REPLACED, order, order.quantity, order.leaves)
        if order in self.held:
            self.remove(order)
            self.enqueue(self.held, order)
            return
        self.remove(order)
        if self.phase == Phase.CONTINUOUS:
            self.enter(order)
            self.run_fired()
        else:
            self.rest(order)

    # --- the session ---

    def set_phase(self, c: Command) -> None:
        if c.phase not in set(Phase):
            return self.refuse(c, Why.INVALID_PHASE)
        price, volume = None, 0
        if c.phase == Phase.CONTINUOUS or (c.phase == Phase.CLOSED and self.phase in CALLS):
            price, volume = self.uncross()
        self.phase = c.phase
        if c.phase in (Phase.CONTINUOUS, Phase.CLOSED):
            for order in self.live:
                over = {Tif.AT_OPEN}
                if c.phase == Phase.CLOSED:
                    over |= {Tif.DAY, Tif.AT_CLOSE}
                elif order not in self.held:
                    over |= {Tif.AT_CLOSE}
                if order.tif in over:
                    self.close(order, Kind.EXPIRED)
                elif order.type == Type.MARKET and order not in self.held:
                    self.close(order, Kind.CANCELED, Why.NO_LIQUIDITY)
        if c.phase == Phase.CLOSING_AUCTION:
            for order in list(self.held):
                if order.price is not None and self.outside_band(order.side, order.price):
                    self.close(order, Kind.CANCELED, Why.PRICE_BAND)
                else:
                    self.remove(order)
                    self.rest(order)
        self.answer(c, Kind.APPLIED, Why.NONE, price, volume)
        return self.look_at_last()

    def clearing_price(self) -> tuple[int | None, int]:
        buys, sells = self.queue(Side.BUY), self.queue(Side.SELL)

        def bought(price: int) -> int:
            return sum(o.leaves for o in buys if o.price is None or o.price >= price)

        def sold(price: int) -> int:
            return sum(o.leaves for o in sells if o.price is None or o.price <= price)

        reference = self.last if self.reference is None else self.reference
        limits = sorted({o.price for o in buys + sells if o.price is not None and self.lower <= o.price <= self.upper})
        volume = max((min(bought(p), sold(p)) for p in limits), default=0)
        if volume == 0:
            markets = min(sum(o.leaves for o in q if o.price is None) for q in (buys, sells))
            if markets == 0 or reference is None:
                return None, 0
            return min(max(reference, self.lower), self.upper), markets
        prices = [p for p in limits if min(bought(p), sold(p)) == volume]
        surplus = min(abs(bought(p) - sold(p)) for p in prices)
        prices = [p for p in prices if abs(bought(p) - sold(p)) == surplus]
        more_bought = [p for p in prices if bought(p) > sold(p)]
        more_sold = [p for p in prices if bought(p) < sold(p)]
        if surplus and not more_sold:
            return max(more_bought), volume
        if surplus and not more_bought:
            return min(more_sold), volume
        low, high = (max(more_bought), min(more_sold)) if surplus else (min(prices), max(prices))
        middle = (low + high) // 2 if reference is None else reference
        return min(max(middle, low), high), volume

    def uncross(self) -> tuple[int | None, int]:
        first, done = None, 0
        while True:
            price, _ = self.clearing_price()
            if price is None:
                return first, done
            first = price if first is None else first
            while True:
                buys = [o for o in self.queue(Side.BUY) if o.price is None or o.price >= price]
                sells = [o for o in self.queue(Side.SELL) if o.price is None or o.price <= price]
                if not buys or not sells:
                    break
                sides = (buys[0], sells[0])
                barred = [o for o in sides if o.reduce_only and self.reducible(o.account, o.side) == 0]
                if barred:
                    self.close(barred[0], Kind.CANCELED, Why.REDUCE_ONLY_WOULD_INCREASE)
                    continue
                limits = [self.reducible(o.account, o.side) for o in sides if o.reduce_only]
                traded = min([o.leaves for o in sides] + limits)
                self.last = price
                done += traded
                self.trade(*sides, traded)
                for order in sides:
                    left = order.leaves - traded
                    order.shown = min(order.terms.display_quantity, left) if order.type == Type.ICEBERG else left
                    order.hidden = left - order.shown
                    self.fill(order, LiquidityFlag.AUCTION, price, traded)
                    if left == 0:
                        self.remove(order)

    def set_band(self, c: Command) -> None:
        lower = self.base if c.price is None else c.price
        upper = self.top if c.stop_price is None else c.stop_price
        if not self.on_ladder(lower) or not self.on_ladder(upper) or lower > upper:
            return self.refuse(c, Why.INVALID_PRICE)
        self.lower, self.upper = lower, upper
        beyond = [
            order
            for side in (Side.BUY, Side.SELL)
            for order in self.queue(side)
            if order.price is not None and self.outside_band(side, order.price)
        ]
        for order in beyond:
            self.close(order, Kind.CANCELED, Why.PRICE_BAND)
        return self.answer(c, Kind.APPLIED, Why.NONE, None, len(beyond))

    def set_reference(self, c: Command) -> None:
        if c.price is not None and not self.on_ladder(c.price):
            return self.refuse(c, Why.INVALID_PRICE)
        self.reference = c.price
        return self.answer(c, Kind.APPLIED, Why.NONE, c.price, 0)

    def set_position(self, c: Command) -> None:
        if not 0 <= c.account < ACCOUNTS:
            return self.refuse(c, Why.UNKNOWN_ACCOUNT)
        if abs(c.quantity) > 2**60:
            return self.refuse(c, Why.INVALID_QUANTITY)
        self.positions[c.account] = c.quantity
        return self.answer(c, Kind.APPLIED, Why.NONE, None, c.quantity)

    def rebase(self, c: Command) -> None:
        if c.price is None or abs(c.price) > 2**53:
            return self.refuse(c, Why.INVALID_PRICE)
        base, top = c.price, c.price + LEVELS - 1
        lower = base if self.lower == self.base else max(base, self.lower)
        upper = top if self.upper == self.top else min(top, self.upper)
        prices = [price for order in self.live for price in (order.price, order.stop)]
        stays = all(p is None or base <= p <= top for p in [*prices, self.last, self.reference])
        if lower > upper or not stays:
            return self.refuse(c, Why.INVALID_PRICE)
        self.base, self.lower, self.upper = base, lower, upper
        return self.answer(c, Kind.APPLIED, Why.NONE, base, 0)
