"""Agents that decide together through the running system: bad ones stop nothing, and everything is in the decisions."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import grpc
import pytest

from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc, events_pb2, policy_pb2, roster_pb2
from mesh import session, topology
from python_services.kit.ids import request_id
from python_services.local import LocalSystem

from .conftest import new_id, without_models

D = decision_pb2.Decision
Cause = decision_pb2.MissingAgent
AGENT = "scripted.one"
CALL = "alphamesh.marketdata.v1.MarketDataService/GetSnapshot"
ACTIVE, PAUSED = roster_pb2.AGENT_STATE_ACTIVE, roster_pb2.AGENT_STATE_PAUSED
QUARANTINED, PROBATION = roster_pb2.AGENT_STATE_QUARANTINED, roster_pb2.AGENT_STATE_PROBATION
WISH = session.Wish(
    start=date(2009, 7, 1), end=date(2009, 7, 14), instruments=("AAPL", "MSFT", "IBM"), method="RISK_PARITY",
    lookback=90, maximum_weight=0.5, maximum_turnover=0.5,
)  # fmt: skip


def mesh(**config: object) -> topology.Topology:
    """The services that trade, with the scripted agent beside the technical ones."""
    whole = without_models().with_config("coordinator", {"agents": ["technical_agent", "scripted_agent"]})
    scripted = topology.Service(
        name="scripted_agent", module="tests.services.scripted_agent", sensitivity="public", config=config,
        calls=(topology.Call(service="market_data", methods=(CALL,)),),
    )  # fmt: skip
    services = []
    for service in whole.services:
        if service.name == "coordinator":
            asks = topology.Call(service="scripted_agent", methods=("alphamesh.agent.v1.AgentService/*",))
            services += [scripted, replace(service, calls=(*service.calls, asks))]
        else:
            services.append(service)
    return replace(whole, services=tuple(services))


class Desk:
    """A running system, and what is asked of its coordinator."""

    def __init__(self, system: LocalSystem, path: Path) -> None:
        self.system = system
        self.script = path / "data" / "scripted_agent" / "behaviour"
        self.stub = system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")

    async def trade(
        self, change: Callable[[policy_pb2.CoordinationPolicy], object] = lambda _: None, wish: session.Wish = WISH
    ) -> list[decision_pb2.Decision]:
        """A whole session; it must succeed."""
        spec = session.spec(wish)
        change(spec.policy)
        created = await self.stub.CreateSession(decision_pb2.CreateSessionRequest(request_id=new_id(), spec=spec))
        watch = decision_pb2.WatchSessionRequest(session_id=created.session.session_id, from_seq=1)
        last = [response async for response in self.stub.WatchSession(watch)][-1]
        assert last.session.state == decision_pb2.Session.STATE_SUCCEEDED, last.session.reason
        return await self.decisions(created.session.session_id)

    async def decisions(self, session_id: str) -> list[decision_pb2.Decision]:
        request = decision_pb2.ListDecisionsRequest(session_id=session_id, page_size=1000)
        return list((await self.stub.ListDecisions(request)).decisions)

    async def agents(self) -> dict[str, roster_pb2.RegisteredAgent]:
        return {a.agent_id: a for a in (await self.stub.ListAgents(decision_pb2.ListAgentsRequest())).agents}

    async def until(self, condition: Callable[[roster_pb2.RegisteredAgent], bool]) -> None:
        """The scripted agent is there, and as `condition` says."""
        while (agent := (await self.agents()).get(AGENT)) is None or not condition(agent):  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def events(self, kind: type) -> list:
        """All events of one kind in the coordinator's journal, so far."""
        found, wanted = [], kind.DESCRIPTOR.full_name
        async with asyncio.timeout(10):
            async for frame in self.system.subscribe("coordinator"):
                found += [kind.FromString(e.payload) for e in frame.events if e.schema == wanted]
                if any(e.schema.endswith("SessionEnded") for e in frame.events):
                    return found
        raise AssertionError


@asynccontextmanager
async def desk(path: Path, **config: object) -> AsyncIterator[Desk]:
    async with asyncio.timeout(100), LocalSystem(path, mesh(**config)) as system:
        yield Desk(system, path)


def impatient(policy: policy_pb2.CoordinationPolicy) -> None:
    """A second and a half, one attempt, no late answers."""
    policy.deadline_ns = 1_500_000_000
    policy.ClearField("hedge_after_ns")
    policy.ClearField("late_ns")


BAD = {
    "wrong_hash": Cause.CAUSE_OTHER_SNAPSHOT,
    "other_snapshot": Cause.CAUSE_OTHER_SNAPSHOT,
    "nan": Cause.CAUSE_INVALID,
    "unknown_row": Cause.CAUSE_UNKNOWN_INSTRUMENT,
    "both": Cause.CAUSE_INCONSISTENT,
    "neither": Cause.CAUSE_INCONSISTENT,
    "duplicate": Cause.CAUSE_DUPLICATE_AGENT,
    "unlisted": Cause.CAUSE_UNKNOWN_AGENT,
    "taken": Cause.CAUSE_UNKNOWN_AGENT,
    "fails": Cause.CAUSE_FAILED,
    "dead": Cause.CAUSE_AWAY,
    "hangs": Cause.CAUSE_LATE,
}


