"""The analyst against a real endpoint in a process of its own, which computes its answers from the prompt's numbers."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import protovalidate
import pytest

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from mesh import session
from python_services.kit import telemetry
from python_services.kit.config import ConfigError
from python_services.kit.ids import request_id
from python_services.local import LocalSystem
from tests.services.language_model.mesh import with_analyst
from tests.services.language_model.running import KEY_VARIABLE, LanguageModel
from tests.services.language_model.server import KEY

UNIVERSE = ("AAPL", "MSFT", "IBM", "GOOG")
ALONE = frozenset({"market_data", "llm_agent"})
UNAVAILABLE = agent_pb2.Abstention.REASON_DEPENDENCY_UNAVAILABLE
NO_SIGNAL = agent_pb2.Abstention.REASON_NO_SIGNAL


@pytest.fixture(scope="module")
def endpoint() -> Iterator[LanguageModel]:
    with LanguageModel() as running:
        yield running


@pytest.fixture
def model(endpoint: LanguageModel) -> LanguageModel:
    endpoint.switch("well", 0)
    return endpoint


class Asker:
    """Asks for forecasts as the coordinator does."""

    def __init__(self, system: LocalSystem) -> None:
        self._data = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
        self.agents = system.stub(agent_pb2_grpc.AgentServiceStub, "llm_agent")

    async def forecast(self, decision_id: str = "s1-0001", day: int = 1, *, patience_s: float = 30.0) -> Any:
        moment = int(datetime(2009, 7, day, 21, tzinfo=UTC).timestamp()) * 10**9
        cut = marketdata_pb2.CutSnapshotRequest(
            request_id=str(uuid.uuid4()), as_of_ns=moment, instrument_ids=UNIVERSE, lookback_bars=126
        )
        snapshot_id = (await self._data.CutSnapshot(cut)).header.snapshot_id
        request = agent_pb2.ComputeForecastsRequest(decision_id=decision_id, snapshot_id=snapshot_id)
        response = await self.agents.ComputeForecasts(request, timeout=patience_s)
        protovalidate.validate(response)
        assert response.data_sha256 == response.snapshot_id == snapshot_id
        (found,) = response.forecasts
        spoken = [*found.estimates.instrument_index, *(row for a in found.abstentions for row in a.instrument_index)]
        assert sorted(spoken) == [0, 1, 2, 3]
        return found


@asynccontextmanager
async def running(folder: Path, config: dict[str, Any]) -> AsyncIterator[Asker]:
    mesh = with_analyst(folder, config)
    mesh = replace(mesh, services=tuple(service for service in mesh.services if service.name in ALONE))
    async with asyncio.timeout(60), LocalSystem(folder, mesh) as system:
        yield Asker(system)


def contents(folder: Path) -> list[bytes]:
    """Of every file there."""
    return [file.read_bytes() for file in folder.rglob("*") if file.is_file()]


def why(found: Any) -> set[str]:
    """Of a forecast that says nothing about anything."""
    assert not found.estimates.instrument_index
    assert {abstention.reason for abstention in found.abstentions} == {UNAVAILABLE}
    return {abstention.detail for abstention in found.abstentions}


async def test_an_analyst_speaks_from_the_numbers(tmp_path: Path, model: LanguageModel) -> None:
    before = model.asked()
    async with running(tmp_path, model.config()) as asker:
        (agent,) = (await asker.agents.ListAgents(agent_pb2.ListAgentsRequest())).agents
        found = await asker.forecast()
    assert model.asked() == before + 1
    assert (agent.agent_id, agent.kind, agent.horizon_bars) == ("llm.analyst", agent_pb2.Agent.KIND_LLM, 20)
    assert found.model_version == "thinker-1 prompt:1"
    columns = found.estimates
    assert len(columns.instrument_index) > 0
    evidence = {each.name: list(each.value) for each in columns.evidence}
    for place, up in enumerate(evidence["probability_up"]):
        expected = 0.1 * (2.0 * up - 1.0) * evidence["expected_move"][place]
        assert columns.expected_return[place] == pytest.approx(expected)
        assert columns.confidence[place] == pytest.approx(abs(up - 0.5))
    assert {abstention.reason for abstention in found.abstentions} <= {NO_SIGNAL}


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("slow", "TIMED_OUT: no answer within 1.5 s, or before the caller's deadline"),
        ("rate_limited", "RATE_LIMITED: the endpoint takes no more for now (HTTP 429)"),
        ("broken", "REFUSED: the endpoint answered with HTTP 500"),
    ],
)
async def test_what_goes_wrong_is_said_and_the_next_decision_asks_again(
    tmp_path: Path, model: LanguageModel, mode: str, reason: str
) -> None:
    async with running(tmp_path, model.config(timeout_s=1.5 if mode == "slow" else 20.0)) as asker:
        before = model.asked()
        model.switch(mode, 1)
        assert why(await asker.forecast()) == {reason}
        assert model.asked() == before + 1, "nothing is tried again within a decision"
        assert len((await asker.forecast("s1-0002")).estimates.instrument_index) > 0


@pytest.mark.parametrize("mode", ["violation", "missing_row", "prose", "empty"])
async def test_a_bad_answer_is_repaired_once_or_refused(tmp_path: Path, model: LanguageModel, mode: str) -> None:
    async with running(tmp_path, model.config()) as asker:
        before = model.asked()
        model.switch(mode, 1)
        assert len((await asker.forecast()).estimates.instrument_index) > 0
        assert model.asked() == before + 2
        model.switch(mode, 9)
        (said,) = why(await asker.forecast("s1-0002"))
        assert said.startswith("BAD_ANSWER: the model's answer was refused twice: ")
        assert model.asked() == before + 4, "one repair and no more"


async def test_an_answer_that_is_no_http_json_is_refused(tmp_path: Path, model: LanguageModel) -> None:
    async with running(tmp_path, model.config()) as asker:
        model.switch("malformed", 1)
        (said,) = why(await asker.forecast())
        assert said.startswith(("UNREADABLE", "UNREACHABLE"))


async def test_a_dead_endpoint_is_left_alone_until_it_is_back(tmp_path: Path, model: LanguageModel) -> None:
    async with running(tmp_path, model.config(breaker_failures=2)) as asker:
        model.kill()
        try:
            for number in range(2):
                (said,) = why(await asker.forecast(f"s1-{number:04}"))
                assert said.startswith("UNREACHABLE: ")
            (said,) = why(await asker.forecast("s1-0003"))
            assert said.startswith("BREAKER_OPEN: the breaker of language model thinker-1 is open after 2 failures")
        finally:
            model.start()
        await asyncio.sleep(0.4)
        assert len((await asker.forecast("s1-0004")).estimates.instrument_index) > 0


async def test_the_callers_deadline_is_kept(tmp_path: Path, model: LanguageModel) -> None:
    async with running(tmp_path, model.config(timeout_s=30.0)) as asker:
        model.switch("slow", 1)
        (said,) = why(await asker.forecast(patience_s=0.8))
        assert said.startswith("TIMED_OUT: ")


async def test_the_key_is_nowhere(tmp_path: Path, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that refuses a key and quotes it: neither answer, nor log, nor any file repeats it."""
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret-of-somebody-else")
    output = io.BytesIO()
    with telemetry.logging_to("test", output, "debug"):
        async with running(tmp_path, model.config(mode="record", cassette=str(tmp_path / "tape"))) as asker:
            found = await asker.forecast()
    assert why(found) == {"KEY_REFUSED: the endpoint refused the key (HTTP 401)"}
    written = [output.getvalue(), *contents(tmp_path)]
    assert b"KEY_REFUSED" in written[0]
    assert not any(b"sk-secret" in content or KEY.encode() in content for content in written)
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(ConfigError, match=f"{KEY_VARIABLE} is not set"):
        async with running(tmp_path / "2", model.config()):
            raise AssertionError("it must not start")


