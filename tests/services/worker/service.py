"""A small real service that keeps nothing: it says which replica answers, and behaves as it is asked to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import ServiceError


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a test wants it to be. `forwards_to`: the service that it asks instead of answering."""

    label: str = "one"
    forwards_to: str = ""
    fails_to_build: bool = False


class Worker(agent_pb2_grpc.AgentServiceServicer):
    """`decision_id` says what to do: "sleep:<seconds>", or anything else for an answer at once. One that forwards
    does so after "pause:<seconds>".

    `snapshot_id` of the answer is the replica, `data_sha256` the milliseconds that were left when the call came.
    """

    def __init__(self, context: Context[Config]) -> None:
        self._config = context.config
        self._replica = context.data_dir.name
        self._broken = context.data_dir / "broken"
        self._ended = 0
        to = context.config.forwards_to
        self._next = context.stub(agent_pb2_grpc.AgentServiceStub, to) if to else None

    async def ListAgents(self, request: agent_pb2.ListAgentsRequest, context: Any) -> agent_pb2.ListAgentsResponse:
        """Who it is: replica, label, and how many of its answers were no longer wanted."""
        if self._broken.exists():
            raise ServiceError(grpc.StatusCode.UNAVAILABLE, "BROKEN", "broken by a test")
        agent = agent_pb2.Agent(agent_id=self._replica, version=self._config.label, minimum_bars=self._ended)
        return agent_pb2.ListAgentsResponse(agents=[agent])

    async def ComputeForecasts(
        self, request: agent_pb2.ComputeForecastsRequest, context: Any
    ) -> agent_pb2.ComputeForecastsResponse:
        """Does what the decision says."""
        left = context.time_remaining()
        what, _, seconds = request.decision_id.partition(":")
        if self._next is not None:
            if what == "pause":
                await asyncio.sleep(float(seconds))
            return await self._next.ComputeForecasts(request)
        if what == "sleep":
            try:
                await asyncio.sleep(float(seconds))
            except asyncio.CancelledError:
                self._ended += 1
                raise
        return agent_pb2.ComputeForecastsResponse(snapshot_id=self._replica, data_sha256=f"{left * 1e3:.1f}")


async def build(context: Context[Config]) -> None:
    if context.config.fails_to_build:
        raise SystemExit(5)
    context.data_dir.mkdir(parents=True, exist_ok=True)
    name = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
    context.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, Worker(context), name)


DEFINITION = ServiceDefinition(name="worker", version="1.0.0", config=Config, build=build)