@pytest.mark.parametrize("behaviour", BAD)
async def test_a_bad_agent_stops_no_cycle_and_the_decisions_are_those_without_it(
    tmp_path: Path, behaviour: str
) -> None:
    short = replace(WISH, end=date(2009, 7, 6))
    async with desk(tmp_path / "bad") as one:
        one.script.write_text(behaviour)
        decisions = await one.trade(impatient, short)
    assert len(decisions) == 3
    for decision in decisions:
        causes = {missing.cause for missing in decision.missing}
        assert causes <= {BAD[behaviour], Cause.CAUSE_AWAY}, "the breaker may have opened"
        assert [missing.service for missing in decision.missing] == ["scripted_agent"]
        assert AGENT not in {signal.agent_id for signal in decision.signals}
        assert decision.HasField("aggregate")
    assert decisions[0].missing[0].cause == BAD[behaviour]


async def test_refused_answers_lead_to_quarantine_probation_and_back_and_a_restart_knows(tmp_path: Path) -> None:
    def strict(policy: policy_pb2.CoordinationPolicy) -> None:
        policy.lifecycle.maximum_errors = 2
        policy.lifecycle.quarantine_decisions = 3
        policy.lifecycle.probation_decisions = 2
        policy.lifecycle.maximum_brier = 1.0

    wish = replace(WISH, end=date(2009, 7, 31))
    async with desk(tmp_path) as one:
        one.script.write_text("nan")
        trading = asyncio.create_task(one.trade(strict, wish))
        await one.until(lambda agent: agent.state == QUARANTINED)
        one.script.write_text("good")
        decisions = await trading
        changes = [c for c in await one.events(events_pb2.AgentStateChanged) if c.agent_id == AGENT]
        assert [c.to_state for c in changes] == [QUARANTINED, PROBATION, ACTIVE]
        assert changes[0].reason == "2 refused answers or failed calls in a row"
        assert changes[0].decision_id == decisions[1].decision_id
        weights: dict[int, list[float]] = {}
        for decision in decisions:
            for voice in decision.voices:
                if voice.agent_id == AGENT:
                    weights.setdefault(voice.state, []).append(voice.weight)
        assert set(weights[QUARANTINED]) == {0.0}, "recorded, and without weight"
        assert all(0 < weight <= 0.25 for weight in weights[PROBATION])
        assert min(weights[ACTIVE]) > 0
        before = await one.agents()
        assert len(before[AGENT].records) > 0
        await one.system.stop("coordinator")
        await one.system.start("coordinator")
        assert await one.agents() == before, "all of it comes from its own events"


async def test_forecasts_are_scored_when_they_come_due_on_what_the_market_did(tmp_path: Path) -> None:
    async with desk(tmp_path, expected_return=0.02, confidence=0.6, horizon_bars=2) as one:
        decisions = await one.trade()
        agent = (await one.agents())[AGENT]
        registered = await one.events(events_pb2.AgentRegistered)
    assert {event.agent_id: event.kind for event in registered}[AGENT] == "SENTIMENT"
    assert all(score.agent_id != AGENT for decision in decisions[:2] for score in decision.scores)
    hits = stated = 0
    brier = 0.0
    for decision in decisions[2:]:
        (outcome,) = [realised for realised in decision.realised if realised.horizon_bars == 2]
        (score,) = [score for score in decision.scores if score.agent_id == AGENT]
        up = [value > 0 for value in outcome.value]
        assert (sum(score.stated), sum(score.hits)) == (3, sum(up))
        stated, hits = stated + 3, hits + sum(up)
        brier += score.sum_brier
        assert math.isclose(score.sum_brier, sum((0.8 - right) ** 2 for right in up))
        assert decision.regime.label in decision.regime.labels
    record = agent.records[0]
    assert (record.version, record.HasField("regime"), record.forecasts) == ("1", False, stated)
    assert abs(record.hit_rate - hits / stated) < 0.02, "but for the half-life of 126 decisions"
    assert abs(record.brier - brier / stated) < 0.02


async def test_a_quorum_by_kind_and_a_veto_hold_what_they_forbid(tmp_path: Path) -> None:
    def veto(policy: policy_pb2.CoordinationPolicy) -> None:
        policy.quorum.add(kind="SENTIMENT", at_least=1)
        policy.vetoes.add(name="news", who="SENTIMENT", forbids="LONG", minimum_confidence=0.7)

    async with desk(tmp_path, expected_return=-0.0001, confidence=0.9) as one:
        decisions = await one.trade(veto)
    for decision in decisions:
        (rule,) = decision.rules
        assert (rule.rule, rule.kind, list(rule.agent_id)) == ("news", "VETO", [AGENT])
        assert list(rule.instrument_index) == [0, 1, 2]
        assert not decision.orders, "nothing may be bought, and nothing is held"
    assert any(w > 0 for decision in decisions for w in decision.portfolio.target_weight), "though it was proposed"


