"""kill -9 while bars come in: what was acknowledged is there, what is repeated is taken once, no answer is half."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from mesh.connect import SocketSystem
from mesh.rundir import RunDir
from python_services.kit import texts
from tests.integration.conftest import alphamesh
from tests.unit.python_services.market_data.files import row, write

from .conftest import Trader, market_order

E9 = 10**9
DAYS = [f"2009-07-{day:02}" for day in range(6, 11)]
SESSION_NS = 23_400 * E9
BATCHES, BATCH, KILLS = 60, 40, 4


@pytest.fixture
def run() -> Iterator[RunDir]:
    """market_data alone, as a process with a supervisor."""
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        files = write(Path(folder), [row(name, day) for name in "ABC" for day in DAYS])
        config = f"{{datasets: {files['datasets']}, instruments: '{files['instruments']}'}}"
        topology = Path(folder) / "topology.yaml"
        topology.write_text(
            "version: 1\nsupervision: {preload: [python_services.kit.server], backoff_s: 0.05, maximum_restarts: 50}\n"
            "event_log: {streams: {market_data: {maximum_mb: 0}}}\n"
            f"services:\n  market_data:\n    config: {config}\n"
        )
        path = Path(folder) / "run"
        started = alphamesh("up", "--detach", "--data-dir", path, "--topology", topology)
        assert started.returncode == 0, started.stderr
        yield RunDir(path)
        assert alphamesh("down", "--data-dir", path).returncode == 0


@asynccontextmanager
async def connected(run: RunDir) -> AsyncIterator[marketdata_pb2_grpc.MarketDataServiceAsyncStub]:
    system = SocketSystem(run)
    try:
        yield system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")  # type: ignore[misc]
    finally:
        await system.close()


def batches(closes: list[int]) -> list[marketdata_pb2.IngestBarsRequest]:
    """Corrections, each known at a moment of its own, in no order of either time."""
    chance = random.Random(11)
    moments = chance.sample(range(1, 10**6), BATCHES * BATCH)
    requests = []
    for number in range(BATCHES):
        request = marketdata_pb2.IngestBarsRequest(request_id=str(uuid.uuid4()), stream="vendor")
        for known in moments[number * BATCH : (number + 1) * BATCH]:
            close, price = chance.choice(closes), chance.randrange(500, 5_000) * E9 // 100
            request.bars.add(
                instrument_id=chance.choice("ABC"), ts_event_ns=close, ts_open_ns=close - SESSION_NS,
                known_at_ns=closes[-1] + known * E9, open_e9=price, high_e9=price, low_e9=price, close_e9=price,
            )  # fmt: skip
        requests.append(request)
    return requests


AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def kill_soon(run: RunDir, after_s: float) -> None:
    """SIGKILL while a request is on its way."""
    await asyncio.sleep(after_s)
    os.kill(run.state()["processes"]["market_data"]["pid"], signal.SIGKILL)


async def test_killed_while_bars_come_in(run: RunDir) -> None:
    listing = marketdata_pb2.ListBarsRequest(instrument_ids=["A", "B", "C"], start_ns=0, end_ns=2**62)
    async with connected(run) as service:
        loaded = (await service.ListBars(listing)).bars
        requests = batches(sorted({bar.ts_event_ns for bar in loaded}))
        chance, repeated = random.Random(12), 0
        killed = {number * BATCHES // KILLS + chance.randrange(1, 10) for number in range(KILLS)}
        for number, request in enumerate(requests):
            killer = asyncio.create_task(kill_soon(run, chance.uniform(0, 0.01))) if number in killed else None
            while True:
                try:
                    answer = await service.IngestBars(request, timeout=5)
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() not in AWAY:
                        raise
                repeated += 1
                await asyncio.sleep(0.05)
            assert (answer.accepted, answer.duplicates) == (BATCH, 0)  # the first answer, however often it was asked
            if killer is not None:
                await killer
        assert repeated >= 1

        async def as_known(known_at_ns: int) -> dict[tuple[str, int], tuple[int, int]]:
            listing.known_at_ns = known_at_ns
            while True:
                try:
                    bars = (await service.ListBars(listing)).bars
                    return {(b.instrument_id, b.ts_event_ns): (b.known_at_ns, b.close_e9) for b in bars}
                except grpc.aio.AioRpcError as error:
                    if error.code() not in AWAY:
                        raise
                await asyncio.sleep(0.05)

        every = [(b.instrument_id, b.ts_event_ns, b.known_at_ns, b.close_e9) for r in requests for b in r.bars]
        for known_at_ns in random.Random(13).sample([known for _, _, known, _ in every], 20):
            twin = {(b.instrument_id, b.ts_event_ns): (b.known_at_ns, b.close_e9) for b in loaded}
            for name, close, known, price in sorted(every, key=lambda version: version[2]):
                if known <= known_at_ns:
                    twin[name, close] = known, price
            assert await as_known(known_at_ns) == twin
        assert run.state()["processes"]["market_data"]["restarts"] == KILLS


async def test_killed_while_texts_come_in(run: RunDir) -> None:
    """Every text that was acknowledged is there, once, in the snapshot that is cut after the last kill."""
    async with connected(run) as service:
        listing = marketdata_pb2.ListBarsRequest(instrument_ids=["A"], start_ns=0, end_ns=2**62)
        last = max(bar.ts_event_ns for bar in (await service.ListBars(listing)).bars)
        chance, sent = random.Random(14), 0
        for number in range(20):
            request = marketdata_pb2.IngestTextsRequest(request_id=str(uuid.uuid4()))
            for _ in range(20):
                moment = last + chance.randrange(1, 10**5) * E9
                request.texts.add(
                    text_id=str(sent), source=chance.choice(["wire", "blog"]), instrument_ids=[chance.choice("ABC")],
                    ts_event_ns=moment, known_at_ns=moment, text=f"text {sent}",
                )  # fmt: skip
                sent += 1
            killer = asyncio.create_task(kill_soon(run, chance.uniform(0, 0.01))) if number in (5, 12) else None
            while True:
                try:
                    answer = await service.IngestTexts(request, timeout=5)
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() not in AWAY:
                        raise
                await asyncio.sleep(0.05)
            assert (answer.accepted, answer.duplicates, answer.held) == (20, 0, sent)  # however often it was asked
            if killer is not None:
                await killer
        cut = marketdata_pb2.CutSnapshotRequest(
            request_id=str(uuid.uuid4()), as_of_ns=last + 10**5 * E9, instrument_ids=["A", "B", "C"], lookback_bars=2
        )
        while True:
            try:
                header = (await service.CutSnapshot(cut)).header
                request_texts = marketdata_pb2.GetTextsRequest(snapshot_id=header.snapshot_id)
                content = (await service.GetTexts(request_texts)).arrow_ipc
                break
            except grpc.aio.AioRpcError as error:
                if error.code() not in AWAY:
                    raise
            await asyncio.sleep(0.05)
        assert sorted(texts.decode(content).text.to_pylist()) == sorted(f"text {number}" for number in range(sent))
        assert hashlib.sha256(content).hexdigest() == header.texts_sha256
        assert run.state()["processes"]["market_data"]["restarts"] == 2


async def test_a_correction_that_becomes_known_later_changes_no_fill(trader: Trader) -> None:
    """The venue matches on the bar as it was known then, though another version is held already."""
    await trader.submit(market_order("mine", "AAPL", 10))
    day = trader.days[trader.today + 1]
    request = marketdata_pb2.IngestBarsRequest(request_id=str(uuid.uuid4()), stream="vendor")
    request.bars.add(
        instrument_id="AAPL", ts_event_ns=day, ts_open_ns=day - SESSION_NS, known_at_ns=day + 48 * 3_600 * E9,
        open_e9=300 * E9, high_e9=300 * E9, low_e9=300 * E9, close_e9=300 * E9, volume_e9=10**6 * E9,
    )  # fmt: skip
    assert (await trader.data.IngestBars(request)).accepted == 1
    await trader.next_day()
    order = await trader.order("mine")
    assert order.cumulative_quantity_e9 == 10 * E9
    assert 130 < order.cumulative_notional.units / 10 < 160
