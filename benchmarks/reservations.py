"""Reservations over the wire: agents stream baskets to the execution service, each answer durable before it is sent.

The services run as processes (market data, venue, execution, the event log's server), the agents as tasks of
this one. Every agent proposes a basket, waits for its answer, and gives it back with the next one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import uvloop

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.type.v1 import money_pb2, trading_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from benchmarks.runner import Case
from mesh import topology
from mesh.connect import SocketSystem
from mesh.rundir import RunDir
from mesh.supervisor import Supervisor

E9 = 10**9
DAY_NS = 86_400 * E9
ACCOUNT = "bench"
INSTRUMENTS = ["AAPL", "MSFT", "IBM", "GOOG"]
SECONDS = float(os.environ.get("RESERVATION_SECONDS", "5"))
NEEDED = ("market_data", "venue", "execution")


@dataclass(frozen=True, kw_only=True)
class Result:
    """Granted reservations a second, and how long a basket waited, milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float


def _usd(units: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code="USD", units=units)


async def _open(system: SocketSystem) -> None:
    """An account with a price for every instrument and a generous policy."""
    execution = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    market = system.stub(venue_pb2_grpc.PaperMarketServiceStub, "venue")
    data = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    start = int(datetime(2009, 7, 1, tzinfo=UTC).timestamp()) * E9
    wanted = marketdata_pb2.ListTradingDaysRequest(
        start_ns=start, end_ns=start + 5 * DAY_NS, instrument_ids=INSTRUMENTS
    )
    close = (await data.ListTradingDays(wanted)).close_ns[0]

    def new_id() -> str:
        return str(uuid.uuid4())

    opening = execution_pb2.OpenAccountRequest(
        request_id=new_id(), account_id=ACCOUNT, cash=_usd(1_000_000_000), ts_event_ns=start
    )
    await execution.OpenAccount(opening)
    moved = await market.AdvanceMarket(
        venue_pb2.AdvanceMarketRequest(request_id=new_id(), to_ns=close, instrument_ids=INSTRUMENTS)
    )
    cut = marketdata_pb2.CutSnapshotRequest(
        request_id=new_id(), as_of_ns=close, instrument_ids=INSTRUMENTS, lookback_bars=20
    )
    snapshot = (await data.CutSnapshot(cut)).header.snapshot_id
    await execution.SyncMarket(
        execution_pb2.SyncMarketRequest(
            request_id=new_id(), account_id=ACCOUNT, snapshot_id=snapshot, min_venue_seq=moved.last_seq
        )
    )
    everything = _usd(2_000_000_000)
    policy = execution_pb2.RiskPolicy(
        version=1, ts_event_ns=close, max_age_ns=30 * DAY_NS, price_max_age_ns=30 * DAY_NS,
        trading_state=trading_pb2.TRADING_STATE_ACTIVE, gross_exposure_limit=everything,
        net_exposure_limit=everything, position_limit=everything, order_notional_limit=everything,
        order_notional_minimum=_usd(0), sector_limit=everything, daily_loss_limit=everything,
        drawdown_limit_bps=9_000, price_collar_bps=1_000, orders_per_second=4_000_000,
        leverage_limit_bps=20_000, concentration_limit_bps=10_000,
    )  # fmt: skip
    request = execution_pb2.ApplyRiskPolicyRequest(request_id=new_id(), account_id=ACCOUNT, policy=policy)
    await execution.ApplyRiskPolicy(request)


