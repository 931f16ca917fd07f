"""What is wrong with an answer of ComputeForecasts, in one line each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import protovalidate

from alphamesh.agent.v1 import agent_pb2

from .vectors import Vector

_VALIDATOR = protovalidate.Validator()


def of_listing(agents: Iterable[agent_pb2.Agent]) -> Iterator[str]:
    """Problems of ListAgents."""
    listed = list(agents)
    if not listed:
        yield "it lists no agent"
    names = [agent.agent_id for agent in listed]
    if names != sorted(set(names)):
        yield f"agents are not unique and ascending by agent_id: {', '.join(names)}"
    for agent in listed:
        for name in ("agent_id", "version", "description"):
            if not getattr(agent, name):
                yield f"{agent.agent_id or 'an agent'} states no {name}"
        if agent.kind == agent_pb2.Agent.KIND_UNSPECIFIED:
            yield f"{agent.agent_id} states no kind"
        if agent.horizon_bars < 1:
            yield f"{agent.agent_id} has the horizon {agent.horizon_bars}; state at least 1 bar"
        if agent.minimum_bars < 0:
            yield f"{agent.agent_id} needs {agent.minimum_bars} bars"


def of_response(
    response: agent_pb2.ComputeForecastsResponse, vector: Vector, agents: Mapping[str, agent_pb2.Agent]
) -> Iterator[str]:
    """Problems of an answer about `vector` by all of `agents`."""
    if response.snapshot_id != vector.snapshot_id:
        yield f"snapshot_id is {response.snapshot_id or 'empty'}, asked for {vector.snapshot_id}"
    if response.data_sha256 != vector.snapshot_id:
        yield f"data_sha256 is {response.data_sha256 or 'empty'}: hash the header without its id, then the content"
    answered = [forecast.agent_id for forecast in response.forecasts]
    if sorted(answered) != sorted(agents):
        yield f"forecasts of {', '.join(answered) or 'nobody'}, expected one of each of {', '.join(agents)}"
    for forecast in response.forecasts:
        if forecast.agent_id in agents:
            yield from of_forecast(forecast, vector, agents[forecast.agent_id])


def of_forecast(forecast: agent_pb2.AgentForecast, vector: Vector, agent: agent_pb2.Agent) -> Iterator[str]:
    """Problems of one agent's forecast."""
    name = forecast.agent_id
    try:
        _VALIDATOR.validate(forecast)
    except protovalidate.ValidationError as error:
        yield f"{name}: {str(error).splitlines()[-1].strip(' -')}"
    if forecast.agent_version != agent.version:
        yield f"{name}: version {forecast.agent_version!r}, listed as {agent.version!r}"
    if forecast.horizon_bars != agent.horizon_bars:
        yield f"{name}: horizon {forecast.horizon_bars} bars, listed as {agent.horizon_bars}"
    estimated = list(forecast.estimates.instrument_index)
    abstained = [row for abstention in forecast.abstentions for row in abstention.instrument_index]
    if sorted(estimated + abstained) != list(range(len(vector.header.instrument_ids))):
        yield f"{name}: every instrument is estimated or abstained from, once: {estimated} and {abstained}"
    for evidence in forecast.estimates.evidence:
        if len(evidence.value) != len(estimated):
            yield f"{name}: evidence {evidence.name!r} has {len(evidence.value)} values for {len(estimated)} estimates"
    for abstention in forecast.abstentions:
        if not abstention.reason or not abstention.detail:
            yield f"{name}: abstains from rows {list(abstention.instrument_index)} without a reason and a detail"
    spoke = sorted(set(estimated) & set(vector.unable))
    if spoke:
        yield f"{name}: estimates rows {spoke}, about which nothing can be known: {vector.why}"
    if len(estimated) and vector.header.lookback_bars < agent.minimum_bars:
        yield f"{name}: estimates with {vector.header.lookback_bars} bars and says it needs {agent.minimum_bars}"
