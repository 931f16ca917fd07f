"""A snapshot of 500 instruments and 60 bars, from the cut to 20 agents that have checked its hash.

market_data runs as a process, started by the command line. Agents run as in the mesh: related ones are components of
one service, a process with a connection of its own (`python -m benchmarks.snapshots SOCKET FOLDER AGENTS`). Time counts
until the last agent has the arrays and its process has verified the content. Every round is a new snapshot, which
nobody can have kept. The same with a process for every agent, which is bound by 20 hashes on the cores there are; what
a host without shared memory gets; the cut itself; bars that come in; and bars as they were known at a past moment.
"""

from __future__ import annotations

import asyncio
import atexit
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import grpc
import numpy as np
import uvloop

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from benchmarks import synthetic_universe
from benchmarks.runner import Case
from benchmarks.servers.system import System
from python_services.kit import snapshots
from python_services.kit.client import open_channel

INSTRUMENTS, BARS, AGENTS, SERVICES, DAYS = 500, 60, 20, 5, 400
ROUNDS = 15
BATCH = 5_000
DAY_NS = 86_400 * 10**9
FIRST_CUT_NS = int(np.datetime64("2008-06-02T21:00:00").astype(np.int64)) * 10**9
TOPOLOGY = """version: 1
event_log: {{streams: {{market_data: {{maximum_mb: 0}}}}}}
services:
  market_data:
    config: {{datasets: [{folder}/bars.parquet], instruments: {folder}/instruments.yaml}}
clients:
  benchmark: {{calls: {{market_data: [alphamesh.marketdata.v1.MarketDataService/GetSnapshot]}}}}
"""


class Server:
    """market_data with the synthetic universe, up until this process ends."""

    def __init__(self) -> None:
        self._system = System(TOPOLOGY, instruments=INSTRUMENTS, days=DAYS)
        self.socket = self._system.run / "sock" / "market_data.sock"
        self.folder = snapshots.folder_of(self._system.run)
        self.loop = asyncio.new_event_loop()
        self.stub = self.loop.run_until_complete(connect(self.socket))
        self._cuts = 0

    async def cut(self) -> str:
        """A snapshot as of a moment that had none before."""
        self._cuts += 1
        request = marketdata_pb2.CutSnapshotRequest(
            request_id=str(uuid.uuid4()),
            as_of_ns=FIRST_CUT_NS + self._cuts * 1_000_000_000,
            instrument_ids=synthetic_universe.names(INSTRUMENTS),
            lookback_bars=BARS,
        )
        return (await self.stub.CutSnapshot(request)).header.snapshot_id

    def p50_ms(self, work: Callable[[], Awaitable[float]]) -> float:
        """Median of some rounds of `work`, which returns seconds."""

        async def rounds() -> list[float]:
            return [await work() for _ in range(ROUNDS)]

        return statistics.median(self.loop.run_until_complete(rounds())) * 1e3


async def connect(socket: Path) -> marketdata_pb2_grpc.MarketDataServiceAsyncStub:
    """A stub with a connection of its own."""
    channel = cast(grpc.aio.Channel, open_channel("benchmark", "market_data", socket))
    stub = marketdata_pb2_grpc.MarketDataServiceStub(channel)
    await stub.ListInstruments(marketdata_pb2.ListInstrumentsRequest(page_size=1))
    return stub


