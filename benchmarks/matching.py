"""The matching engine: cost of a command in batches and alone, tail latency, auction, against other engines.

The flow is 60 % passive limit orders, 30 % cancels of live orders and 10 % immediate orders that reach through
the touch and take three to four orders on average, so that about 2,000 orders stay live. Every engine must
produce the same trades. nanobook 0.19.2 hangs on it (an order that reaches a level with canceled orders in it
may never return), so it is met on a flow without cancels: 70 % passive orders, 30 % immediate ones.
Times are CPU time, since the machine is shared. Peers, each in its own environment, from `make bench-peers`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from benchmarks.runner import Case
from execution_core.jit import kernel
from execution_core.matching import MatchingEngine
from execution_core.matching.kernels import execute
from execution_core.matching.layout import BOOK, PRICE_LEVELS
from execution_core.types import COMMAND, CommandKind, MatchEventKind, OrderType, SessionPhase, TimeInForce

ROOT = Path(__file__).resolve().parent
ENVIRONMENTS = ROOT.parent / ".bench"
COMMANDS, BATCH, LIVE = 102_400, 1024, 2_000
MIDDLE = PRICE_LEVELS // 2
NEW, CANCEL = int(CommandKind.NEW), int(CommandKind.CANCEL)
NANOBOOK = ("nanobook", "matching_nanobook.py")
IOC, GTC = int(TimeInForce.IOC), int(TimeInForce.GTC)


class Flow(NamedTuple):
    """The same commands for us (COMMAND) and for the peers (int64 rows), and the digest of their trades."""

    commands: npt.NDArray[np.void]
    rows: npt.NDArray[np.int64]
    trades: str


def make_flow(count: int, seed: int, cancels: float, immediates: float) -> Flow:
    """Draw commands while an engine runs them, since a cancel must name a live order."""
    draw = np.random.Generator(np.random.SFC64(seed))
    choice, pick = draw.random(count), draw.random(count)
    sides, sizes = draw.integers(1, 3, count), draw.integers(1, 101, count)
    away = draw.geometric(0.12, count)
    engine = MatchingEngine()
    commands = np.zeros(count, COMMAND)
    rows = np.zeros((count, 6), np.int64)
    live: list[int] = []
    place: dict[int, int] = {}
    number: dict[int, int] = {}
    fills: list[tuple[int, int]] = []
    for index in range(count):
        row = commands[index]
        row["client_tag"], row["account"], row["ts_event_ns"] = index, 0, index + 1
        if choice[index] < cancels and live:
            order_id = live[int(pick[index] * len(live))]
            row["kind"], row["order_id"] = CANCEL, order_id
            rows[index] = (CANCEL, 0, 0, 0, 0, number[order_id])
        else:
            bids, asks = engine.depth(1, 1), engine.depth(2, 1)
            bid = int(bids["price"][0]) if len(bids) else MIDDLE - 1
            ask = int(asks["price"][0]) if len(asks) else MIDDLE + 1
            side, size = int(sides[index]), int(sizes[index])
            immediate = choice[index] < cancels + immediates
            if immediate:
                size *= 6 if len(live) > LIVE else 2
                price = ask + 20 if side == 1 else bid - 20
            else:
                price = ask - int(away[index]) if side == 1 else bid + int(away[index])
            row["kind"], row["side"], row["order_type"] = NEW, side, OrderType.LIMIT
            row["time_in_force"] = IOC if immediate else GTC
            row["price"], row["quantity"] = price, size
            rows[index] = (NEW, side, price, size, immediate, 0)
        for event in engine.process(commands[index : index + 1]).events:
            order_id, kind = int(event["order_id"]), int(event["kind"])
            if kind == MatchEventKind.FILL and event["liquidity"] == 1:
                fills.append((int(event["price"]), int(event["quantity"])))
            if kind == MatchEventKind.ACCEPTED:
                number[order_id], place[order_id] = index, len(live)
                live.append(order_id)
            elif event["leaves"] == 0 and order_id in place:
                hole, last = place.pop(order_id), live.pop()
                if last != order_id:
                    live[hole], place[last] = last, hole
    return Flow(commands, rows, digest(np.array(fills, np.int64)))


def digest(trades: npt.NDArray[np.int64]) -> str:
    """Of (price, quantity) rows."""
    return hashlib.sha256(np.ascontiguousarray(trades).tobytes()).hexdigest()


@functools.cache
def flow(cancels: bool = True) -> Flow:
    made = make_flow(COMMANDS, 1, 0.3, 0.1) if cancels else make_flow(COMMANDS, 1, 0.0, 0.3)
    flow_file(cancels).parent.mkdir(exist_ok=True)
    flow_file(cancels).write_bytes(made.rows.tobytes())
    return made


def flow_file(cancels: bool) -> Path:
    return ENVIRONMENTS / f"matching-{'with' if cancels else 'without'}-cancels.bin"


def maker_fills(events: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    fills = events[(events["kind"] == MatchEventKind.FILL) & (events["liquidity"] == 1)]
    return np.stack([fills["price"], fills["quantity"]], axis=1)


def in_batches(cancels: bool = True) -> float:
    """CPU nanoseconds a command through `process`, events left in the outbox."""
    commands = flow(cancels).commands
    batches = [commands[start : start + BATCH].copy() for start in range(0, COMMANDS, BATCH)]
    engine = MatchingEngine()
    # One run before the clock starts, so that it does not count the first touch of the memory.
    for batch in batches:
        engine.process(batch)
    empty = MatchingEngine().snapshot()
    engine = MatchingEngine.restore(empty)
    trades = [maker_fills(engine.process(batch).events) for batch in batches]
    if digest(np.concatenate(trades)) != flow(cancels).trades:
        raise RuntimeError("the batches' trades differ from the single commands'")
    start_over(engine, empty)
    started = time.process_time_ns()
    for batch in batches:
        engine.process(batch)
    return (time.process_time_ns() - started) / COMMANDS


def start_over(engine: MatchingEngine, snapshot: npt.NDArray[np.uint8]) -> None:
    """Put an engine back without giving its memory away."""
    engine._memory.view(np.uint8)[: len(snapshot)] = snapshot


def one_by_one(cancels: bool = True) -> float:
    """CPU nanoseconds a command through `submit` and `cancel`, the loop's own cost included."""
    commands = flow(cancels).commands
    fields = ("side", "quantity", "price", "client_tag", "time_in_force", "order_id")
    columns = [commands[name].tolist() for name in fields]
    calls = list(zip((commands["kind"] == NEW).tolist(), *columns, strict=True))
    engine = MatchingEngine()
    empty = engine.snapshot()
    engine.process(commands)
    start_over(engine, empty)
    submit, cancel = engine.submit, engine.cancel
    started = time.process_time_ns()
    for new, side, quantity, price, tag, time_in_force, order_id in calls:
        if new:
            submit(side, quantity, price, 0, tag, tag, 2, time_in_force)
        else:
            cancel(order_id, 0, tag)
    return (time.process_time_ns() - started) / COMMANDS


