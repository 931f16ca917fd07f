"""AgentService around the agent of this package."""

from alphamesh.agent.v1 import agent_pb2
from python_services.kit.agents.cluster import define

from .agent import AGENT

DEFINITION = define(name="learned_volatility", version="1.0.0", kind=agent_pb2.Agent.KIND_LEARNED, agents=[AGENT])