class Agents:
    """20 agents in some processes, which fetch what they are told and say when all of them have it."""

    def __init__(self, server: Server, processes: int) -> None:
        places = [str(server.socket), str(server.folder or "")]
        command = [sys.executable, "-m", "benchmarks.snapshots", *places, str(AGENTS // processes)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            for _ in range(processes)
        ]
        for process in self._processes:
            self._expect(process, "ready")
        atexit.register(self._stop)

    def deliver(self, snapshot_id: str) -> float:
        """Seconds until the last agent has it."""
        begun = time.perf_counter()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(snapshot_id + "\n")
        for process in self._processes:
            self._expect(process, snapshot_id)
        return time.perf_counter() - begun

    def _expect(self, process: subprocess.Popen[str], answer: str) -> None:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if said != answer:
            raise RuntimeError(f"an agent said {said!r} instead of {answer!r}")

    def _stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def cases() -> list[Case]:
    """Rows; the server and the agents start here."""
    server = Server()
    services, alone = Agents(server, SERVICES), Agents(server, AGENTS)

    async def to_services() -> float:
        return services.deliver(await server.cut())

    async def to_processes() -> float:
        return alone.deliver(await server.cut())

    async def in_the_answer() -> float:
        snapshot_id = await server.cut()
        begun = time.perf_counter()
        read(await snapshots.fetch(server.stub, snapshot_id))
        return time.perf_counter() - begun

    async def cut() -> float:
        begun = time.perf_counter()
        await server.cut()
        return time.perf_counter() - begun

    days = iter(range(10_000))

    async def ingest() -> float:
        request = corrections(await last_bars(), next(days))
        begun = time.perf_counter()
        answer = await server.stub.IngestBars(request)
        elapsed = time.perf_counter() - begun
        assert answer.accepted == BATCH, answer
        return elapsed

    async def last_bars() -> list[marketdata_pb2.Bar]:
        return list((await server.stub.ListBars(listing())).bars)

    async def as_known() -> float:
        request = listing()
        request.known_at_ns = request.end_ns
        begun = time.perf_counter()
        await server.stub.ListBars(request)
        return time.perf_counter() - begun

    shape = f"{INSTRUMENTS} x {BARS}"
    return [
        Case(
            name=f"snapshot {shape} to {AGENTS} agents in {SERVICES} services, verified, p50",
            unit="ms",
            ours=lambda: server.p50_ms(to_services),
            goal="ours <= 20",
        ),
        Case(
            name=f"snapshot {shape} to {AGENTS} agents, a process each, verified, p50",
            unit="ms",
            ours=lambda: server.p50_ms(to_processes),
        ),
        Case(
            name=f"snapshot {shape} in the answer, as for another host, p50",
            unit="ms",
            ours=lambda: server.p50_ms(in_the_answer),
        ),
        Case(name=f"cut of a snapshot {shape}, durable, p50", unit="ms", ours=lambda: server.p50_ms(cut)),
        Case(name=f"ingest {BATCH} corrections, durable, p50", unit="ms", ours=lambda: server.p50_ms(ingest)),
        Case(name=f"{BATCH} bars as known at a past moment, p50", unit="ms", ours=lambda: server.p50_ms(as_known)),
    ]


def listing() -> marketdata_pb2.ListBarsRequest:
    """The first ten days of all instruments."""
    days = synthetic_universe.trading_days(11)
    start, end = (int(day.astype("datetime64[s]").astype(np.int64)) * 10**9 for day in (days[0], days[10]))
    return marketdata_pb2.ListBarsRequest(
        instrument_ids=synthetic_universe.names(INSTRUMENTS), start_ns=start, end_ns=end
    )


def corrections(bars: list[marketdata_pb2.Bar], number: int) -> marketdata_pb2.IngestBarsRequest:
    """Another volume for each bar, known long after every cut."""
    known_at_ns = FIRST_CUT_NS + 3_000 * DAY_NS + number
    return marketdata_pb2.IngestBarsRequest(
        request_id=str(uuid.uuid4()),
        stream="vendor",
        bars=[
            marketdata_pb2.BarVersion(
                instrument_id=bar.instrument_id,
                ts_event_ns=bar.ts_event_ns,
                ts_open_ns=bar.ts_open_ns,
                known_at_ns=known_at_ns,
                open_e9=bar.open_e9,
                high_e9=bar.high_e9,
                low_e9=bar.low_e9,
                close_e9=bar.close_e9,
                volume_e9=bar.volume_e9 + (number + 1) * 10**9,
            )
            for bar in bars[:BATCH]
        ],
    )


def read(snapshot: snapshots.Snapshot) -> str:
    """Every column, which is checked when it is read first."""
    for name in snapshots.FLOAT_COLUMNS:
        getattr(snapshot, name)
    return snapshot.data_sha256


async def service(socket: Path, folder: Path | None, agents: int) -> None:
    """Its agents get each snapshot named on a line of the input; the name is repeated when all have it."""
    stub = await connect(socket)
    clients = [snapshots.SnapshotClient(stub, folder) for _ in range(agents)]
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while line := (await lines.readline()).decode().strip():
        got = await asyncio.gather(*(client.get(line) for client in clients))
        print([read(snapshot) for snapshot in got][-1], flush=True)


if __name__ == "__main__":
    uvloop.run(service(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2] else None, int(sys.argv[3])))
