"""State: how fast reservations become durable, and how fast state is rebuilt from what was written.

A reservation is a decision of the gate on a new order (all rules, reserved), recorded as the event that the ledger
writes, and answered when it is durable. Callers ask again as soon as they have their answer. Over gRPC the whole
system runs as processes. Journals lie on this machine's disk (TMPDIR chooses which), every write synced.
"""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import uvloop
import yaml

from alphamesh.execution.v1 import events_pb2, execution_pb2, execution_pb2_grpc, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.type.v1 import money_pb2, trading_pb2
from benchmarks import synthetic_universe
from benchmarks.runner import Case
from benchmarks.servers import NatsCluster, PostgresServer, missing
from benchmarks.sessions import alphamesh
from execution_core.gate import Gate, InstrumentFacts, Policy
from execution_core.types import OrderType, Side, TimeInForce, TradingState
from mesh import topology
from mesh.connect import SocketSystem
from mesh.rundir import RunDir
from python_services.kit import ids, jetstream, streams
from python_services.kit.journal import ZERO_HASH, Event, Journal, Store, check_frame, open_store, verify
from python_services.kit.snapshots import fetch

T = TypeVar("T")
STREAM, INSTRUMENTS, MARK = "execution", 500, 18_950
START = 1_700_000_000 * 10**9
EVENTS = 40_000  # of the journal that state is rebuilt from
UNARY_CALLS = 1_000
AGENTS, LOOKBACK = 20, 60
STREAMS, BASKET, BASKETS = 8, 25, 4_000
LOTS = 10
CALLERS = 128  # times 25 is less than the gate holds open
REMEMBERED = 131_072  # orders within the rate limit's second: market time stands still here
KINDS = (("one reservation an event", 1), (f"baskets of {BASKET}", BASKET))
NAMES = [f"I{number:03}" for number in range(INSTRUMENTS)]