async def _agent(
    system: SocketSystem, name: str, basket: int, mode: execution_pb2.BasketMode.ValueType, until: float
) -> list[float]:
    """Seconds that each basket waited for its answer. Raises RuntimeError when one is denied."""
    execution = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    batch = execution_pb2.ReservationBatch(
        basket_mode=mode,
        instrument_ids=[INSTRUMENTS[i % len(INSTRUMENTS)] for i in range(basket)],
        sides=[trading_pb2.SIDE_BUY] * basket,
        quantity_e9=[(1 + i % 7) * E9 for i in range(basket)],
        price_bound_e9=[0] * basket,
        time_to_live_ns=DAY_NS,
    )
    answers: asyncio.Queue[list[int]] = asyncio.Queue()
    answers.put_nowait([])
    waited: list[float] = []
    sent = 0.0

    async def requests() -> AsyncIterator[execution_pb2.ReserveExposureRequest]:
        nonlocal sent
        number = 0
        while time.perf_counter() < until:
            held = await answers.get()
            number += 1
            sent = time.perf_counter()
            yield execution_pb2.ReserveExposureRequest(
                account_id=ACCOUNT, agent_id=name, batch_number=number, release_ids=held, batch=batch
            )

    async for response in execution.ReserveExposure(requests()):
        waited.append(time.perf_counter() - sent)
        held = list(response.verdicts.reservation_ids)
        if not all(held):
            raise RuntimeError(f"{name} was denied: reasons {set(response.verdicts.reasons)}")
        answers.put_nowait(held)
    return waited


async def measure(agents: int, basket: int, mode: execution_pb2.BasketMode.ValueType) -> Result:
    """One run of SECONDS on a system of its own."""
    mesh = topology.load().with_config("execution", {"remembered_orders": 4_000_000})
    mesh = replace(mesh, services=tuple(service for service in mesh.services if service.name in NEEDED))
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        run = RunDir.create(Path(folder) / "run")
        supervisor = Supervisor(run, mesh)
        await supervisor.start()
        systems = [SocketSystem(run) for _ in range(agents)]
        try:
            await _open(systems[0])
            gc.collect()
            begun = time.perf_counter()
            until = begun + SECONDS
            work = [_agent(system, f"agent-{i}", basket, mode, until) for i, system in enumerate(systems)]
            waited = np.array([seconds for times in await asyncio.gather(*work) for seconds in times])
            took = time.perf_counter() - begun
        finally:
            for system in systems:
                await system.close()
            await supervisor.stop()
            run.release()
    return Result(
        per_second=len(waited) * basket / took,
        p50_ms=float(np.quantile(waited, 0.50)) * 1e3,
        p99_ms=float(np.quantile(waited, 0.99)) * 1e3,
    )


class Runs:
    """The n-th reading of a figure is of the n-th run."""

    def __init__(self, agents: int, basket: int) -> None:
        self._agents, self._basket = agents, basket
        self._results: list[Result] = []
        self._read: dict[str, int] = {}

    def figure(self, name: str) -> Callable[[], float]:
        """A measure that reads one figure of the next run that it has not read yet."""

        def measure_one() -> float:
            turn = self._read.get(name, 0)
            self._read[name] = turn + 1
            while len(self._results) <= turn:
                mode = execution_pb2.BASKET_MODE_ALL_OR_NOTHING
                self._results.append(uvloop.run(measure(self._agents, self._basket, mode)))
            found: float = getattr(self._results[turn], name)
            return found

        return measure_one


def cases() -> list[Case]:
    """Baskets of 25 of 8 agents, and single proposals of 32."""
    baskets, single = Runs(8, 25), Runs(32, 1)
    label = "8 agents, baskets of 25, durable"
    return [
        Case(
            name=f"reservations, {label}", unit="1/s", ours=baskets.figure("per_second"), goal="ours >= 40000",
            better="higher",
        ),
        Case(name=f"wait p50, {label}", unit="ms", ours=baskets.figure("p50_ms")),
        Case(name=f"wait p99, {label}", unit="ms", ours=baskets.figure("p99_ms"), goal="ours <= 15"),
        Case(
            name="reservations, 32 agents, one at a time, durable", unit="1/s", ours=single.figure("per_second"),
            better="higher",
        ),
        Case(name="wait p99, 32 agents, one at a time, durable", unit="ms", ours=single.figure("p99_ms")),
    ]  # fmt: skip
