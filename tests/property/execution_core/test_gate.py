"""The gate equals its twin, and what it approves can never add up to more than a limit."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_core.errors import InvalidValueError
from execution_core.gate import InstrumentFacts, Mode, Policy
from execution_core.gate.layout import LOTS_MAX, MONEY_MAX, PRICE_MAX, Array
from execution_core.types import GATE_ORDER, DenialReason, OrderFlag, OrderType, Side, TimeInForce, TradingState
from tests.unit.execution_core.gate.pair import Pair, as_rows
from tests.unit.execution_core.gate.twin import Order, Verdict

EXAMPLES = int(os.environ.get("ALPHAMESH_PROPERTY_EXAMPLES", "60"))
SECOND = 10**9
START = 1_700_000_000 * SECOND


class World:
    """A random account and a random stream of calls, all from one seeded generator."""

    def __init__(self, seed: int, reservations: int | None = None) -> None:
        self.random = np.random.default_rng(seed)
        self.pair = Pair(instruments=4, reservations=reservations or self.among(6, 64, 64))
        self.now = START
        self.reasons: Counter[DenialReason] = Counter()
        for index in range(3):
            self.pair.set_instrument(index, self.facts())
            if not self.chance(0.1):
                self.reprice(index)
        if not self.chance(0.05):
            self.pair.set_policy(self.policy())
        cash = self.among(0, 10**4, 10**5, 10**6, 10**6)
        self.pair.set_account(
            cash=cash, day_start_equity=cash + self.among(0, 0, 0, 10**3), peak_equity=cash + self.among(0, 0, 2000)
        )
        for index in range(3):
            if self.chance(0.3):
                self.hold(index, self.whole(-20, 20))
        self.state()

    def whole(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def among(self, *values: int) -> int:
        return values[self.whole(0, len(values) - 1)]

    def rarely(self, value: int | None, probability: float = 0.35) -> int | None:
        return value if self.chance(probability) else None

    def facts(self) -> InstrumentFacts:
        return InstrumentFacts(
            tick_value=self.whole(1, 12),
            min_lots=self.among(1, 1, 1, 3),
            max_lots=self.rarely(self.whole(5, 40)),
            min_notional=self.among(0, 0, 0, 1500),
            max_notional=self.rarely(self.whole(2000, 50_000)),
            position_limit=self.rarely(self.whole(10, 60)),
            sector=self.whole(0, 1),
            restricted=self.chance(0.05),
            shortable=self.chance(0.7),
            market_open=not self.chance(0.07),
            order_types=tuple(OrderType) if self.chance(0.8) else (OrderType.LIMIT, OrderType.MARKET),
            fee_ppm=self.among(0, 333, 25_000),
            fee_per_lot=self.among(0, 0, 3),
            var_ppm=self.among(0, 20_000, 333_333),
            margin_long_bps=self.among(0, 0, 3_333),
            margin_short_bps=self.among(0, 0, 15_000),
        )

    def policy(self) -> Policy:
        money = self.whole(5_000, 200_000)
        return Policy(
            version=self.whole(1, 9),
            ts_ns=self.now - self.whole(0, 20) * SECOND,
            max_age_ns=self.among(15, 1000, 1000) * SECOND,
            price_max_age_ns=self.among(5, 1000, 1000) * SECOND,
            stale_price_reductions=self.chance(0.5),
            collar_bps=self.among(0, 100, 1234, 10_000),
            gross_limit=self.rarely(money),
            net_limit=self.rarely(money // 2),
            sector_limit=self.rarely(money // 2),
            concentration_limit=self.rarely(money // 3),
            leverage_limit_bps=self.rarely(self.whole(1_000, 20_000)),
            daily_loss_limit=self.rarely(self.whole(0, 2_000)),
            drawdown_limit=self.rarely(self.whole(0, 3_000)),
            var_budget=self.rarely(self.whole(500, 20_000)),
            var_use=self.among(0, 400),
            cash_buffer=self.among(0, 0, 500, -5_000),
            margin_long_bps=self.among(0, 1_111, 5_000),
            margin_short_bps=self.among(0, 3_333, 10_000),
            fee_per_order=self.among(0, 0, 17),
            burst_orders=self.rarely(self.whole(1, 6)),
            burst_window_ns=self.among(1, 2) * SECOND,
            rate_orders=self.rarely(self.whole(3, 20)),
            rate_window_ns=self.among(5, 30) * SECOND,
            max_open_orders=self.rarely(self.whole(1, 8), 0.2),
        )

    def reprice(self, index: int) -> None:
        price = self.whole(50, 200)
        known = self.chance(0.7)
        bid, ask = (price - self.whole(0, 3), price + self.whole(0, 3)) if known else (0, 0)
        self.pair.set_price(index, price, self.now, best_bid=bid, best_ask=ask)

    def hold(self, index: int, lots: int) -> None:
        self.pair.set_position(index, lots)

    def state(self) -> None:
        self.pair.set_trading_state(TradingState.ACTIVE if self.chance(0.9) else TradingState(self.whole(2, 5)))
        self.pair.set_status(caught_up=not self.chance(0.05), reconciling=self.chance(0.05))

    def order(self, *, plain: bool = False) -> Order:
        index = self.whole(0, 2) if plain or not self.chance(0.03) else self.among(-1, 3, 7, 2**31 - 1)
        instrument = self.pair.twin.instruments.get(index)
        mark = instrument.mark if instrument and instrument.mark else 100
        kind = OrderType.LIMIT if plain or self.chance(0.5) else OrderType(self.whole(1, 9))
        price = max(1, mark + self.whole(-12, 12)) if not self.chance(0.05) else self.whole(1, 400)
        return Order(
            instrument=index,
            side=self.whole(1, 2),
            type=kind,
            lots=self.whole(1, 25),
            price=0 if kind == OrderType.TRAILING_STOP_LIMIT and self.chance(0.5) else price,
            trigger=self.among(0, max(1, mark + self.whole(-30, 30))),
            time_in_force=TimeInForce(self.whole(1, 7)),
            flags=0 if plain else self.among(0, 0, 0, OrderFlag.POST_ONLY, OrderFlag.REDUCE_ONLY, 3),
            expire_ns=self.now + self.whole(-2, 5) * SECOND,
            client_order_hash=self.among(0, self.whole(1, 6), self.whole(1, 2**62)),
        )

    def note(self, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            self.reasons.update(verdict.reasons)

    def step(self) -> None:
        pair, twin = self.pair, self.pair.twin
        kind = self.whole(0, 19)
        numbers = list(twin.open)
        if kind <= 8:
            mode = Mode(self.among(Mode.EACH, Mode.EACH, Mode.ALL, Mode.FIT))
            orders = [self.order() for _ in range(self.among(0, 1, 1, 2, 5))]
            self.note(pair.check(orders, self.now, mode=mode, reserve=self.chance(0.85)))
        elif kind <= 11 and numbers:
            number = numbers[self.whole(0, len(numbers) - 1)]
            r = twin.open[number]
            price = max(1, (r.order.price or 100) + self.whole(-5, 5))
            pair.fill(number, r.order.instrument, r.order.side, self.whole(1, r.lots + 1), price, self.whole(-5, 50))
        elif kind <= 13 and numbers:
            number = numbers[self.whole(0, len(numbers) - 1)]
            pair.release(number, self.whole(0, twin.open[number].lots + 1))
        elif kind == 14 and numbers:
            self.note([pair.exchange(numbers[self.whole(0, len(numbers) - 1)], self.order(), self.now)])
        elif kind == 15:
            pair.fill(0, self.whole(0, 2), self.whole(1, 2), self.whole(1, 5), self.whole(50, 200))
        elif kind == 16:
            self.reprice(self.whole(0, 2))
        elif kind == 17:
            self.now += self.whole(0, 8) * SECOND // 2
        elif kind == 18 and self.chance(0.3):
            pair.set_policy(self.policy())
        elif kind == 19 and self.chance(0.3):
            self.state()
            pair.set_instrument(self.whole(0, 2), self.facts())


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_gate_equals_its_twin(seed: int) -> None:
    world = World(seed)
    for _ in range(25):
        world.step()


def test_the_random_worlds_reach_every_reason() -> None:
    """Without this, the test above could agree about nothing."""
    found: Counter[DenialReason] = Counter()
    seed = 0
    while set(found) != set(DenialReason):
        assert seed < 300, f"never met: {set(DenialReason) - set(found)}"
        world = World(seed)
        for _ in range(10):
            world.step()
        found += world.reasons
        seed += 1


class Giants(World):
    """The same at the edge of what an account can hold: every product overflows int64 sooner or later."""

    def facts(self) -> InstrumentFacts:
        return InstrumentFacts(
            tick_value=self.among(1, self.whole(1, 2**20), self.whole(1, 2**50)),
            shortable=True,
            fee_ppm=self.among(0, 1_000_000),
            fee_per_lot=self.among(0, self.whole(0, MONEY_MAX)),
            var_ppm=1_000_000,
            max_notional=self.rarely(self.whole(0, MONEY_MAX)),
            margin_long_bps=self.among(0, 100_000),
        )

    def reprice(self, index: int) -> None:
        price = self.among(1, self.whole(1, 2**20), self.whole(1, PRICE_MAX))
        with suppress(InvalidValueError):
            self.pair.set_price(index, price, self.now)

    def hold(self, index: int, lots: int) -> None:
        with suppress(InvalidValueError):
            self.pair.set_position(index, lots)

    def order(self, *, plain: bool = False) -> Order:
        small = super().order(plain=plain)
        return replace(
            small,
            lots=self.among(self.whole(1, 100), self.whole(1, 2**30), self.whole(1, LOTS_MAX)),
            price=self.among(self.whole(1, 100), self.whole(1, 2**30), self.whole(1, PRICE_MAX)),
            trigger=self.among(0, self.whole(1, PRICE_MAX)),
        )


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_nothing_overflows(seed: int) -> None:
    world = Giants(seed)
    pair = world.pair
    pair.set_account(cash=MONEY_MAX, day_start_equity=MONEY_MAX, peak_equity=-MONEY_MAX)
    for _ in range(15):
        with suppress(InvalidValueError):
            pair.check([world.order(), world.order()], world.now, mode=Mode(world.among(0, 1)))
        numbers = list(pair.twin.open)
        if numbers:
            number = numbers[world.whole(0, len(numbers) - 1)]
            r = pair.twin.open[number]
            lots = world.among(r.lots, world.whole(1, r.lots), min(r.lots + 1, LOTS_MAX))
            with suppress(InvalidValueError):
                pair.fill(number, r.order.instrument, r.order.side, lots, world.whole(1, PRICE_MAX))
        world.hold(world.whole(0, 2), world.whole(-LOTS_MAX, LOTS_MAX) >> world.whole(0, 48))
        world.reprice(world.whole(0, 2))
        assert max(map(abs, pair.gate.exposure().values())) <= MONEY_MAX


class Agents(World):
    """N agents who propose without knowing of each other, to an account of which every limit binds."""

    def __init__(self, seed: int, *, shortable: bool, costly: bool) -> None:
        self.shortable = shortable
        self.costly = costly
        super().__init__(seed, reservations=64)
        for index in range(3):
            self.reprice(index)
            self.pair.set_position(index, 0)
        cash = self.among(10**4, 10**5, 10**6)
        self.pair.set_account(cash=cash, day_start_equity=cash, peak_equity=cash)
        self.pair.set_policy(self.policy())

    def facts(self) -> InstrumentFacts:
        return InstrumentFacts(
            tick_value=self.whole(1, 12),
            position_limit=self.whole(10, 40),
            sector=self.whole(0, 1),
            shortable=self.shortable,
            fee_ppm=self.whole(0, 20_000) if self.costly else 0,
            fee_per_lot=self.whole(0, 3) if self.costly else 0,
            var_ppm=200_000,
            margin_short_bps=15_000,
        )

    def policy(self) -> Policy:
        return Policy(
            version=1,
            ts_ns=START,
            max_age_ns=10**6 * SECOND,
            price_max_age_ns=10**6 * SECOND,
            collar_bps=1_000,
            gross_limit=self.whole(20_000, 60_000),
            net_limit=self.whole(10_000, 50_000),
            sector_limit=self.whole(10_000, 40_000),
            concentration_limit=self.whole(8_000, 30_000),
            leverage_limit_bps=self.whole(5_000, 20_000),
            var_budget=self.whole(2_000, 10_000),
            cash_buffer=self.among(0, 500),
            margin_long_bps=5_000,
            margin_short_bps=15_000,
            fee_per_order=self.among(0, 17) if self.costly else 0,
        )

    def state(self) -> None:
        self.pair.set_trading_state(TradingState.ACTIVE)

    def venue_fills(self, number: int) -> None:
        """Part of an order, at its worst price or better, for no more than the worst fee."""
        pair, r = self.pair, self.pair.twin.open[number]
        lots = self.whole(1, r.lots)
        limit, better = self.limits[number], self.whole(0, 5)
        price = max(1, limit - better) if r.order.buy else limit + better
        value = lots * price * pair.twin.instruments[r.order.instrument].facts.tick_value
        proportional = self.whole(0, lots * (r.cost_unit if not r.order.buy else r.cash_unit - value // lots))
        fee = min(proportional if self.costly else 0, value)
        pair.fill(number, r.order.instrument, r.order.side, lots, price, fee)
        self.limits.pop(number) if number not in pair.twin.open else None

    def run(self, steps: int) -> None:
        self.limits: dict[int, int] = {}
        for _ in range(steps):
            pair, kind = self.pair, self.whole(0, 9)
            numbers = list(pair.twin.open)
            if kind <= 5 or not numbers:
                orders = [self.proposal() for _ in range(self.among(1, 1, 3, 6))]
                verdicts = pair.check(orders, self.now, mode=Mode(self.whole(0, 2)))
                for order, verdict in zip(orders, verdicts, strict=True):
                    if verdict.reservation:
                        self.limits[verdict.reservation] = pair.twin.worst_price(order)
            elif kind <= 8:
                self.venue_fills(numbers[self.whole(0, len(numbers) - 1)])
            else:
                number = numbers[self.whole(0, len(numbers) - 1)]
                pair.release(number, self.among(0, self.whole(1, pair.twin.open[number].lots)))
                if number not in pair.twin.open:
                    del self.limits[number]
            self.assert_within_limits()

    def proposal(self) -> Order:
        """Without costs also without slippage, so that equity moves in the account's favour only."""
        order = self.order(plain=True)
        if self.costly:
            return order if self.chance(0.7) else replace(order, type=OrderType.MARKET, time_in_force=TimeInForce.IOC)
        mark = self.pair.twin.instruments[order.instrument].mark
        away = self.whole(0, 5)
        return replace(order, price=max(1, mark - away) if order.buy else mark + away)

    def assert_within_limits(self) -> None:
        pair, twin = self.pair, self.pair.twin
        policy = twin.policy
        assert policy is not None
        e = pair.gate.exposure()
        held = {k: i.position * i.unit for k, i in twin.instruments.items()}
        # What is open can at worst become, and so what is held.
        assert sum(map(abs, held.values())) <= e["gross"] <= twin.limit("gross_limit")
        assert policy.var_use + e["var_open"] <= twin.limit("var_budget")
        for index, i in twin.instruments.items():
            assert i.facts.position_limit is not None
            assert abs(i.position) <= twin.worst(index) <= i.facts.position_limit
            assert abs(held[index]) <= twin.worst(index) * i.unit <= twin.limit("concentration_limit")
        for sector in (0, 1):
            inside = [k for k, i in twin.instruments.items() if i.facts.sector == sector]
            assert sum(twin.worst(k) * twin.instruments[k].unit for k in inside) <= twin.limit("sector_limit")
        if not self.shortable:
            assert min(i.position for i in twin.instruments.values()) >= 0
            assert sum(held.values()) <= e["net_long"] <= twin.limit("net_limit")
            # No buy is a reduction here, so nothing was let through that the cash does not cover.
            assert e["cash"] - e["reserved_cash"] >= policy.cash_buffer
        if not self.costly:
            assert e["margin"] <= pair.gate.equity
            assert policy.leverage_limit_bps is not None
            assert e["gross"] <= pair.gate.equity // 10_000 * policy.leverage_limit_bps + 10_000 * 20


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shortable=st.booleans(), costly=st.booleans())
def test_agents_together_cannot_overexpose_the_account(seed: int, shortable: bool, costly: bool) -> None:
    Agents(seed, shortable=shortable, costly=costly).run(20)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_reductions_always_pass_the_risk_limits(seed: int) -> None:
    """Whatever the limits, the losses, the age of the policy and the kill ladder short of HALTED."""
    world = World(seed, reservations=64)
    pair, twin = world.pair, world.pair.twin
    for _ in range(8):
        world.step()
    for number in list(twin.open):
        pair.release(number)
    index = world.whole(0, 2)
    pair.set_instrument(index, InstrumentFacts(tick_value=world.whole(1, 12), position_limit=1, fee_ppm=20_000))
    pair.set_position(index, world.whole(1, 40) * world.among(-1, 1))
    pair.set_price(index, 100, world.now)
    pair.set_policy(
        Policy(
            version=1,
            ts_ns=0,
            max_age_ns=0,
            price_max_age_ns=0,
            gross_limit=0,
            net_limit=0,
            sector_limit=0,
            concentration_limit=0,
            var_budget=0,
            leverage_limit_bps=1,
            daily_loss_limit=0,
            drawdown_limit=0,
            cash_buffer=10**9,
            margin_long_bps=100_000,
            margin_short_bps=100_000,
            burst_orders=1,
            max_open_orders=1,
        )
    )
    pair.set_trading_state(TradingState(world.whole(1, 4)))
    pair.set_status(caught_up=world.chance(0.5), reconciling=world.chance(0.5))
    held = twin.instruments[index].position
    side = Side.SELL if held > 0 else Side.BUY
    left = abs(held)
    while left:
        lots = world.whole(1, left)
        order = Order(instrument=index, side=side, type=OrderType.MARKET, lots=lots, flags=OrderFlag.REDUCE_ONLY)
        assert pair.check([order], world.now)[0].lots == lots
        left -= lots
    # All of it is on its way out: one lot more would flip the position.
    order = Order(instrument=index, side=side, type=OrderType.MARKET, lots=1)
    assert pair.check([order], world.now)[0].lots == 0


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), state=st.sampled_from([2, 3, 4]))
def test_a_reduce_only_state_never_flips_or_grows_a_position(seed: int, state: int) -> None:
    world = World(seed)
    pair, twin = world.pair, world.pair.twin
    pair.set_trading_state(TradingState(state))
    before = {index: i.position for index, i in twin.instruments.items()}
    for _ in range(25):
        orders = [world.order(plain=True) for _ in range(world.whole(1, 4))]
        pair.check(orders, world.now, mode=Mode(world.whole(0, 2)))
        for number in list(twin.open):
            if world.chance(0.5):
                r = twin.open[number]
                pair.fill(number, r.order.instrument, r.order.side, world.whole(1, r.lots), 100)
        for index, i in twin.instruments.items():
            assert min(0, before[index]) <= i.position <= max(0, before[index])
            before[index] = i.position


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_replay_and_a_restored_snapshot_give_the_same_state(seed: int) -> None:
    first, second = World(seed), World(seed)
    for k in range(20):
        if k == 10:
            saved = first.pair.gate.snapshot()
            for _ in range(5):
                first.pair.gate.check(as_rows([Order(0, 1, OrderType.MARKET, 1)]), first.now)
            first.pair.gate.restore(saved)
        first.step()
        second.step()
        assert first.pair.gate.digest() == second.pair.gate.digest()


