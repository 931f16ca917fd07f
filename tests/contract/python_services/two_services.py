"""market_data and technical_agent in one process over the local transport, as they run in a session."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alphamesh.agent.v1 import agent_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from mesh import topology
from python_services.local import LocalSystem

UNIVERSE = ("AAPL", "MSFT", "IBM", "GOOG")
CLOSE_2009_07_01 = int(datetime(2009, 7, 1, 20, tzinfo=UTC).timestamp()) * 10**9


def system(run_dir: Path, **configs: Mapping[str, Any]) -> LocalSystem:
    """The two services with the topology's configuration, changed where `configs` says so."""
    whole = topology.load()
    for name, changes in configs.items():
        whole = whole.with_config(name, changes)
    wanted = tuple(service for service in whole.services if service.name in ("market_data", "technical_agent"))
    return LocalSystem(run_dir, dataclasses.replace(whole, services=wanted))


def market_data(running: LocalSystem) -> marketdata_pb2_grpc.MarketDataServiceAsyncStub:
    """A stub; its annotation makes calls awaitable for the type checker."""
    stub: marketdata_pb2_grpc.MarketDataServiceAsyncStub = running.stub(
        marketdata_pb2_grpc.MarketDataServiceStub, "market_data"
    )
    return stub


def agents(running: LocalSystem) -> agent_pb2_grpc.AgentServiceAsyncStub:
    """As `market_data`."""
    stub: agent_pb2_grpc.AgentServiceAsyncStub = running.stub(agent_pb2_grpc.AgentServiceStub, "technical_agent")
    return stub


def cut_request(
    as_of_ns: int = CLOSE_2009_07_01, instrument_ids: Sequence[str] = UNIVERSE, lookback_bars: int = 126
) -> marketdata_pb2.CutSnapshotRequest:
    """A request with a key of its own."""
    return marketdata_pb2.CutSnapshotRequest(
        request_id=str(uuid.uuid4()),
        as_of_ns=as_of_ns,
        instrument_ids=instrument_ids,
        lookback_bars=lookback_bars,
    )