async def test_a_spent_budget_silences_it_also_after_a_restart(tmp_path: Path, model: LanguageModel) -> None:
    async with running(tmp_path, model.config()) as asker:
        await asker.forecast("s0-0001")
    line = json.loads((tmp_path / "data" / "llm_agent" / "spending.jsonl").read_text().splitlines()[0])
    assert line["decision_id"] == "s0-0001"
    # Enough for a second question only if the first had not been asked.
    config = model.config(session_tokens=line["tokens"] + 6_000, maximum_answer_tokens=2_000)
    async with running(tmp_path, config) as asker:
        before = model.asked()
        for number in range(2, 9):
            found = await asker.forecast(f"s0-{number:04}")
        (said,) = why(found)
        assert said.startswith("BUDGET_EXCEEDED: the session's budget: ")
        assert before < model.asked() < before + 7
        assert len((await asker.forecast("s9-0001")).estimates.instrument_index) > 0
    async with running(tmp_path, config) as asker:
        before = model.asked()
        assert why(await asker.forecast("s0-0009")) == {said}
        assert model.asked() == before


async def test_what_was_recorded_is_replayed_to_the_bit_without_a_model(tmp_path: Path, model: LanguageModel) -> None:
    tape = str(tmp_path / "tape.jsonl")
    recorded = []
    async with running(tmp_path / "1", model.config(mode="record", cassette=tape)) as asker:
        recorded += [await asker.forecast(f"s1-{day:04}", day) for day in (1, 2, 6)]
        model.switch("rate_limited", 1)
        recorded.append(await asker.forecast("s1-0007", 7))
        model.switch("violation", 1)
        recorded.append(await asker.forecast("s1-0008", 8))
        asked = model.asked()
        recorded.append(await asker.forecast("s1-0002", 2))
        assert model.asked() == asked, "what is recorded is not asked again"
    model.kill()
    try:
        async with running(tmp_path / "2", model.config(mode="replay", cassette=tape, api_key_env="NOT_SET")) as asker:
            days = (1, 2, 6, 7, 8, 2)
            replayed = [await asker.forecast(f"s1-{day:04}", day) for day in days]
            missing = await asker.forecast("s1-0009", 9)
    finally:
        model.start()
    assert [each.SerializeToString() for each in replayed] == [each.SerializeToString() for each in recorded]
    assert why(recorded[3]) == {"RATE_LIMITED: the endpoint takes no more for now (HTTP 429)"}
    (said,) = why(missing)
    assert said.startswith("NOT_RECORDED: no answer to question ")


