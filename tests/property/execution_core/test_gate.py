"""The gate equals its twin, and what it approves can never add up to more than a limit."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_core.gate import InstrumentFacts, Mode, Policy
from execution_core.types import DenialReason, OrderFlag, OrderType, Side, TimeInForce, TradingState
from tests.unit.execution_core.gate.pair import Pair
from tests.unit.execution_core.gate.twin import NEVER_RESTS, Order, Verdict

EXAMPLES = int(os.environ.get("ALPHAMESH_PROPERTY_EXAMPLES", "60"))
SECOND = 10**9
START = 1_700_000_000 * SECOND


class World:
    """A random account and a random stream of calls, all from one seeded generator."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.pair = Pair(instruments=4, reservations=self.among(6, 64, 64))
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
                self.pair.set_position(index, self.whole(-20, 20))
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

    def state(self) -> None:
        reduced = (TradingState.REDUCE_ONLY, TradingState.CANCEL_ALL, TradingState.FLATTEN, TradingState.HALTED)
        self.pair.set_trading_state(
            TradingState.ACTIVE if self.chance(0.9) else reduced[self.whole(0, len(reduced) - 1)]
        )
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
            client_order_hash=self.among(0, self.whole(1, 30), self.whole(1, 2**62)),
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
    for seed in range(60):
        world = World(seed)
        for _ in range(25):
            world.step()
        found += world.reasons
    assert set(found) == set(DenialReason)


assert NEVER_RESTS
assert Side
