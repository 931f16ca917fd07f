"""AgentService around a cluster of agents: fetches the snapshot, runs them, translates; nothing is remembered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from python_services.kit import telemetry
from python_services.kit.config import ConfigError
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import not_found
from python_services.kit.packed import column
from python_services.kit.snapshots import Snapshot, SnapshotClient

from .agent import Agent, Forecast, Reason, forecast
from .window import Window, made_up

V = TypeVar("V")

_REASONS = {reason: agent_pb2.Abstention.Reason.Value(f"REASON_{reason.value}") for reason in Reason}
_EXPECTED_RETURN = agent_pb2.Estimates.EXPECTED_RETURN_FIELD_NUMBER
_VOLATILITY = agent_pb2.Estimates.VOLATILITY_FIELD_NUMBER
_CONFIDENCE = agent_pb2.Estimates.CONFIDENCE_FIELD_NUMBER
_VALUE = agent_pb2.Evidence.VALUE_FIELD_NUMBER


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which agents run; empty means all of them."""

    agents: tuple[str, ...] = ()


class _SnapshotWindow(Window):
    """Looks into the snapshot, so that a column which no agent reads is never unpacked."""

    def __init__(self, snapshot: Snapshot) -> None:
        object.__setattr__(self, "_snapshot", snapshot)

    as_of_ns = property(attrgetter("_snapshot.as_of_ns"))
    ts_event_ns = property(attrgetter("_snapshot.ts_event_ns"))
    open = property(attrgetter("_snapshot.open"))
    high = property(attrgetter("_snapshot.high"))
    low = property(attrgetter("_snapshot.low"))
    close = property(attrgetter("_snapshot.close"))
    volume = property(attrgetter("_snapshot.volume"))


def window_of(snapshot: Snapshot) -> Window:
    """The bars of a snapshot."""
    return _SnapshotWindow(snapshot)


class Cluster(agent_pb2_grpc.AgentServiceServicer, Generic[V]):
    """Agents of one kind that look at the same V; `look` makes it of a snapshot and its bars."""

    def __init__(
        self,
        kind: agent_pb2.Agent.Kind.ValueType,
        agents: Mapping[str, Agent[V]],
        snapshots: SnapshotClient,
        look: Callable[[Snapshot, Window], Awaitable[V]],
    ) -> None:
        self._kind = kind
        self._agents = agents
        self._snapshots = snapshots
        self._look = look

    async def ListAgents(self, request: agent_pb2.ListAgentsRequest, context: Any) -> agent_pb2.ListAgentsResponse:
        """See the contract."""
        return agent_pb2.ListAgentsResponse(
            agents=[
                agent_pb2.Agent(
                    agent_id=agent.agent_id,
                    version=agent.version,
                    kind=self._kind,
                    minimum_bars=agent.minimum_bars,
                    horizon_bars=agent.horizon_bars,
                    description=agent.description,
                )
                for agent in self._agents.values()
            ]
        )

    async def ComputeForecasts(
        self, request: agent_pb2.ComputeForecastsRequest, context: Any
    ) -> agent_pb2.ComputeForecastsResponse:
        """See the contract."""
        for agent_id in request.agent_ids:
            if agent_id not in self._agents:
                raise not_found("agent", agent_id, f"this cluster has {', '.join(self._agents)}")
        telemetry.decision.set(request.decision_id)  # whoever calls: in the logs of all that follows
        chosen = [self._agents[name] for name in request.agent_ids] or list(self._agents.values())
        snapshot = await self._snapshots.get(request.snapshot_id)
        window = window_of(snapshot)
        view = await self._look(snapshot, window)
        response = agent_pb2.ComputeForecastsResponse(
            snapshot_id=snapshot.snapshot_id, data_sha256=snapshot.data_sha256
        )
        for agent in chosen:
            fill(response.forecasts.add(), forecast(agent, window, view))
        return response


def fill(message: agent_pb2.AgentForecast, found: Forecast) -> None:
    """Writes a forecast into a new message; in place, because a message put into another is copied."""
    message.agent_id, message.agent_version = found.agent_id, found.agent_version
    message.horizon_bars = found.horizon_bars
    if found.model_version is not None:
        message.model_version = found.model_version
    if found.degraded is not None:
        message.degraded = found.degraded
    columns = message.estimates
    columns.instrument_index.extend(found.index.tolist())
    content = column(_VOLATILITY, found.volatility) + column(_CONFIDENCE, found.confidence)
    if found.expected_return is not None:
        content += column(_EXPECTED_RETURN, found.expected_return)
    columns.MergeFromString(content)
    for name, values in found.evidence.items():
        columns.evidence.add(name=name).MergeFromString(column(_VALUE, values))
    for group in found.withheld:
        message.abstentions.add(instrument_index=group.index, reason=_REASONS[group.reason], detail=group.detail)


def chosen(agents: Iterable[Agent[V]], wanted: Iterable[str], service: str) -> dict[str, Agent[V]]:
    """The agents named, by id; all of them when none is. Raises ConfigError with the unknown one."""
    known = {agent.agent_id: agent for agent in sorted(agents, key=lambda agent: agent.agent_id)}
    for agent_id in wanted:
        if agent_id not in known:
            problem = f"{agent_id!r} is not an agent here; known ones are {', '.join(known)}"
            raise ConfigError(f"{service}.agents: {problem}")
    return {agent_id: known[agent_id] for agent_id in sorted(wanted) or known}


def serve(
    context: Context[Any],
    kind: agent_pb2.Agent.Kind.ValueType,
    agents: Mapping[str, Agent[V]],
    look: Callable[[Snapshot, Window], Awaitable[V]],
) -> None:
    """Registers a cluster."""
    cluster = Cluster(kind, agents, SnapshotClient.of(context), look)
    name = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
    context.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, cluster, name)


def define(
    *, name: str, version: str, kind: agent_pb2.Agent.Kind.ValueType, agents: Iterable[Agent[Window]]
) -> ServiceDefinition[Config]:
    """A service whose agents look at bars and nothing else. Every kernel that they use is loaded at the start."""
    everyone = tuple(agents)

    async def look(snapshot: Snapshot, window: Window) -> Window:
        return window

    async def build(context: Context[Config]) -> None:
        running = chosen(everyone, context.config.agents, name)
        window = made_up()
        for agent in running.values():
            forecast(agent, window, window)
        serve(context, kind, running, look)

    return ServiceDefinition(name=name, version=version, config=Config, build=build)
