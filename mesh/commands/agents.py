"""agents: state and track records, from the coordinator of a run that is up or down; pause and resume."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import orjson

from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc, roster_pb2

from .. import agent_report
from ..connect import System, reading, running
from ..rundir import RunDir

PAGE = 1000


async def list_agents(data_dir: Path | None, as_json: bool) -> int:
    """All that were seen."""
    async with reading(RunDir.find(data_dir)) as system:
        agents = [agent_report.plain(agent) for agent in await read(system)]
    if as_json:
        return _print(agents)
    if not agents:
        print("no agent was seen yet; the first decision of a session finds them")
        return 0
    agent_report.show_list(agents)
    return 0


async def show(agent_id: str, data_dir: Path | None, as_json: bool) -> int:
    """One of them."""
    async with reading(RunDir.find(data_dir)) as system:
        answer = await _stub(system).GetAgent(decision_pb2.GetAgentRequest(agent_id=agent_id))
    content = agent_report.plain(answer.agent)
    if as_json:
        return _print(content)
    agent_report.show(content)
    return 0


async def pause(agent_id: str, reason: str, data_dir: Path | None, as_json: bool) -> int:
    """Not heard from the next decision on."""
    async with running(RunDir.find(data_dir)) as system:
        request = decision_pb2.PauseAgentRequest(request_id=str(uuid.uuid4()), agent_id=agent_id, reason=reason)
        return _said((await _stub(system).PauseAgent(request)).agent, as_json)


async def resume(agent_id: str, reason: str, data_dir: Path | None, as_json: bool) -> int:
    """Heard again from the next decision on."""
    async with running(RunDir.find(data_dir)) as system:
        request = decision_pb2.ResumeAgentRequest(request_id=str(uuid.uuid4()), agent_id=agent_id, reason=reason)
        return _said((await _stub(system).ResumeAgent(request)).agent, as_json)


async def read(system: System) -> list[roster_pb2.RegisteredAgent]:
    """All agents that the coordinator knows."""
    found: list[roster_pb2.RegisteredAgent] = []
    request = decision_pb2.ListAgentsRequest(page_size=PAGE)
    while True:
        page = await _stub(system).ListAgents(request)
        found += page.agents
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def _stub(system: System) -> decision_pb2_grpc.DecisionServiceAsyncStub:
    return system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")


def _said(agent: roster_pb2.RegisteredAgent, as_json: bool) -> int:
    content = agent_report.plain(agent)
    if as_json:
        return _print(content)
    print(f"{content['agent_id']} is {content['state']}")
    return 0


def _print(content: Any) -> int:
    print(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
    return 0