def _cycles(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        read = builder.module.declare_intrinsic("llvm.readcyclecounter", (), ir.FunctionType(ir.IntType(64), ()))
        return builder.call(read, ())

    return types.int64(), generate


cycles: Any = intrinsic(_cycles)


# Not cached: the cache does not follow what a kernel outside the core is made of.
@kernel(cache=False)  # type: ignore[untyped-decorator]
def timed(memory: Any, commands: Any, ticks: Any) -> None:
    """Like run_batch with an outbox emptied after every command; the time-stamp counter's ticks for each."""
    book = memory.view(BOOK)[0]
    for index in range(len(commands)):
        book.event_count = 0
        before = cycles()
        execute(book, commands[index])
        ticks[index] = cycles() - before


@kernel(cache=False)  # type: ignore[untyped-decorator]
def read_ticks() -> int:
    return int(cycles())


@functools.cache
def nanoseconds_per_tick() -> float:
    """Against the wall clock."""
    read_ticks()
    started, first = time.perf_counter_ns(), read_ticks()
    while time.perf_counter_ns() - started < 200_000_000:
        pass
    elapsed = time.perf_counter_ns() - started
    return float(elapsed / (read_ticks() - first))


def percentile(rank: float) -> Callable[[], float]:
    """Nanoseconds that a command takes inside the kernel, at a rank in percent."""

    def measure() -> float:
        commands = flow().commands
        engine = MatchingEngine()
        empty = engine.snapshot()
        ticks = np.zeros(COMMANDS, np.int64)
        for _ in range(2):
            start_over(engine, empty)
            timed(engine._memory, commands, ticks)
        return float(np.percentile(ticks, rank)) * nanoseconds_per_tick()

    return measure


def peer(environment: str, script: str, cancels: bool, *arguments: str) -> Callable[[], float] | None:
    """A run of a peer's script over the flow; None where its environment is not installed."""
    python = ENVIRONMENTS / environment / "bin" / "python"
    if not python.exists():
        return None

    def measure() -> float:
        expected = flow(cancels).trades
        command = [str(python), str(ROOT / "peers" / script), str(flow_file(cancels)), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(f"{script} failed: {done.stderr.strip()[-2000:]}")
        answer = json.loads(done.stdout)
        if answer["trades"] != expected:
            raise RuntimeError(f"{script}: its trades differ from ours")
        return float(answer["ns"])

    return measure


def uncrossing() -> float:
    """Microseconds to price and trade an auction of 10,000 orders at 200 prices."""
    draw = np.random.Generator(np.random.SFC64(2))
    commands = np.zeros(10_000, COMMAND)
    commands["kind"], commands["order_type"], commands["time_in_force"] = NEW, OrderType.LIMIT, GTC
    commands["side"] = draw.integers(1, 3, 10_000)
    commands["price"] = MIDDLE + draw.integers(-100, 100, 10_000)
    commands["quantity"] = draw.integers(1, 101, 10_000)
    engine = MatchingEngine(phase=SessionPhase.OPENING_AUCTION, reference_price=MIDDLE)
    engine.process(commands)
    started = time.process_time_ns()
    events = engine.set_phase(SessionPhase.CONTINUOUS)
    elapsed = time.process_time_ns() - started
    if len(events) < 5_000:
        raise RuntimeError("the auction traded too little to be one")
    return elapsed / 1000


def snapshotting() -> float:
    """Milliseconds for a snapshot and its restoration, checks included."""
    engine = MatchingEngine()
    engine.process(flow().commands)
    started = time.process_time_ns()
    MatchingEngine.restore(engine.snapshot())
    return (time.process_time_ns() - started) / 1e6


def cases() -> list[Case]:
    """Rows against each peer that is installed; without peers the rows of ours alone."""
    mixed, without = "60/30/10 flow", "flow without cancels"
    rows = [
        Case(name=f"{mixed}, batches of 1024", unit="ns/command", ours=in_batches, goal="ours <= 50"),
        Case(name=f"{mixed}, p50 of a command", unit="ns", ours=percentile(50)),
        Case(name=f"{mixed}, p99 of a command", unit="ns", ours=percentile(99), goal="ours <= 250"),
        Case(name=f"{mixed}, p99.9 of a command", unit="ns", ours=percentile(99.9)),
        Case(name=f"{mixed}, one by one", unit="ns/command", ours=one_by_one, goal="ours <= 1000"),
        Case(name="auction of 10,000 orders", unit="us", ours=uncrossing),
        Case(name="snapshot and restore", unit="ms", ours=snapshotting),
    ]
    batches, calls = in_batches, one_by_one
    fewer_batches, fewer_calls = functools.partial(in_batches, False), functools.partial(one_by_one, False)
    for label, name, ours, run, goal in (
        (mixed, "sortedcontainers 2.4.0", batches, peer("sortedcontainers", "matching_python.py", True), 20),
        (mixed, "liquibook 2.0.1 (C++)", calls, peer("liquibook", "matching_liquibook.py", True), 1),
        (without, "nanobook 0.19.2 replay (Rust)", fewer_batches, peer(*NANOBOOK, False, "replay"), 5),
        (without, "nanobook 0.19.2 calls (Rust)", fewer_calls, peer(*NANOBOOK, False, "calls"), 1),
    ):
        if run is not None:
            how = "batches" if ours in (batches, fewer_batches) else "one by one"
            case = f"{label}, {how}, against {name.split()[0]}"
            rows.append(
                Case(name=case, unit="ns/command", ours=ours, peer=run, peer_name=name, goal=f"ratio >= {goal}")
            )
    return rows
