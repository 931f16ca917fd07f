"""An answer is taken whole or refused whole, and the refusal says why."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from alphamesh.agent.v1 import agent_pb2
from alphamesh.decision.v1 import decision_pb2
from python_services.coordinator.answers import Missing, read, without_duplicates

SNAPSHOT, INSTRUMENTS, LISTED = "a" * 64, 3, {"x.one", "x.two"}
Cause = decision_pb2.MissingAgent
NO_SIGNAL = agent_pb2.Abstention.REASON_NO_SIGNAL


def forecast(agent_id: str = "x.one") -> agent_pb2.AgentForecast:
    """Rows 0 and 2 are estimated, row 1 is not."""
    return agent_pb2.AgentForecast(
        agent_id=agent_id,
        agent_version="1",
        horizon_bars=5,
        estimates=agent_pb2.Estimates(
            instrument_index=[0, 2],
            expected_return=[0.01, -0.01],
            volatility=[0.02, 0.03],
            confidence=[0.5, 0.6],
            evidence=[agent_pb2.Evidence(name="rsi", value=[40.0, 60.0])],
        ),
        abstentions=[agent_pb2.Abstention(instrument_index=[1], reason=NO_SIGNAL)],
    )


def answer(*forecasts: agent_pb2.AgentForecast) -> agent_pb2.ComputeForecastsResponse:
    return agent_pb2.ComputeForecastsResponse(snapshot_id=SNAPSHOT, data_sha256=SNAPSHOT, forecasts=forecasts)


def test_a_good_answer_is_taken() -> None:
    said = read(answer(forecast(), forecast("x.two")), SNAPSHOT, INSTRUMENTS, LISTED)
    assert not isinstance(said, Missing)
    assert [one.estimate.agent_id for one in said] == ["x.one", "x.two"]
    assert said[0].estimate.instrument_index.tolist() == [0, 2]
    all_abstain = agent_pb2.AgentForecast(
        agent_id="x.one", agent_version="1", horizon_bars=5,
        abstentions=[agent_pb2.Abstention(instrument_index=range(3), reason=NO_SIGNAL)],
    )  # fmt: skip
    assert not isinstance(read(answer(all_abstain), SNAPSHOT, INSTRUMENTS, LISTED), Missing)


def bad(change: Callable[[agent_pb2.AgentForecast], object]) -> agent_pb2.ComputeForecastsResponse:
    changed = forecast()
    change(changed)
    return answer(forecast("x.two"), changed)


REFUSED: list[tuple[str, agent_pb2.ComputeForecastsResponse, int, str]] = [
    ("other id", agent_pb2.ComputeForecastsResponse(snapshot_id="b" * 64, data_sha256=SNAPSHOT),
     Cause.CAUSE_OTHER_SNAPSHOT, "it read snapshot bbb"),
    ("other hash", agent_pb2.ComputeForecastsResponse(snapshot_id=SNAPSHOT, data_sha256="c" * 64),
     Cause.CAUSE_OTHER_SNAPSHOT, "with hash ccc"),
    ("row beyond", bad(lambda f: f.estimates.instrument_index.__setitem__(1, 3)),
     Cause.CAUSE_UNKNOWN_INSTRUMENT, "row 3, the snapshot has 3"),
    ("abstains beyond", bad(lambda f: f.abstentions.add(instrument_index=[9], reason=NO_SIGNAL)),
     Cause.CAUSE_UNKNOWN_INSTRUMENT, "row 9"),
    ("both", bad(lambda f: f.abstentions.add(instrument_index=[2], reason=NO_SIGNAL)),
     Cause.CAUSE_INCONSISTENT, "row 2 is answered for 2 times"),
    ("twice", bad(lambda f: f.estimates.instrument_index.__setitem__(1, 0)),
     Cause.CAUSE_INCONSISTENT, "row 0 is answered for 2 times"),
    ("neither", bad(lambda f: f.abstentions.pop()), Cause.CAUSE_INCONSISTENT, "row 1 is neither"),
    ("unlisted", answer(forecast(), forecast("x.three")), Cause.CAUSE_UNKNOWN_AGENT, "'x.three'"),
    ("no name", answer(forecast("")), Cause.CAUSE_UNKNOWN_AGENT, "''"),
    ("duplicate", answer(forecast(), forecast()), Cause.CAUSE_DUPLICATE_AGENT, "'x.one'"),
    ("NaN", bad(lambda f: f.estimates.expected_return.__setitem__(0, math.nan)), Cause.CAUSE_INVALID, "finite"),
    ("infinite", bad(lambda f: f.estimates.volatility.__setitem__(0, math.inf)), Cause.CAUSE_INVALID, "volatility"),
    ("no risk", bad(lambda f: f.estimates.volatility.__setitem__(0, 0.0)), Cause.CAUSE_INVALID, "volatility"),
    ("too sure", bad(lambda f: f.estimates.confidence.__setitem__(0, 1.01)), Cause.CAUSE_INVALID, "[0, 1]"),
    ("columns", bad(lambda f: f.estimates.confidence.pop()), Cause.CAUSE_INVALID, "differ in length"),
    ("returns", bad(lambda f: f.estimates.expected_return.pop()), Cause.CAUSE_INVALID, "not as many"),
    ("evidence", bad(lambda f: f.estimates.evidence[0].value.pop()), Cause.CAUSE_INVALID, "1 values for 2"),
    ("evidence NaN", bad(lambda f: f.estimates.evidence[0].value.__setitem__(0, math.nan)),
     Cause.CAUSE_INVALID, "'rsi' is not finite"),
    ("no reason", bad(lambda f: setattr(f.abstentions[0], "reason", 0)), Cause.CAUSE_INVALID, "without a reason"),
    ("no horizon", bad(lambda f: setattr(f, "horizon_bars", 0)), Cause.CAUSE_INVALID, "horizon_bars 0"),
]  # fmt: skip


@pytest.mark.parametrize(("response", "cause", "words"), [each[1:] for each in REFUSED], ids=[e[0] for e in REFUSED])
def test_a_bad_answer_is_refused_whole(response: agent_pb2.ComputeForecastsResponse, cause: int, words: str) -> None:
    refused = read(response, SNAPSHOT, INSTRUMENTS, LISTED)
    assert isinstance(refused, Missing)
    assert refused.cause == cause
    assert words in refused.reason
    assert refused.reason.startswith("refused: ")


def test_an_agent_of_two_services_is_heard_from_the_first_only() -> None:
    first = read(answer(forecast()), SNAPSHOT, INSTRUMENTS, LISTED)
    second = read(answer(forecast("x.two"), forecast()), SNAPSHOT, INSTRUMENTS, LISTED)
    found = without_duplicates({"one": first, "two": second, "three": Missing(cause=Cause.CAUSE_LATE, reason="late")})
    assert found["one"] == first
    refused = found["two"]
    assert isinstance(refused, Missing)
    assert refused.cause == Cause.CAUSE_DUPLICATE_AGENT
    assert "one answers for it" in refused.reason