async def test_a_bull_and_a_bear_argue_before_a_judge(tmp_path: Path, model: LanguageModel) -> None:
    tape = tmp_path / "tape.jsonl"
    output = io.BytesIO()
    before = model.asked()
    with telemetry.logging_to("test", output):
        config = model.config(debate_rounds=2, mode="record", cassette=str(tape))
        async with running(tmp_path / "1", config) as asker:
            (agent,) = (await asker.agents.ListAgents(agent_pb2.ListAgentsRequest())).agents
            found = await asker.forecast()
    assert model.asked() == before + 5
    assert agent.agent_id == "llm.debate"
    lines = [json.loads(line) for line in tape.read_text().splitlines()]
    spoken = [json.loads(line["question"]["messages"][1]["content"]).get("transcript", []) for line in lines]
    assert [len(transcript) for transcript in spoken] == [0, 1, 2, 3, 4]
    assert [turn["speaker"] for turn in spoken[-1]] == ["bull", "bear", "bull", "bear"]
    # The judge of this endpoint says how much it has heard.
    heard = sum(len(turn["argument"]) for turn in spoken[-1])
    assert f"heard {heard} letters" in lines[-1]["answer"]["content"]
    evidence = {each.name: list(each.value) for each in found.estimates.evidence}
    assert set(evidence["turns"]) == {5.0}
    logged = [json.loads(line) for line in output.getvalue().splitlines()]
    (said,) = [line for line in logged if line["event"] == "analysis"]
    assert said["decision_id"] == "s1-0001"
    assert set(said["reasons"]) == set(UNIVERSE)
    assert {f"{int(value):013x}" for value in evidence["transcript"]} == {said["transcript_sha256"][:13]}


async def test_a_debate_that_costs_too_much_ends_in_silence(tmp_path: Path, model: LanguageModel) -> None:
    config = model.config(debate_rounds=5, decision_tokens=8_000, maximum_answer_tokens=3_000)
    async with running(tmp_path, config) as asker:
        (said,) = why(await asker.forecast())
        assert said.startswith("BUDGET_EXCEEDED: the decision's budget: ")


WISH = session.Wish(
    start=date(2009, 7, 1), end=date(2009, 7, 10), instruments=("AAPL", "MSFT"), account="demo", cash="1000000",
    currency="USD", method="MEAN_VARIANCE", lookback=126, risk_aversion=5.0, maximum_weight=0.5, maximum_turnover=0.5,
    short_allowed=False, seed=7,
)  # fmt: skip


async def decisions_of(folder: Path, config: dict[str, Any]) -> list[decision_pb2.Decision]:
    """Of a short session with the analyst in the topology."""
    async with asyncio.timeout(100), LocalSystem(folder, with_analyst(folder, config)) as system:
        stub = system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")
        spec = session.spec(WISH)
        spec.policy.deadline_ns = 20 * 10**9  # a busy machine must not cost an answer
        spec.policy.ClearField("hedge_after_ns")  # and no question is asked twice
        request = decision_pb2.CreateSessionRequest(request_id=request_id("s"), spec=spec)
        created = await stub.CreateSession(request)
        watch = decision_pb2.WatchSessionRequest(session_id=created.session.session_id, from_seq=1)
        states = [response.session.state async for response in stub.WatchSession(watch)]
        assert states[-1] == decision_pb2.Session.STATE_SUCCEEDED
        listed = decision_pb2.ListDecisionsRequest(session_id=created.session.session_id, page_size=500)
        return list((await stub.ListDecisions(listed)).decisions)


async def test_a_session_decides_with_it_and_again_from_the_recording(tmp_path: Path, model: LanguageModel) -> None:
    tape = str(tmp_path / "tape.jsonl")
    live = await decisions_of(tmp_path / "1", model.config(mode="record", cassette=tape))
    assert len(live) == 7
    for decision in live:
        (said,) = [signal for signal in decision.signals if signal.agent_id == "llm.analyst"]
        assert said.model_version == "thinker-1 prompt:1"
        assert len(said.instrument_index) + sum(len(each.instrument_index) for each in said.abstained) == 2
    assert any("llm.analyst" in decision.aggregate.agent_id for decision in live)
    model.kill()
    try:
        again = await decisions_of(tmp_path / "2", model.config(mode="replay", cassette=tape))
    finally:
        model.start()
    assert [each.SerializeToString(deterministic=True) for each in again] == [
        each.SerializeToString(deterministic=True) for each in live
    ]
