"""The pre-trade gate: nanoseconds an order, in batches and alone, against plain Python and nanobook.

Every order is new: random instrument of 500, side, price, quantity and id, and is judged by all 33 rules;
the approved ones are reserved, and released outside the clock. The plain Python gate is the
tests' twin, which works every sum out anew, so it gets 4 instruments and must give the same verdicts.
nanobook checks 4 rules and reserves nothing; both sides judge the same orders against 20 positions by
those rules and must pass the same ones.

Gate and book together: the flow of matching.py, in which one account sends the passive orders and the
cancels and another the immediate orders, both through their gates; the fills are carried into both
accounts, and the trades must be those of the flow. Peers, each in its own environment, from `make bench-peers`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.matching import NEW, digest, flow, maker_fills, peer
from benchmarks.runner import Case
from execution_core.gate import Gate, InstrumentFacts, Policy
from execution_core.gate.fused import GatedBook
from execution_core.matching import MatchingEngine
from execution_core.types import GATE_ORDER, VERDICT, OrderType, Side, TimeInForce, TradingState
from tests.unit.execution_core.gate.twin import Instrument, Order, Twin

PASSIVE, IMMEDIATE = 1, 2  # accounts
GTC, IOC = int(TimeInForce.GTC), int(TimeInForce.IOC)
HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".bench"
SECOND = 10**9
START = 1_700_000_000 * SECOND
MARK, TICK_VALUE = 18_950, 10_000_000  # cents, nano units
INSTRUMENTS, BATCH, BATCHES = 500, 256, 100
SMALL, SYMBOLS = 4, 20
EQUITY = 100_000_000 * SECOND

FACTS = InstrumentFacts(tick_value=TICK_VALUE, position_limit=10_000, fee_ppm=500, var_ppm=20_000, shortable=True)
POLICY = Policy(
    version=1,
    ts_ns=START,
    max_age_ns=10**15,
    price_max_age_ns=10**15,
    gross_limit=10**18,
    net_limit=10**18,
    sector_limit=10**18,
    concentration_limit=10**16,
    leverage_limit_bps=40_000,
    daily_loss_limit=10**16,
    drawdown_limit=10**16,
    var_budget=10**17,
    margin_long_bps=2_500,
    margin_short_bps=5_000,
    fee_per_order=10**9,
    burst_orders=4_000,
    rate_orders=4_096,
)

Records = npt.NDArray[np.void]


def open_gate(instruments: int, facts: InstrumentFacts = FACTS, policy: Policy = POLICY) -> Gate:
    """A gate with every limit set, marked and in funds."""
    gate = Gate(instruments=instruments)
    for index in range(instruments):
        gate.set_instrument(index, facts)
        gate.set_price(index, MARK, START, best_bid=MARK - 1, best_ask=MARK + 1)
    gate.set_account(cash=EQUITY, day_start_equity=EQUITY, peak_equity=EQUITY)
    gate.set_policy(policy)
    gate.set_trading_state(TradingState.ACTIVE)
    return gate


def make_orders(count: int, instruments: int, seed: int) -> Records:
    """Limit orders a few ticks behind the mark, so that none meets another."""
    draw = np.random.Generator(np.random.SFC64(seed))
    orders = np.zeros(count, GATE_ORDER)
    orders["instrument"] = draw.integers(0, instruments, count)
    orders["side"] = draw.integers(1, 3, count)
    orders["lots"] = draw.integers(1, 20, count)
    orders["price"] = MARK + np.where(orders["side"] == Side.BUY, -1, 1) * draw.integers(1, 6, count)
    orders["type"], orders["time_in_force"] = OrderType.LIMIT, TimeInForce.DAY
    orders["client_order_hash"] = draw.integers(1, 2**62, count)
    return orders


class Session:
    """A gate and its clock. Each batch comes 10 s after the one before, with ids never seen."""

    def __init__(self) -> None:
        self.gate = open_gate(INSTRUMENTS)
        self.batches = [make_orders(BATCH, INSTRUMENTS, seed) for seed in range(BATCHES)]
        self.out = np.zeros(BATCH, VERDICT)
        self.now = START
        self.draw = np.random.Generator(np.random.SFC64(99))

    def fresh(self, number: int) -> Records:
        orders = self.batches[number]
        orders["client_order_hash"] = self.draw.integers(1, 2**62, BATCH)
        self.now += 70 * SECOND
        return orders

    def release(self) -> None:
        assert (self.out["lots"] > 0).all()
        for handle in self.out["reservation"].tolist():
            self.gate.release(handle)


@cache
def session() -> Session:
    return Session()


def batch(rows: int, reserve: bool) -> float:
    """Nanoseconds an order in calls of so many orders."""
    s = session()
    times = []
    for number in range(BATCHES):
        orders = s.fresh(number)
        spent = 0
        for first in range(0, BATCH, rows):
            part, out = orders[first : first + rows], s.out[first : first + rows]
            started = time.perf_counter_ns()
            s.gate.check(part, s.now, reserve=reserve, out=out)
            spent += time.perf_counter_ns() - started
        times.append(spent / BATCH)
        if reserve:
            s.release()
    return statistics.median(times)


def denied() -> float:
    """Nanoseconds an order in batches of which every order breaks three rules."""
    s = session()
    times = []
    for number in range(BATCHES):
        orders = s.fresh(number).copy()
        orders["lots"] = 20_000
        orders["time_in_force"], orders["expire_ns"] = TimeInForce.GTD, 1
        started = time.perf_counter_ns()
        s.gate.check(orders, s.now, out=s.out)
        times.append((time.perf_counter_ns() - started) / BATCH)
        assert not s.out["lots"].any()
    return statistics.median(times)


def single() -> float:
    """Nanoseconds for one order given as numbers and reserved, from Python."""
    s = session()
    times = []
    check = s.gate.check_one
    for number in range(BATCHES):
        orders = s.fresh(number)
        fields = ("instrument", "side", "type", "lots", "price", "client_order_hash")
        rows = list(zip(*(orders[name].tolist() for name in fields), strict=True))
        now = s.now
        verdicts = []
        started = time.perf_counter_ns()
        for instrument, side, kind, lots, price, identity in rows:
            verdicts.append(check(instrument, side, kind, lots, now, price, 0, 1, 0, 0, identity))
        times.append((time.perf_counter_ns() - started) / BATCH)
        for mask, _, handle in verdicts:
            assert mask == 0
            s.gate.release(handle)
    return statistics.median(times)


@cache
def small() -> tuple[list[Order], list[tuple[int, int]]]:
    """Orders on few instruments, some of them to be denied, and the gate's verdicts."""
    rows = make_orders(BATCH, SMALL, 7)
    rows["lots"][::5] = 9_000
    orders = [Order(**{name: int(row[name]) for name in GATE_ORDER.names or ()}) for row in rows]
    verdicts = open_gate(SMALL).check(rows, START)
    return orders, verdicts[["mask", "lots"]].tolist()


