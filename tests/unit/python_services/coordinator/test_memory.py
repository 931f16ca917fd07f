"""What is known of the agents is a fold over the coordinator's own events: to the last bit, whoever folds it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphamesh.agent.v1 import agent_pb2
from alphamesh.decision.v1 import decision_pb2, events_pb2
from mesh import policy
from python_services.coordinator.answers import Missing, read
from python_services.coordinator.deliberation import MOST_EVIDENCE, deliberate, learn
from python_services.coordinator.memory import Memory
from python_services.kit import packed

POLICY = policy.load()
AGENTS = {"t.fast": 1, "t.slow": 5, "t.copy": 5, "t.volatility": 5}
IDS = ["A", "B", "C", "D", "E", "F"]


def answer(rng: np.random.Generator, instruments: int, evidence: int = 2) -> agent_pb2.ComputeForecastsResponse:
    """Every agent abstains from the last instrument; the copy says what the slow one says."""
    response = agent_pb2.ComputeForecastsResponse(snapshot_id="s", data_sha256="s")
    rows, slow = list(range(instruments - 1)), rng.normal(0, 0.01, instruments - 1).tolist()
    for agent, horizon in AGENTS.items():
        returns = {"t.volatility": [], "t.fast": rng.normal(0, 0.01, len(rows)).tolist()}.get(agent, slow)
        response.forecasts.add(
            agent_id=agent, agent_version="1", horizon_bars=horizon,
            estimates=agent_pb2.Estimates(
                instrument_index=rows, expected_return=returns, volatility=[0.02] * len(rows),
                confidence=rng.uniform(0, 1, len(rows)).tolist(),
                evidence=[agent_pb2.Evidence(name=f"e{n}", value=[float(n)] * len(rows)) for n in range(evidence)],
            ),
            abstentions=[agent_pb2.Abstention(instrument_index=[len(rows)], reason=1, detail="needs more")],
        )  # fmt: skip
    return response


def begin() -> Memory:
    memory = Memory()
    for agent in AGENTS:
        memory.registered(events_pb2.AgentRegistered(agent_id=agent, service="s", kind="TECHNICAL", version="1"), 1)
    return memory


def decide(memory: Memory, cycle: int, close: np.ndarray, rng: np.random.Generator, ids: list[str] = IDS):
    said = read(answer(rng, len(ids)), "s", len(ids), AGENTS)
    assert not isinstance(said, Missing)
    decision = decision_pb2.Decision(decision_id=f"d{cycle}", cycle=cycle, instrument_ids=ids)
    learn(decision, close, memory)
    view = deliberate(decision, {"s": said}, POLICY, memory, 5)
    return decision, view


def test_replayed_events_give_the_same_memory_bit_for_bit() -> None:
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, (200, len(IDS))), axis=0))
    live, recorded = begin(), []
    for cycle in range(1, 60):
        decision, view = decide(live, cycle, close[cycle : cycle + 90], rng)
        recorded.append(events_pb2.DecisionMade(decision=decision).SerializeToString())
        live.draft = view.draft
        live.decided(decision, POLICY.weighting)
    again = begin()
    for content in recorded:
        again.decided(events_pb2.DecisionMade.FromString(content).decision, POLICY.weighting)
    assert again.record == live.record
    assert again.roster == live.roster
    assert again.similarity.agent_ids == live.similarity.agent_ids
    for name in ("products", "squares", "common"):
        np.testing.assert_array_equal(getattr(again.similarity, name), getattr(live.similarity, name))
    assert sorted(again.spoken) == sorted(live.spoken) == list(range(55, 60)), "as far back as a horizon reaches"
    new, old = np.random.default_rng(9), np.random.default_rng(9)
    assert decide(again, 60, close[60:150], new)[0] == decide(live, 60, close[60:150], old)[0]


def test_a_decision_reads_the_memory_and_does_not_change_it() -> None:
    rng = np.random.default_rng(2)
    memory = begin()
    before = (memory.record, memory.roster, memory.similarity, dict(memory.spoken))
    decide(memory, 1, np.full((90, len(IDS)), 100.0), rng)
    assert (memory.record, memory.roster, memory.similarity, memory.spoken) == before


def test_the_decision_says_what_each_voice_weighed_and_copies_share_one() -> None:
    rng = np.random.default_rng(3)
    memory = begin()
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, (120, len(IDS))), axis=0))
    for cycle in range(1, 21):
        decision, view = decide(memory, cycle, close[cycle : cycle + 90], rng)
        memory.draft = view.draft
        memory.decided(decision, POLICY.weighting)
    voices = {voice.agent_id: voice for voice in decision.voices}
    assert voices["t.slow"].share == pytest.approx(voices["t.copy"].share)
    assert 0.5 < voices["t.slow"].share < 0.6 < 0.9 < voices["t.fast"].share <= 1.0
    assert voices["t.volatility"].share == voices["t.volatility"].skill == 1.0
    for voice in voices.values():
        assert voice.weight == voice.skill * voice.share
    assert {score.agent_id: score.horizon_bars for score in decision.scores} == {"t.fast": 1, "t.slow": 5, "t.copy": 5}
    abstained = decision.signals[0].abstained
    assert [(a.reason, a.detail, list(a.instrument_index)) for a in abstained] == [
        ("INSUFFICIENT_HISTORY", "needs more", [5])
    ]


def test_evidence_of_a_large_decision_is_its_hash() -> None:
    count = MOST_EVIDENCE // len(AGENTS) // 2 + 10
    ids = [f"I{n}" for n in range(count)]
    small, _ = decide(begin(), 1, np.full((90, len(IDS)), 100.0), np.random.default_rng(4))
    large, _ = decide(begin(), 1, np.full((90, count), 100.0), np.random.default_rng(4), ids)
    assert list(small.signals[0].evidence_value) == [0.0] * 5 + [1.0] * 5
    assert not small.signals[0].HasField("evidence_sha256")
    assert not large.signals[0].evidence_value
    assert list(large.signals[0].evidence_name) == ["e0", "e1"]
    assert len(large.signals[0].evidence_sha256) == 64


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(allow_nan=False), st.floats(0, 1)), max_size=150),
    st.integers(0, 2**31 - 1),
)
def test_columns_are_what_protobuf_says_they_are(rows: list[tuple[int, float, float]], horizon: int) -> None:
    index, returns, confidence = ([row[n] for row in rows] for n in range(3))
    signal = decision_pb2.Signal(
        agent_id="a", horizon_bars=horizon, instrument_index=index, expected_return=returns, confidence=confidence
    )
    columns = packed.columns(signal)
    assert packed.integers(columns.get(signal.INSTRUMENT_INDEX_FIELD_NUMBER, b"")).tolist() == index
    assert packed.doubles(columns.get(signal.EXPECTED_RETURN_FIELD_NUMBER, b"")).tolist() == returns
    again = decision_pb2.Signal(agent_id="a", horizon_bars=horizon)
    again.MergeFromString(b"".join(packed.field(number, payload) for number, payload in columns.items() if number > 4))
    assert again == signal
