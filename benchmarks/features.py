"""Features: the point-in-time join of a training set, and values for inference, in process and by RPC.

By RPC the two services run as processes, started by the command line, with 20 instruments of two years; each round asks
for another cut, which nobody can have kept.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from typing import cast

import grpc
import numpy as np

from alphamesh.feature.v1 import feature_pb2, feature_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from benchmarks import synthetic_universe
from benchmarks.runner import Case
from benchmarks.servers.system import System
from python_services.feature_store import historical, logic
from python_services.feature_store.bars import Bars
from python_services.feature_store.definitions import DAILY_TECHNICAL
from python_services.feature_store.joins import asof_join
from python_services.feature_store.online import Online
from python_services.kit.client import open_channel
from python_services.kit.instruments import list_instruments

INSTRUMENTS, DAYS, COLUMNS, ROWS = 20, 8_000, 30, 40_000
HELD_DAYS = 500
DAY_NS = 86_400 * 10**9
ROUNDS = 50
TOPOLOGY = """version: 1
event_log: {{streams: {{market_data: {{maximum_mb: 0}}, feature_store: {{maximum_mb: 0}}}}}}
services:
  market_data:
    config: {{datasets: [{folder}/bars.parquet], instruments: {folder}/instruments.yaml}}
  feature_store:
    calls:
      market_data: [alphamesh.marketdata.v1.MarketDataService/*, alphamesh.audit.v1.StateService/ReadEvents]
    reads: [market_data]
"""


class Server:
    """market_data and the feature store, up until this process ends."""

    def __init__(self) -> None:
        self._system = System(TOPOLOGY, instruments=INSTRUMENTS, days=HELD_DAYS)
        self.loop = asyncio.new_event_loop()
        self._cuts = itertools.count()
        self._last_ns = 0
        self._stub = self.loop.run_until_complete(self._connect())

    def p50_ms(self) -> float:
        """Median of GetOnlineFeatures, all instruments."""
        return statistics.median(self.loop.run_until_complete(self._rounds())) * 1e3

    async def _connect(self) -> feature_pb2_grpc.FeatureServiceAsyncStub:
        data = open_channel("benchmark", "market_data", self._system.run / "sock" / "market_data.sock")
        listed = await list_instruments(marketdata_pb2_grpc.MarketDataServiceStub(cast(grpc.aio.Channel, data)))
        self._last_ns = max(instrument.last_ts_ns for instrument in listed.values())
        channel = open_channel("benchmark", "feature_store", self._system.run / "sock" / "feature_store.sock")
        return feature_pb2_grpc.FeatureServiceStub(cast(grpc.aio.Channel, channel))

    async def _rounds(self) -> list[float]:
        taken = []
        for _ in range(ROUNDS):
            request = feature_pb2.GetOnlineFeaturesRequest(
                feature_set_version=DAILY_TECHNICAL.version,
                instrument_ids=synthetic_universe.names(INSTRUMENTS),
                known_at_ns=self._last_ns + next(self._cuts),
            )
            begun = time.perf_counter()
            await self._stub.GetOnlineFeatures(request)
            taken.append(time.perf_counter() - begun)
        return taken


def made_up(days: int, seed: int) -> Bars:
    """A random walk, known at its closes."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(0.01 * random.standard_normal(days).cumsum())
    opening = close * random.uniform(0.99, 1.01, days)
    high, low = np.maximum(opening, close) * 1.005, np.minimum(opening, close) * 0.995
    ones, ts = np.ones(days), np.arange(1, days + 1, dtype=np.int64) * DAY_NS
    volume = random.integers(10**5, 10**7, days).astype(np.float64)
    values = {"open": opening, "high": high, "low": low, "close": close, "volume": volume, "step": ones, "split": ones}
    return Bars(ts=ts, known=ts, values=values)


def cases() -> list[Case]:
    """Rows; the services start here."""
    random = np.random.default_rng(1)
    table_ns = np.tile(np.arange(1, DAYS + 1, dtype=np.int64) * DAY_NS, INSTRUMENTS)
    offsets = np.arange(INSTRUMENTS + 1, dtype=np.int64) * DAYS
    table = random.standard_normal((INSTRUMENTS * DAYS, COLUMNS))
    keys = random.integers(0, INSTRUMENTS, ROWS)
    cuts = random.integers(DAY_NS, DAYS * DAY_NS, ROWS)

    features = logic.of_code(DAILY_TECHNICAL)
    names = [f"I{i}" for i in range(INSTRUMENTS)]
    market = {name: made_up(DAYS, i) for i, name in enumerate(names)}
    logic.warm()
    online, now_ns = Online(features), DAYS * DAY_NS
    online.read(names, now_ns, market.__getitem__, 1)
    row_names, past = [names[key] for key in keys.tolist()], np.maximum(cuts, 200 * DAY_NS)

    def join() -> float:
        begun = time.perf_counter()
        asof_join(keys, cuts, offsets, table_ns, table)
        return (time.perf_counter() - begun) * 1e3

    def compute() -> float:
        begun = time.perf_counter()
        historical.rows(features, market, row_names, past)
        return (time.perf_counter() - begun) * 1e3

    def read() -> float:
        begun = time.perf_counter()
        for _ in range(1000):
            online.read(names, now_ns, market.__getitem__, 1)
        return (time.perf_counter() - begun) * 1e3  # microseconds each

    server = Server()
    width = len(features)
    return [
        Case(
            name=f"point-in-time join, {ROWS} rows x {COLUMNS} of {INSTRUMENTS} x {DAYS} days",
            unit="ms",
            ours=join,
            goal="ours <= 100",
        ),
        Case(name=f"the same rows x {width} computed from bars, none on disk", unit="ms", ours=compute),
        Case(
            name=f"online features, {INSTRUMENTS} x {width}, in process, p50", unit="us", ours=read, goal="ours <= 50"
        ),
        Case(
            name=f"online features, {INSTRUMENTS} x {width}, by RPC, p50",
            unit="ms",
            ours=server.p50_ms,
            goal="ours <= 1.5",
        ),
    ]