class Reservations:
    """A gate, and the journal of what it reserved: the decisions of one account."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._orders, self._batches = itertools.count(1), itertools.count(1)
        facts = InstrumentFacts(tick_value=10**7, position_limit=10**6, fee_ppm=500, var_ppm=20_000, shortable=True)
        policy = Policy(
            version=1, ts_ns=START, max_age_ns=10**18, price_max_age_ns=10**18, gross_limit=10**18, net_limit=10**18,
            sector_limit=10**18, concentration_limit=10**18, leverage_limit_bps=40_000, margin_long_bps=2_500,
            margin_short_bps=5_000, burst_orders=4_000, rate_orders=4_096,
        )  # fmt: skip
        self._gate = Gate(instruments=INSTRUMENTS)
        for index in range(INSTRUMENTS):
            self._gate.set_instrument(index, facts)
            self._gate.set_price(index, MARK, START, best_bid=MARK - 1, best_ask=MARK + 1)
        self._gate.set_account(cash=10**18, day_start_equity=10**18, peak_equity=10**18)
        self._gate.set_policy(policy)
        self._gate.set_trading_state(TradingState.ACTIVE)

    def decide(self, rows: int) -> list[int]:
        """Reserves for a batch of new proposals and records it; returns the reservations."""
        now, price_e9, quantity_e9 = START + next(self._batches) * 10**9, MARK * 10**7, LOTS * 10**9
        names, handles = [], []
        for number in itertools.islice(self._orders, rows):
            instrument = number % INSTRUMENTS
            mask, _, handle = self._gate.check_one(
                instrument, int(Side.BUY), int(OrderType.LIMIT), LOTS, now, MARK, 0, int(TimeInForce.DAY), 0, 0, number
            )
            if mask:
                raise RuntimeError(f"the gate denied order {number}: {mask:#x}")
            names.append(NAMES[instrument])
            handles.append(int(handle))
        event = events_pb2.ReservationGranted(
            account_id="demo",
            agent_id="agent-1",
            batch_number=now,
            batch=execution_pb2.ReservationBatch(
                basket_mode=execution_pb2.BASKET_MODE_ALL_OR_NOTHING,
                instrument_ids=names,
                sides=[trading_pb2.SIDE_BUY] * rows,
                quantity_e9=[quantity_e9] * rows,
                price_bound_e9=[price_e9] * rows,
                time_to_live_ns=10**12,
            ),
            verdicts=execution_pb2.ReservationVerdicts(
                reservation_ids=handles,
                granted_quantity_e9=[quantity_e9] * rows,
                reasons=[order_pb2.DENIAL_REASON_UNSPECIFIED] * rows,
                reason_masks=[0] * rows,
                expire_time_ns=now + 10**12,
            ),
            policy_version=1,
        )
        self.journal.add([Event(payload=event, ts_event_ns=now, ts_init_ns=now)])
        return handles

    async def reserve(self, rows: int = 1) -> None:
        """One durable batch, given back after the answer so that the gate does not fill up."""
        handles = self.decide(rows)
        await self.journal.commit()
        for handle in handles:
            self._gate.release(handle)


@dataclasses.dataclass(frozen=True)
class Load:
    """What came of one run."""

    rate: float
    p50_ms: float
    p99_ms: float


class Runs:
    """Runs of one kind of load: the n-th reading of any figure is of the n-th run."""

    def __init__(self, run: Callable[[], Load]) -> None:
        self._run = run
        self._loads: list[Load] = []

    def figure(self, name: str) -> Callable[[], float]:
        """A measure that reads one figure of the next run it has not read yet."""
        turns = itertools.count()

        def measure() -> float:
            turn = next(turns)
            while len(self._loads) <= turn:
                self._loads.append(self._run())
            return float(getattr(self._loads[turn], name))

        return measure


async def drive(work: Callable[[], Coroutine[Any, Any, None]], callers: int, calls: int) -> Load:
    """`callers` that each ask again as soon as they are answered, `calls` in all."""
    left, latencies = calls, []

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await work()
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    elapsed = time.perf_counter() - began
    ordered = sorted(latencies)
    return Load(
        rate=len(ordered) / elapsed,
        p50_ms=ordered[len(ordered) // 2] * 1e3,
        p99_ms=ordered[int(len(ordered) * 0.99)] * 1e3,
    )


def in_process(callers: int, calls: int, store: Callable[[Path], Path | Store]) -> Runs:
    """Callers beside the journal, a new one for each run."""

    def run() -> Load:
        with tempfile.TemporaryDirectory(prefix="alphamesh-bench-") as folder:

            async def work() -> Load:
                journal = Journal(store(Path(folder)), STREAM, "1", _fail)
                reservations = Reservations(journal)
                load = await drive(reservations.reserve, callers, calls)
                journal.close()
                return load

            return uvloop.run(work())

    return Runs(run)


def _fail(error: BaseException) -> None:
    raise RuntimeError(f"the journal failed: {error}")


# --- rebuilding ---------------------------------------------------------------------------------------


class Exposure:
    """State from events: reserved notional of each instrument, in exact integers."""

    def __init__(self) -> None:
        self.reserved_e9 = dict.fromkeys(NAMES, 0)
        self.reservations = 0

    def take(self, frame: Any) -> None:
        """Applies the events of a frame."""
        reserved, event = self.reserved_e9, events_pb2.ReservationGranted()
        for envelope in frame.events:
            event.ParseFromString(envelope.payload)
            batch = event.batch
            columns = zip(batch.instrument_ids, event.verdicts.granted_quantity_e9, batch.price_bound_e9, strict=True)
            for instrument_id, quantity_e9, price_e9 in columns:
                reserved[instrument_id] += quantity_e9 * price_e9 // 10**9
                self.reservations += 1


@cache
def written(rows: int) -> Path:
    """A journal of EVENTS batches of `rows` reservations, by CALLERS callers."""
    keep = tempfile.TemporaryDirectory(prefix="alphamesh-bench-")
    atexit.register(keep.cleanup)
    path = Path(keep.name) / "journal.db"

    async def work() -> None:
        journal = Journal(path, STREAM, "1", _fail)
        reservations = Reservations(journal)
        await drive(lambda: reservations.reserve(rows), CALLERS, EVENTS)
        journal.close()

    uvloop.run(work())
    return path


def opened() -> float:
    """Events a second: opening the journal, which checks every hash and every link."""
    path = written(1)
    began = time.perf_counter()
    journal = Journal(path, STREAM, "1", _fail)
    elapsed = time.perf_counter() - began
    journal.close()
    return EVENTS / elapsed


def rebuilt(rows: int) -> float:
    """Reservations a second: opening, then applying every event."""
    path = written(rows)
    began = time.perf_counter()
    journal = Journal(path, STREAM, "1", _fail)
    exposure = Exposure()
    for frame in journal.read(1):
        exposure.take(frame)
    elapsed = time.perf_counter() - began
    journal.close()
    assert exposure.reservations == EVENTS * rows
    return exposure.reservations / elapsed


def audited() -> float:
    """Events a second: computing the hash of every event again."""
    journal = Journal(written(1), STREAM, "1", _fail)
    began = time.perf_counter()
    verdict = verify(journal.read(1))
    elapsed = time.perf_counter() - began
    journal.close()
    assert (verdict.seq, verdict.problem) == (EVENTS, "")
    return EVENTS / elapsed


@cache
def cluster() -> NatsCluster:
    """Three servers that sync every write."""
    servers = NatsCluster()
    atexit.register(servers.close)
    return servers


async def copied(path: Path, log: jetstream.NatsEventLog) -> None:
    """Waits until the event log has the whole journal."""
    journal = Journal(path, STREAM, "1", _fail)
    log.attach(journal)
    async for frame in log.subscribe(STREAM, 1):
        if frame.first_seq + frame.count > EVENTS:
            break
    await log.close()
    journal.close()


@cache
def event_log(rows: int) -> NatsCluster:
    """Servers of their own with a copy of the journal."""
    path, servers = written(rows), NatsCluster()
    atexit.register(servers.close)

    async def work() -> None:
        await streams.declare(servers.url, {STREAM: 0}, 3)
        log = jetstream.NatsEventLog(servers.url, "writer", _fail)
        await log.start()
        await copied(path, log)

    asyncio.run(work())
    return servers


def view_rebuilt(rows: int) -> float:
    """Reservations a second: fetching frames from JetStream, checking every link, applying every event."""
    servers = event_log(rows)

    async def work() -> float:
        log = jetstream.NatsEventLog(servers.url, "reader", _fail)
        await log.start()
        exposure, seq, last = Exposure(), 0, ZERO_HASH
        began = time.perf_counter()
        reader = await log.open(STREAM, 1)
        while seq < EVENTS:
            for frame in await reader.take(256):
                problem = check_frame(frame, seq + 1, last)
                if problem:
                    raise RuntimeError(problem)
                exposure.take(frame)
                seq, last = seq + frame.count, frame.sha256
        elapsed = time.perf_counter() - began
        await reader.close()
        await log.close()
        assert exposure.reservations == EVENTS * rows
        return exposure.reservations / elapsed

    return uvloop.run(work())


# --- over gRPC ----------------------------------------------------------------------------------------


@cache
def running() -> RunDir:
    """The whole system as processes, on 500 synthetic instruments."""
    keep = tempfile.TemporaryDirectory(prefix="am-")
    folder = Path(keep.name)
    bars, facts = synthetic_universe.write(folder / "universe", instruments=INSTRUMENTS, days=100, seed=7)
    content = yaml.safe_load(topology.DEFAULT_PATH.read_text())
    content["services"]["market_data"]["config"] = {"datasets": [str(bars)], "instruments": str(facts)}
    content["services"]["execution"].setdefault("config", {})["remembered_orders"] = REMEMBERED
    path = folder / "topology.yaml"
    path.write_text(yaml.safe_dump(content))
    alphamesh("up", "--detach", "--data-dir", str(folder / "run"), "--topology", str(path))
    atexit.register(keep.cleanup)
    atexit.register(alphamesh, "down", "--data-dir", str(folder / "run"))
    return RunDir(folder / "run")


def _money(units: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code="USD", units=units)


def _policy(version: int, ts_ns: int) -> execution_pb2.RiskPolicy:
    wide = _money(10**9)
    return execution_pb2.RiskPolicy(
        version=version,
        ts_event_ns=ts_ns,
        max_age_ns=10**18,
        price_max_age_ns=10**18,
        trading_state=trading_pb2.TRADING_STATE_ACTIVE,
        gross_exposure_limit=wide,
        net_exposure_limit=wide,
        position_limit=wide,
        order_notional_limit=wide,
        order_notional_minimum=_money(1),
        sector_limit=wide,
        daily_loss_limit=wide,
        drawdown_limit_bps=10_000,
        price_collar_bps=10_000,
        orders_per_second=REMEMBERED,
        leverage_limit_bps=1_000_000,
        concentration_limit_bps=10_000,
    )


_accounts = itertools.count(1)


def unary() -> Load:
    """One caller: a policy for the gate, journalled with its answer, then the answer."""

    async def work() -> Load:
        system = SocketSystem(running())
        execution = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
        account, versions = f"bench-{next(_accounts)}", itertools.count(1)
        await execution.OpenAccount(
            execution_pb2.OpenAccountRequest(
                request_id=ids.request_id("bench", account), account_id=account, cash=_money(10**6), ts_event_ns=START
            )
        )

        async def call() -> None:
            version = next(versions)
            request_id, policy = ids.request_id("bench", account, version), _policy(version, START)
            await execution.ApplyRiskPolicy(
                execution_pb2.ApplyRiskPolicyRequest(request_id=request_id, account_id=account, policy=policy)
            )

        load = await drive(call, 1, UNARY_CALLS)
        await system.close()
        return load

    return uvloop.run(work())


async def cut(system: SocketSystem) -> marketdata_pb2.SnapshotHeader:
    """A snapshot of all instruments at the last close."""
    stub = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    names = synthetic_universe.names(INSTRUMENTS)
    span = marketdata_pb2.ListTradingDaysRequest(start_ns=1, end_ns=2**62, instrument_ids=names)
    days = await stub.ListTradingDays(span)
    made = await stub.CutSnapshot(
        marketdata_pb2.CutSnapshotRequest(
            request_id=ids.request_id("bench", "snapshot"),
            as_of_ns=days.close_ns[-1],
            instrument_ids=names,
            lookback_bars=LOOKBACK,
        )
    )
    return made.header


async def open_account(system: SocketSystem, account: str) -> list[str]:
    """Opens an account that may reserve at the marks of the last day; returns the instruments."""
    execution = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    header = await cut(system)
    steps = [ids.request_id("bench", account, step) for step in ("open", "sync", "policy")]
    await execution.OpenAccount(
        execution_pb2.OpenAccountRequest(
            request_id=steps[0], account_id=account, cash=_money(10**9), ts_event_ns=header.as_of_ns
        )
    )
    await execution.SyncMarket(
        execution_pb2.SyncMarketRequest(request_id=steps[1], account_id=account, snapshot_id=header.snapshot_id)
    )
    await execution.ApplyRiskPolicy(
        execution_pb2.ApplyRiskPolicyRequest(
            request_id=steps[2], account_id=account, policy=_policy(1, header.as_of_ns)
        )
    )
    return list(header.instrument_ids)


def streamed() -> Load:
    """Eight agents, each with a connection and a stream: baskets of 25, each giving back the one before."""

    async def agent(system: SocketSystem, account: str, number: int, names: list[str]) -> list[float]:
        asked: asyncio.Queue[execution_pb2.ReserveExposureRequest | None] = asyncio.Queue()

        async def requests() -> AsyncIterator[execution_pb2.ReserveExposureRequest]:
            while (request := await asked.get()) is not None:
                yield request

        stub = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
        answers = aiter(stub.ReserveExposure(requests()))
        held: list[int] = []
        latencies: list[float] = []
        batch = execution_pb2.ReservationBatch(
            basket_mode=execution_pb2.BASKET_MODE_ALL_OR_NOTHING,
            instrument_ids=names,
            sides=[trading_pb2.SIDE_BUY] * BASKET,
            quantity_e9=[10**9] * BASKET,
            price_bound_e9=[0] * BASKET,
            time_to_live_ns=10**15,
        )
        for basket in range(1, BASKETS // STREAMS + 1):
            began = time.perf_counter()
            asked.put_nowait(
                execution_pb2.ReserveExposureRequest(
                    account_id=account, agent_id=f"agent-{number}", batch_number=basket, release_ids=held, batch=batch
                )
            )
            answer = await anext(answers)
            latencies.append(time.perf_counter() - began)
            held = list(answer.verdicts.reservation_ids)
            if not all(held):
                raise RuntimeError(f"basket {basket} was denied: {set(answer.verdicts.reasons)}")
        asked.put_nowait(None)
        return latencies

    async def work() -> Load:
        account = f"bench-{next(_accounts)}"
        systems = [SocketSystem(running()) for _ in range(STREAMS)]
        names = await open_account(systems[0], account)
        baskets = [names[number * BASKET : (number + 1) * BASKET] for number in range(STREAMS)]
        began = time.perf_counter()
        latencies = await asyncio.gather(*(agent(s, account, n, baskets[n]) for n, s in enumerate(systems)))
        elapsed = time.perf_counter() - began
        for system in systems:
            await system.close()
        ordered = sorted(itertools.chain(*latencies))
        return Load(
            rate=len(ordered) * BASKET / elapsed,
            p50_ms=ordered[len(ordered) // 2] * 1e3,
            p99_ms=ordered[int(len(ordered) * 0.99)] * 1e3,
        )

    return uvloop.run(work())


def snapshots() -> float:
    """Milliseconds until the last of 20 agents, each with its own connection, has fetched, checked and opened one."""

    async def work() -> float:
        systems = [SocketSystem(running()) for _ in range(AGENTS)]
        stubs = [system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data") for system in systems]
        snapshot_id = (await cut(systems[0])).snapshot_id
        await asyncio.gather(*(fetch(stub, snapshot_id) for stub in stubs))  # connects
        times = []
        for _ in range(10):
            began = time.perf_counter()
            await asyncio.gather(*(fetch(stub, snapshot_id) for stub in stubs))
            times.append((time.perf_counter() - began) * 1e3)
        for system in systems:
            await system.close()
        return statistics.median(times)

    return uvloop.run(work())


# --- the table ----------------------------------------------------------------------------------------

_streams = itertools.count(1)


def _on_cluster(_folder: Path) -> Store:
    return open_store(cluster().url, Path(), f"bench{next(_streams)}", "bench")


@cache
def _postgres() -> PostgresServer:
    server = PostgresServer()
    atexit.register(server.close)
    return server


def _on_postgres(_folder: Path) -> Store:
    if reason := missing():
        raise RuntimeError(reason)
    return open_store(_postgres().dsn, Path(), STREAM, "bench")


def _loads(label: str, runs: Runs, rate: int | None, p99: float | None) -> list[Case]:
    return [
        Case(
            name=f"durable reservations, {label}", unit="1/s", ours=runs.figure("rate"), better="higher",
            goal=None if rate is None else f"ours >= {rate}",
        ),
        Case(
            name=f"durable reservation p99, {label}", unit="ms", ours=runs.figure("p99_ms"),
            goal=None if p99 is None else f"ours <= {p99:g}",
        ),
    ]  # fmt: skip


def cases() -> list[Case]:
    """Writing, rebuilding, over gRPC."""
    one, stream = Runs(unary), Runs(streamed)
    sqlite: Callable[[Path], Path] = lambda folder: folder / "journal.db"  # noqa: E731
    return [
        *_loads("32 callers", in_process(32, 40_000, sqlite), 25_000, 3),
        *_loads("256 callers", in_process(256, 100_000, sqlite), 45_000, 10),
        *_loads("32 callers, PostgreSQL", in_process(32, 20_000, _on_postgres), None, None),
        *_loads("32 callers, JetStream cluster of three", in_process(32, 20_000, _on_cluster), 9_000, None),
        Case(name="durable unary call over gRPC p50", unit="ms", ours=one.figure("p50_ms"), goal="ours <= 1.2"),
        Case(name="durable unary call over gRPC p99", unit="ms", ours=one.figure("p99_ms")),
        *_loads("8 agents, baskets of 25 over streams", stream, 40_000, 15),
        Case(name="journal opened and checked", unit="events/s", ours=opened, better="higher", goal="ours >= 1000000"),
        *(_rebuild("state rebuilt from it", rebuilt, kind, 1_000_000) for kind in KINDS),
        *(_rebuild("view rebuilt from JetStream", view_rebuilt, kind, 700_000) for kind in KINDS),
        Case(name="journal audited event by event", unit="events/s", ours=audited, better="higher"),
        Case(name="snapshot 500 x 60 to 20 agents over gRPC", unit="ms", ours=snapshots, goal="ours <= 20"),
    ]


def _rebuild(name: str, measure: Callable[[int], float], kind: tuple[str, int], goal: int) -> Case:
    label, rows = kind
    return Case(
        name=f"{name}, {label}", unit="reservations/s", ours=lambda: measure(rows), better="higher",
        goal=f"ours >= {goal}",
    )  # fmt: skip
