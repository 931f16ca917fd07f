"""Kill -9 of a venue with books, as a process, while orders come in: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.type.v1 import trading_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from mesh import topology
from mesh.connect import SocketSystem, System
from mesh.rundir import RunDir
from python_services.local import LocalSystem

from ..conftest import alphamesh
from .conftest import new_id
from .test_venue_book import Pit, limit_order

SERVICES = ("market_data", "venue", "execution")
OPERATOR = {
    "market_data": ["alphamesh.marketdata.v1.MarketDataService/*"],
    "venue": ["alphamesh.venue.v1.VenueService/*", "alphamesh.venue.v1.PaperMarketService/*"],
    "execution": ["alphamesh.execution.v1.ExecutionService/*"],
}
PATIENCE_S = 60
E9 = 10**9
CENT = 10_000_000
REQUESTS = 240
KILLS = (60, 150)


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    """The default topology cut down to execution and a venue with books."""
    document = yaml.safe_load(topology.DEFAULT_PATH.read_text())
    document["services"] = {name: document["services"][name] for name in SERVICES}
    document["services"]["venue"]["config"]["market"] = "book"
    document["clients"] = {"operator": {"calls": OPERATOR}}
    del document["edge"], document["tracing"]  # they name services that are not here
    if "streams" in document["event_log"]:
        document["event_log"]["streams"] = {name: {} for name in SERVICES}
    path = tmp_path / "topology.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def up(mesh: Path) -> Iterator[RunDir]:
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        path = Path(folder) / "run"
        started = alphamesh("up", "--detach", "--data-dir", path, "--topology", mesh)
        assert started.returncode == 0, started.stderr
        yield RunDir(path)
        stopped = alphamesh("down", "--data-dir", path)
        assert stopped.returncode == 0, stopped.stderr


def requests() -> Sequence[tuple[str, Any]]:
    """(method, request) of four accounts that trade with each other; the same every time."""
    source = random.Random(11)
    made: list[tuple[str, Any]] = []
    for number in range(REQUESTS):
        request_id = str(uuid.UUID(int=source.getrandbits(128), version=4))
        account = f"account-{source.randrange(4)}"
        if number % 10 == 9:
            identifiers = [f"{source.randrange(number)}.{leg}" for leg in range(3)]
            cancel = venue_pb2.CancelOrdersRequest(
                request_id=request_id, account_id=account, client_order_ids=identifiers
            )
            made.append(("CancelOrders", cancel))
            continue
        orders = [
            venue_pb2.VenueOrder(
                client_order_id=f"{number}.{leg}",
                account_id=account,
                instrument_id=source.choice(["IBM", "MSFT"]),
                side=source.choice([trading_pb2.SIDE_BUY, trading_pb2.SIDE_SELL]),
                order_type=trading_pb2.ORDER_TYPE_ICEBERG if leg == 2 else trading_pb2.ORDER_TYPE_LIMIT,
                time_in_force=trading_pb2.TIME_IN_FORCE_GTC,
                quantity_e9=source.randrange(1, 50) * E9,
                display_quantity_e9=E9 if leg == 2 else None,
                price_e9=(10_000 + source.randrange(-5, 6)) * CENT,
                ts_init_ns=number + 1,
            )
            for leg in range(3)
        ]
        made.append(("SubmitOrders", venue_pb2.SubmitOrdersRequest(request_id=request_id, orders=orders)))
    return made


async def play(system: System, run: RunDir | None = None) -> list[Any]:
    """Sends all requests, the same one again while the venue is away; its answers."""
    venue = system.stub(venue_pb2_grpc.VenueServiceStub, "venue")
    answers = []
    for number, (method, request) in enumerate(requests()):
        if run is not None and number in KILLS:
            asyncio.get_running_loop().call_later(0.002, kill, run, "venue")
        answers.append(await persist(getattr(venue, method), request))
    return answers


async def persist(call: Any, request: Any) -> Any:
    """The answer, asked for again while the service is away."""
    while True:
        try:
            return await call(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise
            await asyncio.sleep(0.02)


def kill(run: RunDir, name: str) -> None:
    os.kill(run.state()["processes"][name]["pid"], signal.SIGKILL)


async def outcome(system: System) -> tuple[list[venue_pb2.Report], list[Any]]:
    """All reports, and both books."""
    venue = system.stub(venue_pb2_grpc.VenueServiceStub, "venue")
    books = [await venue.GetBook(venue_pb2.GetBookRequest(instrument_id=name)) for name in ("IBM", "MSFT")]
    reports: list[venue_pb2.Report] = []
    async for response in venue.StreamReports(venue_pb2.StreamReportsRequest(from_seq=1)):
        reports += response.reports
        if len(reports) == books[0].applied_seq:
            return reports, books
    raise AssertionError("the stream ended")


async def test_a_killed_venue_goes_on_with_the_same_books(up: RunDir, mesh: Path, tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE_S), LocalSystem(tmp_path / "quiet", topology.load(mesh)) as quiet:
        expected_answers = await play(quiet)
        expected = await outcome(quiet)
    system = SocketSystem(up)
    try:
        async with asyncio.timeout(PATIENCE_S):
            answers = await play(system, up)
            reports, books = await outcome(system)
    finally:
        await system.close()
    assert up.state()["processes"]["venue"]["restarts"] == len(KILLS)
    assert answers == expected_answers
    assert reports == expected[0]
    assert books == expected[1]
    fills = [report for report in reports if report.trade_id]
    assert len(fills) > 200
    assert len({report.trade_id for report in fills}) == len(fills)


async def test_two_accounts_agree_with_the_tape_whatever_was_killed(up: RunDir) -> None:
    """Orders whose answer was lost are settled by the venue's reports, or by reconciliation after the last start."""
    source = random.Random(5)
    victims = {15: "venue", 30: "execution", 45: "venue"}
    system = SocketSystem(up)
    pit = Pit(system)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(PATIENCE_S):
            await pit.open()
            for number in range(60):
                account_id, sign = source.choice([("alpha", -1), ("beta", 1)])
                shares = sign * source.randrange(1, 40)
                order = limit_order(f"o{number}", shares, 104.5 + source.randrange(-2, 3) / 100)
                request = execution_pb2.SubmitOrdersRequest(
                    request_id=new_id(),
                    account_id=account_id,
                    orders=[order],
                    basket_mode=execution_pb2.BASKET_MODE_INDEPENDENT,
                )
                if number in victims:
                    asyncio.get_running_loop().call_later(0.002, kill, up, victims[number])
                await persist(pit.execution.SubmitOrders, request)
            kill(up, "execution")
            ledgers = {name: await settled(pit, name) for name in ("alpha", "beta")}
            tape = await pit.tape()
            for name, (account, orders, fills) in ledgers.items():
                states = {order.state for order in orders}
                assert not states & {order_pb2.ORDER_STATE_SUBMITTED, order_pb2.ORDER_STATE_UNRESOLVED}
                bought = sum(f.quantity_e9 if f.side == trading_pb2.SIDE_BUY else -f.quantity_e9 for f in fills)
                assert sum(position.quantity_e9 for position in account.positions) == bought
                listed = await pit.venue.ListOrders(venue_pb2.ListOrdersRequest(account_id=name))
                filled = {o.spec.client_order_id: o.cumulative_quantity_e9 for o in orders}
                for status in listed.orders:
                    assert filled[status.order.client_order_id] == status.cumulative_quantity_e9
    finally:
        await system.close()
    assert len(tape) > 10
    told = {fill.trade_id: (fill.price_e9, fill.quantity_e9) for _, _, fills in ledgers.values() for fill in fills}
    assert told == {f"{t.trade_id}-{side}": (t.price_e9, t.quantity_e9) for t in tape for side in "BS"}
    assert sum(len(fills) for _, _, fills in ledgers.values()) == 2 * len(tape)


async def settled(pit: Pit, name: str) -> Any:
    """(account, orders, fills) with everything that the venue has reported."""
    await persist(pit.execution.GetAccount, execution_pb2.GetAccountRequest(account_id=name))
    account = await pit.account(name)
    orders = (await pit.execution.ListOrders(execution_pb2.ListOrdersRequest(account_id=name))).orders
    return account, list(orders), await pit.fills(name)
