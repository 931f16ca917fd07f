"""A small real service: journals limits as RiskService does, and misbehaves when its configuration says so."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.risk.v1 import events_pb2, risk_pb2, risk_pb2_grpc
from python_services.kit.config import ConfigError
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import not_found, precondition
from python_services.kit.journal import Event, Journal


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a test wants it to do."""

    misconfigured: bool = False
    exit_on_build: int = 0
    exit_after_s: float = 0.0
    hang_on_build: bool = False
    slow_s: float = 0.0


class Ledger(risk_pb2_grpc.RiskServiceServicer):
    """Limits of accounts. Account "slow" takes its time, "broken" is a bug, "crash" ends the process."""

    def __init__(self, context: Context[Config], journal: Journal) -> None:
        self._config = context.config
        self._journal = journal
        self._limits: dict[str, risk_pb2.Limits] = {}
        for frame in journal.read(1):
            for envelope in frame.events:
                event = events_pb2.LimitsSet.FromString(envelope.payload)
                self._limits[event.account_id] = event.limits

    async def SetLimits(self, request: risk_pb2.SetLimitsRequest, context: Any) -> risk_pb2.SetLimitsResponse:
        event = events_pb2.LimitsSet(account_id=request.account_id, limits=request.limits)
        envelopes = self._journal.add([Event(payload=event, ts_event_ns=1, ts_init_ns=1)])
        self._limits[request.account_id] = request.limits
        response = risk_pb2.SetLimitsResponse(etag=envelopes[-1].hash.hex())
        await self._journal.commit(response)
        return response

    async def GetLimits(self, request: risk_pb2.GetLimitsRequest, context: Any) -> risk_pb2.GetLimitsResponse:
        await self._journal.barrier()
        match request.account_id:
            case "slow":
                await asyncio.sleep(self._config.slow_s)
            case "broken":
                raise RuntimeError("a bug")
            case "crash":
                os._exit(9)
            case "refused":
                raise precondition("REFUSED_BY_TEST", "no; ask for another account", account="refused")
        if request.account_id not in self._limits:
            raise not_found("account", request.account_id, "set its limits first")
        return risk_pb2.GetLimitsResponse(
            limits=self._limits[request.account_id], policy_version=self._journal.durable_seq
        )


class Events(execution_pb2_grpc.ExecutionServiceServicer):
    """The journal as a stream."""

    def __init__(self, context: Context[Config], journal: Journal) -> None:
        self._context = context
        self._journal = journal

    async def StreamEvents(
        self, request: execution_pb2.StreamEventsRequest, context: Any
    ) -> AsyncIterator[execution_pb2.StreamEventsResponse]:
        for frame in self._journal.read(request.from_seq):
            yield execution_pb2.StreamEventsResponse(frame=frame, last_seq=self._journal.durable_seq)
        reason = execution_pb2.StreamEventsResponse.END_REASON_CAUGHT_UP
        if not request.stop_at_end:
            await self._context.draining.wait()
            reason = execution_pb2.StreamEventsResponse.END_REASON_DRAINING
        yield execution_pb2.StreamEventsResponse(end_reason=reason)


async def build(context: Context[Config]) -> None:
    config = context.config
    if config.misconfigured:
        raise ConfigError("ledger.misconfigured: is true; set it to false")
    if config.exit_on_build:
        print("about to end", flush=True)
        os._exit(config.exit_on_build)
    if config.hang_on_build:
        await asyncio.sleep(3600)
    if config.exit_after_s:
        asyncio.get_running_loop().call_later(config.exit_after_s, os._exit, 3)
    journal = context.open_journal()
    name = risk_pb2.DESCRIPTOR.services_by_name["RiskService"].full_name
    context.add(risk_pb2_grpc.add_RiskServiceServicer_to_server, Ledger(context, journal), name)
    name = execution_pb2.DESCRIPTOR.services_by_name["ExecutionService"].full_name
    context.add(execution_pb2_grpc.add_ExecutionServiceServicer_to_server, Events(context, journal), name)


DEFINITION = ServiceDefinition(name="ledger", version="1.2.3", config=Config, build=build)
