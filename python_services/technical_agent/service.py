"""AgentService of the technical agents."""

from alphamesh.agent.v1 import agent_pb2
from python_services.kit.agents.cluster import define

from .agents import AGENTS

DEFINITION = define(name="technical_agent", version="0.3.0", kind=agent_pb2.Agent.KIND_TECHNICAL, agents=AGENTS)
