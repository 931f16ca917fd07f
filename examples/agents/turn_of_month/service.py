"""AgentService around the agent of this package."""

from alphamesh.agent.v1 import agent_pb2
from python_services.kit.agents.cluster import define

from .agent import AGENT

DEFINITION = define(name="turn_of_month", version="1.0.0", kind=agent_pb2.Agent.KIND_TECHNICAL, agents=[AGENT])