def twin() -> float:
    """Nanoseconds an order of the plain Python gate, which must give the same verdicts."""
    orders, expected = small()
    gate = Twin(
        trading_state=TradingState.ACTIVE, cash=EQUITY, day_start_equity=EQUITY, peak_equity=EQUITY, policy=POLICY
    )
    for index in range(SMALL):
        gate.instruments[index] = Instrument(FACTS, mark=MARK, mark_ts_ns=START, best_bid=MARK - 1, best_ask=MARK + 1)
    started = time.perf_counter_ns()
    verdicts = gate.check(orders, START)
    elapsed = time.perf_counter_ns() - started
    assert [(verdict.mask, verdict.lots) for verdict in verdicts] == expected
    return elapsed / len(orders)


@cache
def common() -> tuple[Gate, Records, npt.NDArray[np.int64], dict[str, Any]]:
    """Orders at the mark against 20 positions, by the rules that both sides know."""
    facts = InstrumentFacts(tick_value=TICK_VALUE, max_notional=10**14)
    policy = Policy(version=1, ts_ns=START, max_age_ns=1, price_max_age_ns=1, concentration_limit=EQUITY // 500)
    gate = open_gate(SYMBOLS, facts, policy)
    draw = np.random.Generator(np.random.SFC64(5))
    held = draw.integers(0, 800, SYMBOLS)
    for index, lots in enumerate(held.tolist()):
        gate.set_position(index, lots)
    gate.set_account(cash=EQUITY, day_start_equity=0, peak_equity=0)
    orders = make_orders(BATCH, SYMBOLS, 3)
    orders["price"] = MARK
    orders["lots"] = draw.integers(1, 700, BATCH)
    options = {"position_pct": 0.002, "order_value_cents": 10**7, "equity_cents": EQUITY // 10**7}
    return gate, orders, held, options


def single_common() -> float:
    """Nanoseconds for one order without reserving, by the rules that nanobook knows too (and the rest)."""
    gate, orders, _, _ = common()
    fields = ("instrument", "side", "type", "lots", "price")
    rows = list(zip(*(orders[name].tolist() for name in fields), strict=True))
    check = gate.check_one
    started = time.perf_counter_ns()
    for instrument, side, kind, lots, price in rows:
        check(instrument, side, kind, lots, START, price, 0, 1, 0, 0, 0, 0, False)
    return (time.perf_counter_ns() - started) / BATCH


def single_nanobook() -> float:
    """Nanoseconds for one order in nanobook, which must pass the same ones."""
    gate, orders, held, options = common()
    python = ENVIRONMENTS / "nanobook" / "bin" / "python"
    if not python.exists():
        raise RuntimeError(f"no {python}: see the top of {__file__}")
    columns = [orders[name].tolist() for name in ("instrument", "side", "lots", "price")]
    request = options | {"orders": list(zip(*columns, strict=True)), "held": held.tolist()}
    script = HERE / "peers" / "gate_nanobook.py"
    done = subprocess.run([python, script], input=json.dumps(request), capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    ours = [bool(gate.check(orders[k : k + 1], START, reserve=False)["lots"][0]) for k in range(BATCH)]
    assert answer["passed"] == ours
    assert 0 < sum(ours) < BATCH
    return float(answer["ns"])


def open_floor() -> GatedBook:
    """A book and the gates of the two accounts that trade it."""
    facts = InstrumentFacts(tick_value=1_000, position_limit=2**40, fee_ppm=500, shortable=True)
    policy = Policy(version=1, ts_ns=START, max_age_ns=10**15, price_max_age_ns=10**15, drawdown_limit=10**18)
    gates = {}
    for account in (PASSIVE, IMMEDIATE):
        gate = open_gate(1, facts, policy)
        gate.set_price(0, int(flow().commands["price"][0]), START)
        gates[account] = (gate, 0)
    return GatedBook(MatchingEngine(), gates, taker_fee_ppm=333)


def trade_flow(floor: GatedBook, keep: bool = False) -> list[npt.NDArray[np.int64]]:
    """Sends every command of the flow; what makers traded, command by command, where it is to be kept."""
    kept = []
    submit, cancel = floor.submit, floor.cancel
    for number, (new, side, lots, price, at_once, order_id) in enumerate(calls()):
        if not new:
            events = cancel(PASSIVE, order_id, START + number)
        elif at_once:
            *_, events = submit(IMMEDIATE, side, lots, START + number, price, 2, IOC, 0, number + 1)
        else:
            *_, events = submit(PASSIVE, side, lots, START + number, price, 2, GTC, 0, number + 1)
        if keep:
            kept.append(maker_fills(events).copy())
    return kept


@cache
def calls() -> list[tuple[bool, int, int, int, bool, int]]:
    commands = flow().commands
    columns = [commands[name].tolist() for name in ("side", "quantity", "price")]
    at_once = (commands["time_in_force"] == IOC).tolist()
    return list(zip((commands["kind"] == NEW).tolist(), *columns, at_once, commands["order_id"].tolist(), strict=True))


def judged_and_matched() -> float:
    """CPU nanoseconds a command: gate, match, report, and the fills in both accounts."""
    floor = open_floor()
    trade_flow(floor)  # Touches all memory before the clock starts.
    started = time.process_time_ns()
    trade_flow(open_floor())
    return (time.process_time_ns() - started) / len(calls())


@cache
def trades_are_the_flows() -> bool:
    """Whether two gated accounts trade what the flow trades without gates."""
    trades = trade_flow(open_floor(), keep=True)
    return digest(np.concatenate(trades)) == flow().trades


def fused() -> float:
    if not trades_are_the_flows():
        raise RuntimeError("the gated accounts' trades differ from the flow's")
    return judged_and_matched()


def cases() -> list[Case]:
    """All 33 rules in every case."""
    return [
        Case(
            name="gate, match, report: one order from Python",
            unit="ns/command",
            ours=fused,
            peer=peer("sortedcontainers", "matching_python.py", True),
            peer_name="sortedcontainers 2.4.0, match alone",
            goal="ours <= 2000",
        ),
        Case(
            name=f"batch of {BATCH}, reserved",
            unit="ns/order",
            ours=lambda: batch(BATCH, True),
            peer=twin,
            peer_name="plain Python twin, 4 instruments",
            goal="ours <= 40",
        ),
        Case(name="batch of 16, reserved", unit="ns/order", ours=lambda: batch(16, True)),
        Case(name=f"batch of {BATCH}, only checked", unit="ns/order", ours=lambda: batch(BATCH, False)),
        Case(name=f"batch of {BATCH}, all denied", unit="ns/order", ours=denied),
        Case(name="one order as numbers, reserved", unit="ns", ours=single, goal="ours <= 700"),
        Case(name="one order as an array, reserved", unit="ns", ours=lambda: batch(1, True)),
        Case(
            name="one order as numbers, only checked",
            unit="ns",
            ours=single_common,
            peer=single_nanobook,
            peer_name="nanobook check_order, 4 rules",
            goal="ratio >= 2.5",
        ),
    ]
