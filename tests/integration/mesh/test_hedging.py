"""A second attempt at slow agents, through real sidecars: a replica of two that hangs costs no vote."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from alphamesh.agent.v1 import agent_pb2_grpc
from alphamesh.decision.v1 import decision_pb2
from mesh import policy, topology
from mesh.commands.system import supervised
from mesh.connect import SocketSystem
from python_services.coordinator.answers import Missing
from python_services.coordinator.clients import Clients
from python_services.coordinator.fanout import Fanout, Question, counts
from python_services.kit.breaker import Breaker

from ..conftest import TOPOLOGY

HEDGED = TOPOLOGY.with_name("hedged.yaml")
SERVICE, QUESTIONS = "scripted_agent", 12


def fanout(system: SocketSystem, hedge_ns: int | None) -> Fanout:
    """As the coordinator asks, with a patience of three seconds."""
    rules = policy.load()
    rules.deadline_ns = 3_000_000_000
    rules.ClearField("late_ns")
    rules.ClearField("hedge_after_ns")
    if hedge_ns is not None:
        rules.hedge_after_ns = hedge_ns
    stub = system.stub(agent_pb2_grpc.AgentServiceStub, SERVICE)
    unused = dict.fromkeys(("snapshots", "market_data", "market", "portfolio", "risk", "execution"))
    clients = Clients(agents={SERVICE: stub}, breakers={SERVICE: Breaker(SERVICE, failures=100, reset_s=1)}, **unused)  # type: ignore[arg-type]

    async def late(_: object) -> None:
        raise AssertionError("nobody waits for late answers")

    return Fanout(clients, rules, late)


async def missing(asked: Fanout, questions: int) -> list[Missing]:
    """Those of `questions` that found no answer."""
    found = []
    for number in range(questions):
        question = Question(decision_id=f"d{number}", snapshot_id="a" * 64, instruments=3)
        answer = (await asked.ask(question))[SERVICE]
        if isinstance(answer, Missing):
            found.append(answer)
    return found


@pytest.mark.parametrize("harm", ["stuck", "stopped"])
async def test_a_replica_that_hangs_costs_no_vote(run, harm):
    async with asyncio.timeout(100), supervised(run, topology.load(HEDGED)) as supervisor:
        system = SocketSystem(run)
        asked = fanout(system, 250_000_000)
        assert await missing(asked, 4) == []
        before = counts.hedged
        if harm == "stuck":  # it answers health checks, so the sidecars see nothing wrong with it
            (run.path / "data" / "scripted_agent-2" / "behaviour").write_text("hangs")
        else:
            os.kill(supervisor.statuses["scripted_agent-2"].pid, signal.SIGSTOP)
        assert await missing(asked, QUESTIONS) == []
        assert counts.hedged > before
        if harm == "stuck":
            unhedged = await missing(fanout(system, None), 3)
            assert unhedged, "without a second attempt it costs votes"
            assert {each.cause for each in unhedged} == {decision_pb2.MissingAgent.CAUSE_LATE}
        else:
            os.kill(supervisor.statuses["scripted_agent-2"].pid, signal.SIGCONT)
        await system.close()
