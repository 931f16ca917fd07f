"""A small real service that follows the ledger's stream and calls the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.portfolio.v1 import portfolio_pb2, portfolio_pb2_grpc
from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.views import Follower


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a test wants it to do."""

    fail_at_event: int = 0


class Reader(portfolio_pb2_grpc.PortfolioServiceServicer):
    """Counts events; `fills` of its answer is their number."""

    def __init__(self, context: Context[Config]) -> None:
        self._fail_at = context.config.fail_at_event
        self._ledger = context.stub(risk_pb2_grpc.RiskServiceStub, "ledger")
        self._events = context.stub(execution_pb2_grpc.ExecutionServiceStub, "ledger")
        self.follower = Follower(context.events, "ledger", self._apply, self._refetch)
        self._count = 0

    async def GetPerformance(
        self, request: portfolio_pb2.GetPerformanceRequest, context: Any
    ) -> portfolio_pb2.GetPerformanceResponse:
        await self.follower.wait_for(request.min_seq)
        await self._ledger.GetLimits(risk_pb2.GetLimitsRequest(account_id=request.account_id))
        return portfolio_pb2.GetPerformanceResponse(
            performance=portfolio_pb2.Performance(account_id=request.account_id, fills=self._count),
            applied_seq=self.follower.applied_seq,
        )

    def _apply(self, envelope: event_pb2.EventEnvelope) -> None:
        self._count += 1
        if self._count == self._fail_at:
            raise RuntimeError("a view that cannot apply an event")

    async def _refetch(self, from_seq: int) -> AsyncIterator[event_pb2.EventFrame]:
        request = execution_pb2.StreamEventsRequest(from_seq=from_seq, stop_at_end=True)
        async for response in self._events.StreamEvents(request):
            if response.HasField("frame"):
                yield response.frame


async def build(context: Context[Config]) -> None:
    reader = Reader(context)
    context.spawn(reader.follower.run(), "follow-ledger")
    name = portfolio_pb2.DESCRIPTOR.services_by_name["PortfolioService"].full_name
    context.add(portfolio_pb2_grpc.add_PortfolioServiceServicer_to_server, reader, name)


DEFINITION = ServiceDefinition(name="reader", version="0.0.7", config=Config, build=build)