async def test_without_its_kind_there_is_no_quorum(tmp_path: Path) -> None:
    def sentiment(policy: policy_pb2.CoordinationPolicy) -> None:
        policy.quorum.add(kind="SENTIMENT", at_least=1)

    async with desk(tmp_path) as one:
        one.script.write_text("nan")
        decisions = await one.trade(sentiment, replace(WISH, end=date(2009, 7, 6)))
    assert {decision.outcome for decision in decisions} == {D.OUTCOME_HOLD_NO_QUORUM}
    text = "0 SENTIMENT agents answered, the quorum is 1: positions are held"
    assert {decision.explanation for decision in decisions} == {text}


async def test_a_late_answer_is_recorded_by_itself_and_no_part_of_the_decision(tmp_path: Path) -> None:
    def late(policy: policy_pb2.CoordinationPolicy) -> None:
        impatient(policy)
        policy.deadline_ns, policy.late_ns = 700_000_000, 5_000_000_000

    async with desk(tmp_path) as one:
        one.script.write_text("slow:0.9")
        decisions = await one.trade(late, replace(WISH, end=date(2009, 7, 6)))
        found = await one.events(events_pb2.AnswerLate)
    found = [late for late in found if late.service == "scripted_agent"]
    assert {m.service: m.cause for m in decisions[0].missing}["scripted_agent"] == Cause.CAUSE_LATE
    assert AGENT not in {signal.agent_id for signal in decisions[0].signals}
    assert found[0] == events_pb2.AnswerLate(
        decision_id=decisions[0].decision_id, service="scripted_agent", agent_ids=[AGENT], result="ANSWERED"
    )


async def test_a_person_pauses_and_resumes_an_agent_once_for_each_request(tmp_path: Path) -> None:
    async with desk(tmp_path) as one:
        trading = asyncio.create_task(one.trade(wish=replace(WISH, end=date(2009, 8, 31))))
        await one.until(lambda agent: True)
        pause = decision_pb2.PauseAgentRequest(request_id=request_id("p"), agent_id=AGENT, reason="looks wrong")
        paused = await one.stub.PauseAgent(pause)
        assert (paused.agent.state, paused.agent.reason) == (PAUSED, "looks wrong")
        assert await one.stub.PauseAgent(pause) == paused, "a repeat gets the first answer"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await one.stub.PauseAgent(decision_pb2.PauseAgentRequest(request_id=new_id(), agent_id=AGENT, reason="x"))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        seen = (await one.agents())[AGENT].decisions_in_state
        await one.until(lambda agent: agent.decisions_in_state >= seen + 3)
        await one.stub.ResumeAgent(decision_pb2.ResumeAgentRequest(request_id=new_id(), agent_id=AGENT, reason="ok"))
        decisions = await trading
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await one.stub.GetAgent(decision_pb2.GetAgentRequest(agent_id="nobody"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        assert AGENT in (unknown.value.details() or "")
    states = [voice.state for decision in decisions for voice in decision.voices if voice.agent_id == AGENT]
    assert [states[0], states[-1]] == [ACTIVE, ACTIVE]
    assert states.count(PAUSED) >= 3
    assert all(voice.weight == 0 for decision in decisions for voice in decision.voices if voice.state == PAUSED)


async def test_without_the_risk_service_positions_are_held_and_the_decision_says_so(tmp_path: Path) -> None:
    quick = mesh().with_config("coordinator", {"agents": ["technical_agent"], "step_retry_s": 0.3})
    async with asyncio.timeout(100), LocalSystem(tmp_path, quick) as system:
        one = Desk(system, tmp_path)
        await system.stop("risk")
        decisions = await one.trade(wish=replace(WISH, end=date(2009, 7, 2)))
    assert {decision.outcome for decision in decisions} == {D.OUTCOME_HOLD_NO_RISK_VIEW}
    assert "risk is not running: positions are held" in decisions[0].explanation
    assert not decisions[0].orders


async def test_a_paced_session_leaves_time_between_decisions_and_decides_the_same(tmp_path: Path) -> None:
    wish, found = replace(WISH, end=date(2009, 7, 7)), []
    for pace_s in (0.0, 0.5):
        folder = tmp_path / str(pace_s)
        topology = mesh().with_config("coordinator", {"agents": ["technical_agent"], "pace_s": pace_s})
        async with asyncio.timeout(100), LocalSystem(folder, topology) as system:
            begun = time.monotonic()
            found.append(await Desk(system, folder).trade(wish=wish))
            elapsed_s = time.monotonic() - begun
        assert elapsed_s > pace_s * (len(found[-1]) - 1)
    assert [d.decision_id for d in found[0]] == [d.decision_id for d in found[1]]
    assert [d.orders for d in found[0]] == [d.orders for d in found[1]]
