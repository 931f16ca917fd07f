"""What is answered at the edge itself: which services there are, and how they are. All else goes to their owners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from python_services.kit.context import Context, ServiceDefinition

from . import contracts
from .config import Config

REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class Health(health_pb2_grpc.HealthServicer):
    """The health of the edge itself, named "", and of every contract, as its owner says now."""

    def __init__(self, context: Context[Config], owners: Mapping[str, health_pb2_grpc.HealthStub]) -> None:
        self._context = context
        self._owners = owners

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        """NOT_FOUND for a name that is not reached here; NOT_SERVING for one whose owner does not answer."""
        if not request.service:
            status = health_pb2.HealthCheckResponse
            return status(status=status.NOT_SERVING if self._context.draining else status.SERVING)
        owner = self._owners.get(request.service)
        if owner is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{request.service} is not reached at this edge")
            raise AssertionError("abort raises")
        try:
            answer: health_pb2.HealthCheckResponse = await owner.Check(
                request, timeout=self._context.config.health_timeout_s
            )
        except grpc.aio.AioRpcError:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        return answer


def _add_reflection(servicer: reflection.aio.ReflectionServicer, server: Any) -> None:
    """Under both names: v1 and v1alpha have the same messages."""
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler(REFLECTION_V1, {"ServerReflectionInfo": handler})
    server.add_generic_rpc_handlers((handlers,))


async def build(context: Context[Config]) -> None:
    """Registers reflection and health for everything that is reached at the edge."""
    names = [served.contract for served in context.config.served]
    contracts.load(names)
    owners = {
        served.contract: context.stub(health_pb2_grpc.HealthStub, served.owner) for served in context.config.served
    }
    # In place of the kit's own, which would tell of this process only.
    context.add(health_pb2_grpc.add_HealthServicer_to_server, Health(context, owners), health.SERVICE_NAME)
    reflected = reflection.aio.ReflectionServicer((*names, health.SERVICE_NAME))
    context.add(_add_reflection, reflected, reflection.SERVICE_NAME)


DEFINITION = ServiceDefinition(name="edge", version="0.1.0", config=Config, build=build)
