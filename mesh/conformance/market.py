"""A market_data that serves the vectors, and that fails in the ways that a real one can."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from alphamesh.marketdata.v1 import marketdata_pb2
from inference import grpc_service_pb2_grpc
from python_services.kit.client import MAX_MESSAGE_BYTES
from python_services.kit.errors import not_found, precondition
from python_services.kit.interceptors import Pipeline, ServerInterceptor
from python_services.kit.local_models import LocalModels

from .vectors import Vector

SERVICE = "alphamesh.marketdata.v1.MarketDataService"


class Market:
    """Snapshots by id; nothing else of the contract is there. While `open` is not set, questions wait."""

    def __init__(self) -> None:
        self._answers: dict[str, marketdata_pb2.GetSnapshotResponse] = {}
        self.open = asyncio.Event()
        self.open.set()

    def hold(self, vector: Vector) -> None:
        """From now on this snapshot exists."""
        self._answers[vector.snapshot_id] = vector.response()

    def alter(self, snapshot_id: str, answer: marketdata_pb2.GetSnapshotResponse) -> None:
        """From now on `snapshot_id` is answered with something else."""
        self._answers[snapshot_id] = answer

    async def GetSnapshot(
        self, request: marketdata_pb2.GetSnapshotRequest, context: Any
    ) -> marketdata_pb2.GetSnapshotResponse:
        """See the contract."""
        await self.open.wait()
        answer = self._answers.get(request.snapshot_id)
        if answer is None:
            raise not_found("snapshot", request.snapshot_id)
        return answer

    async def GetFacts(self, request: marketdata_pb2.GetFactsRequest, context: Any) -> marketdata_pb2.GetFactsResponse:
        """The vectors are cut without facts."""
        raise precondition("NO_FACTS", "this snapshot was cut without company facts")

    async def GetTexts(self, request: marketdata_pb2.GetTextsRequest, context: Any) -> marketdata_pb2.GetTextsResponse:
        """The vectors are cut without texts."""
        raise precondition("NO_TEXTS", "this snapshot was cut without texts")


async def serve(market: Market, address: str, models: Path | None = None) -> tuple[grpc.aio.Server, int]:
    """Starts it at HOST:PORT or unix:PATH, with a model repository in Triton's place if one is given; the port."""
    server = grpc.aio.server(
        interceptors=[ServerInterceptor(Pipeline())],
        options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", MAX_MESSAGE_BYTES)],
    )
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            handler, request_deserializer=asked.FromString, response_serializer=answered.SerializeToString
        )
        for name, handler, asked, answered in (
            ("GetSnapshot", market.GetSnapshot, marketdata_pb2.GetSnapshotRequest, marketdata_pb2.GetSnapshotResponse),
            ("GetFacts", market.GetFacts, marketdata_pb2.GetFactsRequest, marketdata_pb2.GetFactsResponse),
            ("GetTexts", market.GetTexts, marketdata_pb2.GetTextsRequest, marketdata_pb2.GetTextsResponse),
        )
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if models is not None:
        served = LocalModels(models)  # type: ignore[abstract]  # the calls that agents make
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(served, server)
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    for name in ("", SERVICE):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port(address)
    await server.start()
    return server, port
