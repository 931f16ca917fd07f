"""AgentService of the fundamental agents: bars from the snapshot, accounts from its facts."""

from __future__ import annotations

import numpy as np

from alphamesh.agent.v1 import agent_pb2
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from python_services.kit.agents import Window, forecast
from python_services.kit.agents.cluster import chosen, serve
from python_services.kit.agents.window import made_up
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.facts_table import FactsClient
from python_services.kit.snapshots import Snapshot

from .accounts import company
from .agents import agents
from .config import Config
from .view import Accounts, Fundamentals, Keeper


async def build(context: Context[Config]) -> None:
    """Registers the cluster. Every kernel is loaded before the first request."""
    running = chosen(agents(context.config.dcf), context.config.agents, "fundamental_agent")
    window = made_up()
    nobody = Fundamentals(window, Accounts((None,) * window.close.shape[1]), window.close[-1])
    for agent in running.values():
        forecast(agent, window, nobody)
    facts = FactsClient(context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data"), company)
    keeper = Keeper()

    async def look(snapshot: Snapshot, window: Window) -> Fundamentals:
        accounts = keeper.accounts(await facts.get(snapshot), len(snapshot.instrument_ids))
        return Fundamentals(window, accounts, np.array(snapshot.marks_e9, dtype=np.float64) / 1e9)

    serve(context, agent_pb2.Agent.KIND_FUNDAMENTAL, running, look)


DEFINITION = ServiceDefinition(name="fundamental_agent", version="0.1.0", config=Config, build=build)
