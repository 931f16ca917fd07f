"""Reading an agent service's answer: taken whole, or refused whole with a cause. Pure.

An agent is not trusted: its answer is checked as a request is, in vectors, for 25 agents speak about 500 instruments.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphamesh.agent.v1 import agent_pb2
from alphamesh.decision.v1 import decision_pb2
from python_services.kit import packed

from .estimates import Estimate

_Estimates, _Evidence = agent_pb2.Estimates, agent_pb2.Evidence
Cause = decision_pb2.MissingAgent.Cause
LONGEST_NAME = 128


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Why an agent service has no part in a decision."""

    cause: decision_pb2.MissingAgent.Cause.ValueType
    reason: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """One agent's forecast: as it came, and in arrays."""

    forecast: agent_pb2.AgentForecast
    estimate: Estimate
    columns: Mapping[int, bytes]  # of forecast.estimates, packed, by field number
    evidence_names: Sequence[str]
    evidence: bytes  # packed values, a row of the estimates' length for each name


def version_of(forecast: agent_pb2.AgentForecast) -> str:
    """What a track record belongs to: the agent's version, with that of its model when it has one."""
    if forecast.HasField("model_version"):
        return f"{forecast.agent_version}+{forecast.model_version}"
    return forecast.agent_version


def read(
    response: agent_pb2.ComputeForecastsResponse, snapshot_id: str, instruments: int, listed: Collection[str]
) -> list[Said] | Missing:
    """The forecasts of `response`. `listed`: agents that the service says it has."""
    if response.snapshot_id != snapshot_id or response.data_sha256 != snapshot_id:
        seen = f"{response.snapshot_id} with hash {response.data_sha256}"
        return Missing(cause=Cause.CAUSE_OTHER_SNAPSHOT, reason=f"refused: it read snapshot {seen[:160]}")
    names = [forecast.agent_id for forecast in response.forecasts]
    for name in names:
        if name not in listed:
            return _refused(Cause.CAUSE_UNKNOWN_AGENT, name, "the service does not list it")
    for name in names:
        if names.count(name) > 1:
            return _refused(Cause.CAUSE_DUPLICATE_AGENT, name, "it stands in the answer twice")
    said = []
    for forecast in response.forecasts:
        found = _forecast(forecast, instruments)
        if isinstance(found, Missing):
            return found
        said.append(found)
    return said


def without_duplicates(answers: Mapping[str, Sequence[Said] | Missing]) -> dict[str, Sequence[Said] | Missing]:
    """Refuses every service that answers for an agent which an earlier one answers for."""
    owners: dict[str, str] = {}
    found: dict[str, Sequence[Said] | Missing] = {}
    for service, answer in answers.items():
        if not isinstance(answer, Missing):
            names = [said.estimate.agent_id for said in answer]
            taken = next((name for name in names if name in owners), None)
            if taken is not None:
                answer = _refused(Cause.CAUSE_DUPLICATE_AGENT, taken, f"{owners[taken]} answers for it")
            else:
                owners.update(dict.fromkeys(names, service))
        found[service] = answer
    return found


def _forecast(forecast: agent_pb2.AgentForecast, instruments: int) -> Said | Missing:
    name = forecast.agent_id
    columns: dict[int, bytes] = {}
    evidence: list[dict[int, bytes]] = []
    for number, payload in packed.fields(forecast.estimates.SerializeToString()):
        if number == _Estimates.EVIDENCE_FIELD_NUMBER:
            evidence.append(dict(packed.fields(payload)))
        else:
            columns[number] = payload
    estimate = Estimate(
        agent_id=name,
        version=version_of(forecast),
        horizon_bars=forecast.horizon_bars,
        instrument_index=packed.integers(columns.get(_Estimates.INSTRUMENT_INDEX_FIELD_NUMBER, b"")),
        expected_return=packed.doubles(columns.get(_Estimates.EXPECTED_RETURN_FIELD_NUMBER, b"")),
        volatility=packed.doubles(columns.get(_Estimates.VOLATILITY_FIELD_NUMBER, b"")),
        confidence=packed.doubles(columns.get(_Estimates.CONFIDENCE_FIELD_NUMBER, b"")),
    )
    names = [found.get(_Evidence.NAME_FIELD_NUMBER, b"").decode() for found in evidence]
    values = [found.get(_Evidence.VALUE_FIELD_NUMBER, b"") for found in evidence]
    whole = b"".join(values)
    problem = _forbidden(estimate) or _forbidden_evidence(names, values, whole, len(estimate.instrument_index))
    if problem:
        return _refused(Cause.CAUSE_INVALID, name, problem)
    abstained: list[int] = []
    for abstention in forecast.abstentions:
        if not abstention.reason:
            return _refused(Cause.CAUSE_INVALID, name, "it abstains without a reason")
        abstained.extend(abstention.instrument_index)
    spoken = np.concatenate((estimate.instrument_index, np.array(abstained, np.int64)))
    if len(spoken) and spoken.max() >= instruments:
        problem = f"it speaks about row {spoken.max()}, the snapshot has {instruments} instruments"
        return _refused(Cause.CAUSE_UNKNOWN_INSTRUMENT, name, problem)
    times = np.bincount(spoken, minlength=instruments)
    if (times != 1).any():
        row = int(np.argmax(times != 1))
        what = "neither estimated nor abstained from" if times[row] == 0 else f"answered for {times[row]} times"
        return _refused(Cause.CAUSE_INCONSISTENT, name, f"row {row} is {what}")
    return Said(forecast=forecast, estimate=estimate, columns=columns, evidence_names=names, evidence=whole)


def _forbidden(estimate: Estimate) -> str:
    """What the contract forbids in it; empty when nothing."""
    count = len(estimate.instrument_index)
    if len(estimate.agent_id) > LONGEST_NAME or not 1 <= estimate.horizon_bars <= 10_000:
        return f"horizon_bars {estimate.horizon_bars} is not in 1..10000, or its name is too long"
    if len(estimate.volatility) != count or len(estimate.confidence) != count:
        return "its columns differ in length"
    if len(estimate.expected_return) not in (0, count):
        return "its expected returns are not as many as its estimates"
    # Comparisons with NaN are false, so that it is refused, too.
    if not (np.abs(estimate.expected_return) < 1e6).all():
        return "an expected return is not finite, or beyond all reason"
    if not ((estimate.volatility > 0) & (estimate.volatility < 1e6)).all():
        return "a volatility is not a positive finite number"
    if not ((estimate.confidence >= 0) & (estimate.confidence <= 1)).all():
        return "a confidence is not in [0, 1]"
    return ""


def _forbidden_evidence(names: Sequence[str], values: Sequence[bytes], whole: bytes, count: int) -> str:
    for name, payload in zip(names, values, strict=True):
        if len(payload) != count * packed.DOUBLE_BYTES:
            return f"evidence {name[:40]!r} has {len(payload) / packed.DOUBLE_BYTES:g} values for {count} estimates"
    finite = np.isfinite(packed.doubles(whole))
    if not finite.all():
        return f"evidence {names[int(np.argmin(finite)) // count][:40]!r} is not finite"
    return ""


def _refused(cause: decision_pb2.MissingAgent.Cause.ValueType, agent_id: str, problem: str) -> Missing:
    return Missing(cause=cause, reason=f"refused: agent {agent_id[:LONGEST_NAME]!r}: {problem}")
