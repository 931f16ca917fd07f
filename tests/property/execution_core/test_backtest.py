"""The backtest kernel against the account that trades through the public gate and venue."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_core.gate.facts import InstrumentFacts, Policy
from execution_core.gate.gate import Gate
from execution_core.simulation.backtest import KEEP, Sizing, open_gate, run
from execution_core.simulation.bars import fill_models
from execution_core.simulation.fees import FeeModel
from execution_core.types import BAR, Side
from tests.unit.execution_core.simulation.reference_backtest import DAY_NS, run_slowly

EXAMPLES = int(os.environ.get("ALPHAMESH_PROPERTY_EXAMPLES", "30"))
TICK = 10_000_000  # a cent
FEES = FeeModel(maker_rate_e8=10_000, taker_rate_e8=30_000, per_lot_nano=1_000_000, minimum_nano=5 * TICK)


def random_bars(generator: np.random.Generator, steps: int, instruments: int) -> Any:
    bars = np.zeros((steps, instruments), BAR)
    close = 5_000 + np.cumsum(generator.integers(-150, 151, (steps, instruments)), axis=0)
    close = np.maximum(close, 100)
    opened = np.maximum(close + generator.integers(-60, 61, close.shape), 1)
    bars["ts_event_ns"] = (1 + np.arange(steps))[:, None] * DAY_NS
    bars["open"], bars["close"] = opened, close
    bars["high"] = np.maximum(opened, close) + generator.integers(0, 40, close.shape)
    bars["low"] = np.maximum(np.minimum(opened, close) - generator.integers(0, 40, close.shape), 1)
    bars["volume"] = generator.integers(0, 5_000, close.shape)
    bars["ts_event_ns"][generator.random(close.shape) < 0.1] = 0
    return bars


def account(instruments: int, limited: bool, shortable: bool) -> Gate:
    facts = [
        InstrumentFacts(tick_value=TICK * (1 + k % 2), shortable=shortable, fee_ppm=400) for k in range(instruments)
    ]
    money = 10**9
    limits: dict[str, Any] = {}
    if limited:
        limits = {"gross_limit": 30_000 * money, "drawdown_limit": 3_000 * money, "daily_loss_limit": 1_500 * money}
    policy = Policy(version=1, ts_ns=0, max_age_ns=10**18, price_max_age_ns=3 * DAY_NS, **limits)
    return open_gate(facts, policy, cash=40_000 * money)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(Sizing), st.booleans(), st.booleans())
def test_equals_an_account_through_the_public_gate(seed: int, sizing: Sizing, limited: bool, shortable: bool) -> None:
    generator = np.random.default_rng(seed)
    steps, instruments, paths = 25, 4, 3
    bars = random_bars(generator, steps, instruments)
    size = 400 if sizing == Sizing.LOTS else 900_000
    targets = generator.integers(-size, size, (paths, steps, instruments))
    targets[generator.random(targets.shape) < 0.6] = KEEP
    models = fill_models(instruments, half_spread_ticks=1, impact_ppm=20_000)
    gate = account(instruments, limited, shortable)
    before = gate.digest()
    result = run(bars, targets, gate=gate, models=models, fees=FEES, sizing=sizing)
    assert gate.digest() == before
    values = [TICK * (1 + k % 2) for k in range(instruments)]
    for path in range(paths):
        twin = account(instruments, limited, shortable)
        equity, fills, denials = run_slowly(bars, targets[path], twin, values, models, FEES, sizing)
        assert result.equity[path].tolist() == equity
        mine = result.fills[result.fills["path"] == path]
        names = ["ts_event_ns", "price", "lots", "fee_nano", "instrument", "side"]
        assert [tuple(map(int, fill)) for fill in mine[names].tolist()] == fills
        assert result.denials[path].tolist() == denials[: result.denials.shape[1]]
        assert result.positions[path].tolist() == [twin.position(i) for i in range(instruments)]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4))
def test_money_adds_up_and_threads_change_nothing(seed: int, threads: int) -> None:
    generator = np.random.default_rng(seed)
    steps, instruments, paths = 20, 3, 5
    bars = random_bars(generator, steps, instruments)
    targets = generator.integers(-200, 200, (paths, steps, instruments))
    models = fill_models(instruments, half_spread_ticks=2)
    gate = account(instruments, False, True)
    result = run(bars, targets, gate=gate, models=models, fees=FEES)
    again = run(bars, targets, gate=gate, models=models, fees=FEES, threads=threads)
    assert result.equity.tobytes() == again.equity.tobytes()
    assert result.fills.tobytes() == again.fills.tobytes()
    for path in range(paths):
        fills = result.fills[result.fills["path"] == path]
        sign = np.where(fills["side"] == Side.BUY, 1, -1)
        value = TICK * (1 + fills["instrument"].astype(np.int64) % 2)
        cash = gate.cash - (sign * fills["price"] * fills["lots"] * value).sum() - fills["fee_nano"].sum()
        held = np.bincount(fills["instrument"], sign * fills["lots"], instruments).astype(np.int64)
        assert result.positions[path].tolist() == held.tolist()
        marks = [int(bars["close"][:, i][bars["ts_event_ns"][:, i] > 0][-1]) for i in range(instruments)]
        worth = sum(int(held[i]) * marks[i] * TICK * (1 + i % 2) for i in range(instruments))
        assert result.equity[path, -1] == cash + worth