def shaken(random: np.random.Generator, count: int) -> Array:
    """GATE_ORDER rows of any bytes at all, of extreme values, and of orders that are nearly right."""
    rows = np.zeros(count, GATE_ORDER)
    shape = random.integers(3)
    if shape == 0:
        return np.frombuffer(random.bytes(rows.nbytes), GATE_ORDER).copy()
    for name in GATE_ORDER.names or ():
        kind = np.iinfo(GATE_ORDER[name])
        extremes = [kind.min, kind.max, 0, 1, 2, 3, 100, kind.max - 1]
        if shape == 2 and random.random() < 0.8:
            extremes = [1, 1, 2, 100 % (int(kind.max) + 1)]
        rows[name] = random.choice(np.array(extremes, GATE_ORDER[name]), count)
    return rows


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), mode=st.sampled_from(Mode))
def test_any_bytes_are_judged_or_refused_and_nothing_breaks(seed: int, mode: Mode) -> None:
    world = World(seed)
    gate = world.pair.gate
    for _ in range(20):
        before = gate.digest()
        rows = shaken(world.random, int(world.random.integers(0, 5)))
        try:
            verdicts = gate.check(rows, world.now, mode=mode)
        except InvalidValueError:
            assert gate.digest() == before, "a refused call changed the state"
            continue
        assert (verdicts["lots"] <= rows["lots"]).all()
        assert ((verdicts["lots"] > 0) == (verdicts["reservation"] > 0)).all()
        gate.restore(gate.snapshot())  # refuses sums that do not follow from what is held and reserved
        for handle in verdicts["reservation"][verdicts["lots"] > 0].tolist():
            gate.release(handle)
