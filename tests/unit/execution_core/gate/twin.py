"""The gate once more, slow and obvious: plain Python integers, one function per rule, nothing kept that
can be worked out from the positions and the open orders.

Same public calls as ``execution_core.gate.Gate`` as far as the tests need them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from execution_core.gate import InstrumentFacts, Mode, Policy
from execution_core.types import DenialReason as R
from execution_core.types import OrderFlag, OrderType, Side, TimeInForce, TradingState

MONEY_MAX = 2**61 - 1


def money(amount: int) -> int:
    """Amounts that no account can hold all count as the first of them."""
    return min(amount, MONEY_MAX + 1)


LIMITED = {
    OrderType.LIMIT,
    OrderType.STOP_LIMIT,
    OrderType.LIMIT_IF_TOUCHED,
    OrderType.ICEBERG,
    OrderType.TRAILING_STOP_LIMIT,
}
CONDITIONAL = set(OrderType) - {OrderType.MARKET, OrderType.LIMIT, OrderType.ICEBERG}
NEVER_RESTS = {TimeInForce.IOC, TimeInForce.FOK, TimeInForce.AT_OPEN, TimeInForce.AT_CLOSE}


def ceil_share(amount: int, numerator: int, denominator: int) -> int:
    return -(-amount * numerator // denominator)


@dataclass(frozen=True)
class Order:
    instrument: int
    side: int
    type: int
    lots: int
    price: int = 0
    trigger: int = 0
    time_in_force: int = TimeInForce.DAY
    flags: int = 0
    expire_ns: int = 0
    client_order_hash: int = 0

    @property
    def buy(self) -> bool:
        return self.side == Side.BUY

    @property
    def limited(self) -> bool:
        return self.type in LIMITED and self.price > 0

    @property
    def conditional(self) -> bool:
        return self.type in CONDITIONAL


@dataclass
class Instrument:
    facts: InstrumentFacts
    position: int = 0
    var_base: int = 0
    mark: int = 0
    mark_ts_ns: int = 0
    best_bid: int = 0
    best_ask: int = 0

    @property
    def unit(self) -> int:
        return self.mark * self.facts.tick_value


@dataclass
class Reservation:
    order: Order
    lots: int
    cash_unit: int
    cost_unit: int
    cash_fixed: int
    cost_fixed: int
    rests_at: int


@dataclass
class Verdict:
    mask: int = 0
    lots: int = 0
    reservation: int = 0  # number of the reservation, counting from 1

    @property
    def reasons(self) -> set[R]:
        return {reason for reason in R if self.mask >> reason & 1}


@dataclass
class Twin:
    policy: Policy | None = None
    trading_state: int = TradingState.HALTED
    caught_up: bool = True
    reconciling: bool = False
    cash: int = 0
    day_start_equity: int = 0
    peak_equity: int = 0
    capacity: int = 4096
    memory: int = 4096
    instruments: dict[int, Instrument] = field(default_factory=dict)
    sector_limits: dict[int, int] = field(default_factory=dict)
    open: dict[int, Reservation] = field(default_factory=dict)
    recent: list[tuple[int, int]] = field(default_factory=list)
    count: int = 0

    # --- exposure --------------------------------------------------------------------------------

    def open_lots(self, index: int, side: int) -> int:
        return sum(r.lots for r in self.open.values() if r.order.instrument == index and r.order.side == side)

    def reach(self, index: int, side: int, extra: int = 0) -> int:
        """How far a side can get if all its open orders fill: lots long (BUY) or short (SELL)."""
        position = self.instruments[index].position
        return (position if side == Side.BUY else -position) + self.open_lots(index, side) + extra

    def worst(self, index: int, order: Order | None = None, lots: int = 0) -> int:
        return max(0, *(self.reach(index, s, lots if order and order.side == s else 0) for s in Side))

    def margin_rate(self, index: int, side: int) -> int:
        facts, policy = self.instruments[index].facts, self.policy
        if side == Side.BUY:
            return max(facts.margin_long_bps, policy.margin_long_bps if policy else 0)
        return max(facts.margin_short_bps, policy.margin_short_bps if policy else 0)

    def margin(self, index: int, order: Order | None = None, lots: int = 0) -> int:
        needs = []
        for side in Side:
            reach = max(0, self.reach(index, side, lots if order and order.side == side else 0))
            needs.append(money(reach * ceil_share(self.instruments[index].unit, self.margin_rate(index, side), 10_000)))
        return max(needs)

    def var(self, index: int, order: Order | None = None, lots: int = 0) -> int:
        i = self.instruments[index]
        new = 0
        for side in Side:
            base = i.var_base if side == Side.BUY else -i.var_base
            reach = self.reach(index, side, lots if order and order.side == side else 0)
            new = max(new, max(reach, 0) - max(base, 0))
        return new * ceil_share(i.unit, i.facts.var_ppm, 1_000_000)

    def value(self) -> int:
        return sum(i.position * i.unit for i in self.instruments.values())

    def gross(self) -> int:
        return sum(self.worst(k) * i.unit for k, i in self.instruments.items())

    def net(self, side: int) -> int:
        return sum(self.reach(k, side) * i.unit for k, i in self.instruments.items())

    def margins(self) -> int:
        return sum(self.margin(k) for k in self.instruments)

    def var_open(self) -> int:
        return sum(self.var(k) for k in self.instruments)

    def reserved_cash(self) -> int:
        return sum(r.lots * r.cash_unit + r.cash_fixed for r in self.open.values())

    def reserved_cost(self) -> int:
        return sum(r.lots * r.cost_unit + r.cost_fixed for r in self.open.values())

    def exposure(self) -> dict[str, int]:
        return {
            "cash": self.cash,
            "position_value": self.value(),
            "gross": self.gross(),
            "net_long": self.net(Side.BUY),
            "net_short": self.net(Side.SELL),
            "margin": self.margins(),
            "var_open": self.var_open(),
            "reserved_cash": self.reserved_cash(),
            "reserved_cost": self.reserved_cost(),
            "open_orders": len(self.open),
        }

    @property
    def equity(self) -> int:
        return self.cash + self.value()

    def own_best(self, index: int, side: int) -> int:
        """Best own resting price of a side, 0 for none."""
        prices = [
            r.rests_at
            for r in self.open.values()
            if r.order.instrument == index and r.order.side == side and r.rests_at > 0
        ]
        if not prices:
            return 0
        return max(prices) if side == Side.BUY else min(prices)

    # --- what an order costs -----------------------------------------------------------------------

    def reference(self, order: Order) -> int:
        """Where the order meets the market."""
        if order.conditional and order.trigger > 0:
            return order.trigger
        return self.instruments[order.instrument].mark

    def collar(self) -> int:
        return self.policy.collar_bps if self.policy else 0

    def worst_price(self, order: Order) -> int:
        if order.limited:
            return order.price
        reference = self.reference(order)
        room = ceil_share(reference, self.collar(), 10_000)
        return reference + room if order.buy else reference - room

    def order_price(self, order: Order) -> int:
        return order.price if order.limited else self.reference(order)

    def worst_value(self, order: Order) -> int:
        return money(self.worst_price(order) * self.instruments[order.instrument].facts.tick_value)

    def fee_unit(self, order: Order) -> int:
        facts = self.instruments[order.instrument].facts
        return facts.fee_per_lot + ceil_share(self.worst_value(order), facts.fee_ppm, 1_000_000)

    def fee_fixed(self) -> int:
        return self.policy.fee_per_order if self.policy else 0

    def cash_unit(self, order: Order) -> int:
        if not order.buy:
            return 0
        return money(self.worst_value(order) + self.fee_unit(order))

    def cost_unit(self, order: Order) -> int:
        i = self.instruments[order.instrument]
        slip = 0
        if i.mark > 0:
            worst = self.worst_value(order)
            slip = max(0, worst - i.unit if order.buy else i.unit - worst)
        return money(self.fee_unit(order) + slip)

    def cash_need(self, order: Order, lots: int) -> int:
        return money(lots * self.cash_unit(order)) + (self.fee_fixed() if order.buy else 0)

    def cost(self, order: Order, lots: int) -> int:
        return money(lots * self.cost_unit(order)) + self.fee_fixed()

    def equity_after(self, order: Order, lots: int) -> int:
        return self.equity - money(self.reserved_cost() + self.cost(order, lots))

    def growth(self, order: Order, lots: int) -> int:
        k = order.instrument
        return money((self.worst(k, order, lots) - self.worst(k)) * self.instruments[k].unit)

    def notional(self, order: Order, lots: int) -> int:
        return money(lots * money(self.order_price(order) * self.instruments[order.instrument].facts.tick_value))

    def is_reduction(self, order: Order, lots: int) -> bool:
        return self.reach(order.instrument, order.side, lots) <= 0

    # --- the rules, one function each: does the order break it? ----------------------------------------

    def trading_halted(self, o: Order, q: int, now: int) -> bool:
        return self.trading_state == TradingState.HALTED

    def reduce_only_state(self, o: Order, q: int, now: int) -> bool:
        return self.trading_state in (TradingState.REDUCE_ONLY, TradingState.CANCEL_ALL, TradingState.FLATTEN)

    def risk_policy_stale(self, o: Order, q: int, now: int) -> bool:
        return self.policy is None or now - self.policy.ts_ns > self.policy.max_age_ns

    def view_not_caught_up(self, o: Order, q: int, now: int) -> bool:
        return not self.caught_up

    def is_reconciling(self, o: Order, q: int, now: int) -> bool:
        return self.reconciling

    def in_window(self, window: int, now: int) -> int:
        """Orders of the last `window` nanoseconds, newest first, up to the first older one."""
        inside = 0
        for ts, _ in reversed(self.recent):
            if now - ts >= window:
                break
            inside += 1
        return inside

    def rate_limit_exceeded(self, o: Order, q: int, now: int) -> bool:
        p = self.policy
        if p is None:
            return len(self.open) >= self.capacity
        many = p.burst_orders is not None and self.in_window(p.burst_window_ns, now) >= p.burst_orders
        many |= p.rate_orders is not None and self.in_window(p.rate_window_ns, now) >= p.rate_orders
        return many or len(self.open) >= (p.max_open_orders or self.capacity)

    def no_slot(self, o: Order, q: int, now: int) -> bool:
        return len(self.open) >= self.capacity

    def instrument_restricted(self, o: Order, q: int, now: int) -> bool:
        return self.instruments[o.instrument].facts.restricted

    def market_closed(self, o: Order, q: int, now: int) -> bool:
        return not self.instruments[o.instrument].facts.market_open and o.time_in_force != TimeInForce.AT_OPEN

    def price_stale(self, o: Order, q: int, now: int) -> bool:
        i = self.instruments[o.instrument]
        age = self.policy.price_max_age_ns if self.policy else 0
        return i.mark == 0 or now - i.mark_ts_ns > age

    def price_collar(self, o: Order, q: int, now: int) -> bool:
        reference = self.reference(o)
        if not o.limited or reference == 0:
            return False
        away = o.price - reference if o.buy else reference - o.price
        return away * 10_000 > reference * self.collar()

    def quantity_below_minimum(self, o: Order, q: int, now: int) -> bool:
        return q < self.instruments[o.instrument].facts.min_lots

    def quantity_above_maximum(self, o: Order, q: int, now: int) -> bool:
        most = self.instruments[o.instrument].facts.max_lots
        return most is not None and q > most

    def notional_below_minimum(self, o: Order, q: int, now: int) -> bool:
        return self.notional(o, q) < self.instruments[o.instrument].facts.min_notional

    def notional_above_maximum(self, o: Order, q: int, now: int) -> bool:
        most = self.instruments[o.instrument].facts.max_notional
        return self.notional(o, q) > (MONEY_MAX if most is None else most) or self.out_of_range(o, q)

    def out_of_range(self, o: Order, q: int) -> bool:
        cost = self.reserved_cost() + self.cost(o, q)
        return cost > MONEY_MAX or self.reserved_cash() + self.cash_need(o, q) > MONEY_MAX

    def insufficient_funds(self, o: Order, q: int, now: int) -> bool:
        buffer = self.policy.cash_buffer if self.policy else 0
        return o.buy and self.cash_need(o, q) > self.cash - buffer - self.reserved_cash()

    def insufficient_margin(self, o: Order, q: int, now: int) -> bool:
        k = o.instrument
        need = self.margins() + self.margin(k, o, q) - self.margin(k)
        return need > min(self.equity_after(o, q), MONEY_MAX)

    def position_limit(self, o: Order, q: int, now: int) -> bool:
        most = self.instruments[o.instrument].facts.position_limit
        return self.worst(o.instrument, o, q) > (2**48 - 1 if most is None else most)

    def limit(self, name: str) -> int:
        value = getattr(self.policy, name) if self.policy else None
        return MONEY_MAX if value is None else int(value)

    def gross_exposure_limit(self, o: Order, q: int, now: int) -> bool:
        return self.gross() + self.growth(o, q) > self.limit("gross_limit")

    def net_exposure_limit(self, o: Order, q: int, now: int) -> bool:
        return self.net(o.side) + money(q * self.instruments[o.instrument].unit) > self.limit("net_limit")

    def sector_limit(self, o: Order, q: int, now: int) -> bool:
        sector = self.instruments[o.instrument].facts.sector
        used = sum(self.worst(k) * i.unit for k, i in self.instruments.items() if i.facts.sector == sector)
        return used + self.growth(o, q) > self.sector_limits.get(sector, self.limit("sector_limit"))

    def concentration_limit(self, o: Order, q: int, now: int) -> bool:
        k = o.instrument
        return self.worst(k, o, q) * self.instruments[k].unit > self.limit("concentration_limit")

    def leverage_limit(self, o: Order, q: int, now: int) -> bool:
        if self.policy is None or self.policy.leverage_limit_bps is None:
            return False
        most = money(max(self.equity_after(o, q), 0) // 10_000 * self.policy.leverage_limit_bps)
        return self.gross() + self.growth(o, q) > most

    def daily_loss_limit(self, o: Order, q: int, now: int) -> bool:
        return self.day_start_equity - self.equity >= self.limit("daily_loss_limit")

    def drawdown_limit(self, o: Order, q: int, now: int) -> bool:
        return self.peak_equity - self.equity >= self.limit("drawdown_limit")

    def var_budget(self, o: Order, q: int, now: int) -> bool:
        used = self.policy.var_use if self.policy else 0
        k = o.instrument
        growth = money(self.var(k, o, q) - self.var(k))
        return used + self.var_open() + growth > self.limit("var_budget")

    def self_trade(self, o: Order, q: int, now: int) -> bool:
        own = self.own_best(o.instrument, Side.SELL if o.buy else Side.BUY)
        if o.conditional or own == 0:
            return False
        return self.worst_price(o) >= own if o.buy else self.worst_price(o) <= own

    def duplicate_order(self, o: Order, q: int, now: int) -> bool:
        return o.client_order_hash != 0 and any(o.client_order_hash == seen for _, seen in self.recent)

    def reduce_only_would_increase(self, o: Order, q: int, now: int) -> bool:
        return bool(o.flags & OrderFlag.REDUCE_ONLY)

    def post_only_would_cross(self, o: Order, q: int, now: int) -> bool:
        if not o.flags & OrderFlag.POST_ONLY or o.conditional:
            return False
        i = self.instruments[o.instrument]
        if not o.limited:
            return True
        return 0 < i.best_ask <= o.price if o.buy else i.best_bid >= o.price

    def expire_time_in_past(self, o: Order, q: int, now: int) -> bool:
        return o.time_in_force == TimeInForce.GTD and o.expire_ns <= now

    def unsupported_order_type(self, o: Order, q: int, now: int) -> bool:
        return o.type not in set(self.instruments[o.instrument].facts.order_types)

    def short_not_allowed(self, o: Order, q: int, now: int) -> bool:
        shorts = self.instruments[o.instrument].facts.shortable
        return not o.buy and not shorts and self.reach(o.instrument, Side.SELL, q) > 0

    # --- judging -------------------------------------------------------------------------------------

    def always(self) -> dict[R, Callable[[Order, int, int], bool]]:
        """Rules for every order."""
        return {
            R.TRADING_HALTED: self.trading_halted,
            R.RATE_LIMIT_EXCEEDED: self.no_slot,
            R.INSTRUMENT_RESTRICTED: self.instrument_restricted,
            R.MARKET_CLOSED: self.market_closed,
            R.PRICE_STALE: self.price_stale_always,
            R.PRICE_COLLAR: self.price_collar,
            R.QUANTITY_BELOW_MINIMUM: self.quantity_below_minimum,
            R.QUANTITY_ABOVE_MAXIMUM: self.quantity_above_maximum,
            R.NOTIONAL_ABOVE_MAXIMUM: self.notional_above_maximum,
            R.SELF_TRADE: self.self_trade,
            R.DUPLICATE_ORDER: self.duplicate_order,
            R.POST_ONLY_WOULD_CROSS: self.post_only_would_cross,
            R.EXPIRE_TIME_IN_PAST: self.expire_time_in_past,
            R.UNSUPPORTED_ORDER_TYPE: self.unsupported_order_type,
        }

    def unless_reduction(self) -> dict[R, Callable[[Order, int, int], bool]]:
        """Rules that a reduction need not keep."""
        return {
            R.REDUCE_ONLY_STATE: self.reduce_only_state,
            R.NOTIONAL_BELOW_MINIMUM: self.notional_below_minimum,
            R.RISK_POLICY_STALE: self.risk_policy_stale,
            R.VIEW_NOT_CAUGHT_UP: self.view_not_caught_up,
            R.RECONCILING: self.is_reconciling,
            R.RATE_LIMIT_EXCEEDED: self.rate_limit_exceeded,
            R.PRICE_STALE: self.price_stale,
            R.INSUFFICIENT_FUNDS: self.insufficient_funds,
            R.INSUFFICIENT_MARGIN: self.insufficient_margin,
            R.POSITION_LIMIT: self.position_limit,
            R.GROSS_EXPOSURE_LIMIT: self.gross_exposure_limit,
            R.NET_EXPOSURE_LIMIT: self.net_exposure_limit,
            R.SECTOR_LIMIT: self.sector_limit,
            R.CONCENTRATION_LIMIT: self.concentration_limit,
            R.LEVERAGE_LIMIT: self.leverage_limit,
            R.DAILY_LOSS_LIMIT: self.daily_loss_limit,
            R.DRAWDOWN_LIMIT: self.drawdown_limit,
            R.VAR_BUDGET: self.var_budget,
            R.REDUCE_ONLY_WOULD_INCREASE: self.reduce_only_would_increase,
            R.SHORT_NOT_ALLOWED: self.short_not_allowed,
        }

    def price_stale_always(self, o: Order, q: int, now: int) -> bool:
        """Reductions may use an old price at the operator's word, but not do without one."""
        word = self.policy is not None and self.policy.stale_price_reductions
        return self.price_stale(o, q, now) and (not word or self.reference(o) == 0)

    def broken(self, order: Order, lots: int, now: int) -> set[R]:
        """Every rule that so many lots of the order break."""
        if order.instrument not in self.instruments:
            rules = {
                reason: rule
                for reason, rule in (self.unless_reduction() | self.always()).items()
                if reason
                in (
                    R.TRADING_HALTED,
                    R.REDUCE_ONLY_STATE,
                    R.RISK_POLICY_STALE,
                    R.VIEW_NOT_CAUGHT_UP,
                    R.RECONCILING,
                    R.DAILY_LOSS_LIMIT,
                    R.DRAWDOWN_LIMIT,
                    R.DUPLICATE_ORDER,
                    R.EXPIRE_TIME_IN_PAST,
                )
            }
            found: set[R] = {reason for reason, rule in rules.items() if rule(order, lots, now)}
            if self.rate_limit_exceeded(order, lots, now) or self.no_slot(order, lots, now):
                found.add(R.RATE_LIMIT_EXCEEDED)
            return found | {R.INSTRUMENT_UNKNOWN}
        found = {reason for reason, rule in self.always().items() if rule(order, lots, now)}
        if not self.is_reduction(order, lots):
            found |= {reason for reason, rule in self.unless_reduction().items() if rule(order, lots, now)}
        return found

    def judge(self, order: Order, now: int, mode: Mode) -> Verdict:
        found = self.broken(order, order.lots, now)
        lots = 0 if found else order.lots
        if found and mode == Mode.FIT:
            minimums = {R.QUANTITY_BELOW_MINIMUM, R.NOTIONAL_BELOW_MINIMUM}
            # The most lots that keep within every maximum; then the minimums are asked of those.
            best = next((q for q in range(order.lots, 0, -1) if not self.broken(order, q, now) - minimums), 0)
            short = self.broken(order, best, now) if best else set()
            lots = 0 if short else best
            found |= short
        return Verdict(mask=sum(1 << reason for reason in found), lots=lots)

    def check(self, orders: Sequence[Order], now: int, mode: Mode = Mode.EACH, reserve: bool = True) -> list[Verdict]:
        before = (dict(self.open), list(self.recent), self.count)
        verdicts = []
        for order in orders:
            verdict = self.judge(order, now, mode)
            if verdict.lots:
                verdict.reservation = self.reserve(order, verdict.lots, now)
            verdicts.append(verdict)
        refused = mode == Mode.ALL and any(verdict.lots == 0 for verdict in verdicts)
        if refused or not reserve:
            self.open, self.recent, self.count = before
            for verdict in verdicts:
                verdict.reservation = 0
                verdict.lots = 0 if refused else verdict.lots
        self.recent = self.recent[-self.memory :]
        return verdicts

    def reserve(self, order: Order, lots: int, now: int) -> int:
        rests = order.limited and not order.conditional and order.time_in_force not in NEVER_RESTS
        self.count += 1
        self.open[self.count] = Reservation(
            order=order,
            lots=lots,
            cash_unit=self.cash_unit(order),
            cost_unit=self.cost_unit(order),
            cash_fixed=self.fee_fixed() if order.buy else 0,
            cost_fixed=self.fee_fixed(),
            rests_at=order.price if rests else 0,
        )
        last = self.recent[-1][0] if self.recent else 0
        self.recent.append((max(now, last), order.client_order_hash))
        return self.count

    def exchange(self, number: int, order: Order, now: int) -> Verdict:
        old = self.open.pop(number)
        verdict = self.check([order], now)[0]
        if not verdict.lots:
            self.open[number] = old
        return verdict

    # --- afterwards ------------------------------------------------------------------------------------

    def fill(self, number: int, index: int, side: int, lots: int, price: int, fee: int) -> int:
        i = self.instruments[index]
        paid = lots * price * i.facts.tick_value
        self.cash += (-paid if side == Side.BUY else paid) - fee
        i.position += lots if side == Side.BUY else -lots
        if i.mark == 0:
            i.mark = price
        covered = min(lots, self.open[number].lots) if number in self.open else 0
        if covered:
            self.release(number, covered)
        return lots - covered

    def release(self, number: int, lots: int = 0) -> int:
        r = self.open[number]
        given = min(lots, r.lots) if lots else r.lots
        r.lots -= given
        if r.lots == 0:
            del self.open[number]
        return given

    def set_policy(self, policy: Policy) -> None:
        self.policy = policy
        self.sector_limits = {}
        for i in self.instruments.values():
            i.var_base = i.position
