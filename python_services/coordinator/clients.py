"""The services that a decision is made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alphamesh.agent.v1 import agent_pb2_grpc
from alphamesh.execution.v1 import execution_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from alphamesh.portfolio.v1 import portfolio_pb2_grpc
from alphamesh.risk.v1 import risk_pb2_grpc
from alphamesh.venue.v1 import venue_pb2_grpc
from python_services.kit.breaker import Breaker
from python_services.kit.context import Context
from python_services.kit.snapshots import SnapshotClient

from .config import Config


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Stubs by role, and what was cut."""

    snapshots: SnapshotClient
    market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub
    market: venue_pb2_grpc.PaperMarketServiceAsyncStub
    agents: Mapping[str, agent_pb2_grpc.AgentServiceAsyncStub]
    breakers: Mapping[str, Breaker]
    portfolio: portfolio_pb2_grpc.PortfolioServiceAsyncStub
    risk: risk_pb2_grpc.RiskServiceAsyncStub
    execution: execution_pb2_grpc.ExecutionServiceAsyncStub


def connect(context: Context[Config]) -> Clients:
    """Stubs for all services in the configuration."""
    config = context.config
    return Clients(
        snapshots=SnapshotClient.of(context),
        market_data=context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data"),
        market=context.stub(venue_pb2_grpc.PaperMarketServiceStub, "venue"),
        agents={name: context.stub(agent_pb2_grpc.AgentServiceStub, name) for name in config.agents},
        breakers={
            name: Breaker(name, failures=config.breaker_failures, reset_s=config.breaker_reset_s)
            for name in config.agents
        },
        portfolio=context.stub(portfolio_pb2_grpc.PortfolioServiceStub, "portfolio"),
        risk=context.stub(risk_pb2_grpc.RiskServiceStub, "risk"),
        execution=context.stub(execution_pb2_grpc.ExecutionServiceStub, "execution"),
    )
