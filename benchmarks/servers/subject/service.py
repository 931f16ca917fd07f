"""A service of the kit with the whole chain around its handlers, and answers that a caller can check.

GetLimits: `policy_version` is the number that the account is called by. ReserveExposure: everything is granted, with
ids that count on from 64 times the batch's number. StreamEvents: numbered frames of the same 64 events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from python_services.kit.context import Context, ServiceDefinition

ROWS = 64
BATCHES = 100
_FRAME = event_pb2.EventFrame(
    events=[
        event_pb2.EventEnvelope(
            stream="execution",
            seq=seq,
            schema="alphamesh.execution.v1.OrderFilled",
            ts_event_ns=seq,
            payload=bytes(80),
        )
        for seq in range(1, ROWS + 1)
    ]
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Nothing to configure."""


class Limits(risk_pb2_grpc.RiskServiceServicer):
    """A unary read."""

    async def GetLimits(self, request: risk_pb2.GetLimitsRequest, context: Any) -> risk_pb2.GetLimitsResponse:
        """The number in the name."""
        return risk_pb2.GetLimitsResponse(limits=risk_pb2.Limits(), policy_version=int(request.account_id))


class Streams(execution_pb2_grpc.ExecutionServiceServicer):
    """Batches in both directions, and in one."""

    async def ReserveExposure(
        self, request_iterator: AsyncIterator[execution_pb2.ReserveExposureRequest], context: Any
    ) -> AsyncIterator[execution_pb2.ReserveExposureResponse]:
        """All that is asked for."""
        async for request in request_iterator:
            first = request.batch_number * ROWS
            yield execution_pb2.ReserveExposureResponse(
                batch_number=request.batch_number,
                verdicts=execution_pb2.ReservationVerdicts(
                    reservation_ids=range(first, first + len(request.batch.instrument_ids)),
                    granted_quantity_e9=request.batch.quantity_e9,
                ),
            )

    async def StreamEvents(
        self, request: execution_pb2.StreamEventsRequest, context: Any
    ) -> AsyncIterator[execution_pb2.StreamEventsResponse]:
        """BATCHES frames of 64 events, made once."""
        for number in range(1, BATCHES + 1):
            yield execution_pb2.StreamEventsResponse(frame=_FRAME, last_seq=number)
        yield execution_pb2.StreamEventsResponse(end_reason=execution_pb2.StreamEventsResponse.END_REASON_CAUGHT_UP)


async def build(context: Context[Config]) -> None:
    """Nothing to recover."""
    risk = risk_pb2.DESCRIPTOR.services_by_name["RiskService"].full_name
    limits = Limits()  # type: ignore[abstract] # the other methods are UNIMPLEMENTED
    context.add(risk_pb2_grpc.add_RiskServiceServicer_to_server, limits, risk)
    execution = execution_pb2.DESCRIPTOR.services_by_name["ExecutionService"].full_name
    streams = Streams()  # type: ignore[abstract]
    context.add(execution_pb2_grpc.add_ExecutionServiceServicer_to_server, streams, execution)


DEFINITION = ServiceDefinition(name="subject", version="1.0.0", config=Config, build=build)
