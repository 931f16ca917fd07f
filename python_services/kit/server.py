"""Running one service as a process: ``serve(DEFINITION)`` is all that a ``__main__`` does.

Order: configuration -> telemetry -> event log -> callees ready -> build -> server -> health SERVING; on SIGTERM:
NOT_SERVING, streams end, calls in flight finish, connections close. Any failure of the journal or of a
background task ends the process at once: the start path is the recovery path.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, TypeVar

import grpc
import orjson
import uvloop
from google.protobuf.internal import api_implementation
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from . import config as configuration
from . import health as readiness
from . import telemetry
from .client import MAX_MESSAGE_BYTES, authority, declared_edge, open_channel, socket_address
from .context import Context, ModelServer, ServiceDefinition
from .errors import ServiceError
from .eventlog import DeclaredReads
from .interceptors import ServerInterceptor
from .jetstream import NatsEventLog
from .journal import JournalError
from .observability import Observability, metrics_socket

C = TypeVar("C")
CRASHED = 70  # sysexits.h EX_SOFTWARE
MISCONFIGURED = 78  # sysexits.h EX_CONFIG
DRAIN_S = 5.0


def serve(definition: ServiceDefinition[C]) -> None:
    """Runs the service until SIGTERM. The run directory comes from the supervisor."""
    parser = argparse.ArgumentParser(prog=f"python -m python_services.{definition.name}")
    parser.add_argument("--run-dir", type=Path, required=True, help="directory with sockets, configuration and data")
    parser.add_argument("--replica", default=definition.name, help="name of this process, when there are several")
    arguments = parser.parse_args()
    telemetry.configure(definition.name, definition.version)
    if api_implementation.Type() != "upb":
        sys.exit(f"protobuf runs on {api_implementation.Type()!r}, not on upb; reinstall protobuf from a wheel")
    telemetry.calm_collector()
    os.nice(definition.niceness)
    try:
        uvloop.run(_run(definition, arguments.run_dir, arguments.replica))
    except (configuration.ConfigError, JournalError, ServiceError) as error:
        telemetry.logger().error("cannot start", error=str(error))
        print(f"{definition.name}: {error}", file=sys.stderr, flush=True)
        sys.exit(MISCONFIGURED)


async def _run(definition: ServiceDefinition[C], run_dir: Path, replica: str) -> None:
    path = run_dir / "config" / f"{replica}.json"
    settings: dict[str, Any] = orjson.loads(path.read_bytes())
    events = NatsEventLog(settings["nats_url"], definition.name, crash)
    sockets = (run_dir / "sock").resolve()  # a link when the run directory's path is too long for a socket
    callees: list[str] = settings["calls"]

    def way_to(callee: str) -> Path:
        return sockets / (f"{replica}.egress.sock" if settings["sidecar"] else f"{callee}.sock")

    observability = Observability(
        definition.name, definition.version, settings.get("tracing"), metrics_socket(sockets, replica)
    )
    context = Context(
        name=definition.name,
        version=definition.version,
        config=configuration.load(definition.config, settings["config"], where=definition.name),
        data_dir=run_dir / "data" / replica,
        logs=run_dir / "logs",
        journal=settings["journal"],
        events=DeclaredReads(events, definition.name, settings["reads"]),
        connect=lambda service: open_channel(
            definition.name, declared_edge(definition.name, service, callees), way_to(service)
        ),
        fail=crash,
        model_server=_model_server(settings.get("model_server")),
        snapshots=Path(settings["snapshots"]) if "snapshots" in settings else None,
    )
    await events.start()
    await observability.start()
    await asyncio.gather(
        *(readiness.wait_serving(way_to(callee), authority(callee)) for callee in settings.get("awaits", callees))
    )
    await definition.build(context)
    server, status = make_server(context)
    socket = sockets / f"{replica}.sock"
    socket.unlink(missing_ok=True)
    server.add_insecure_port(socket_address(socket))
    await server.start()
    socket.chmod(0o600)
    telemetry.logger().info("serving", socket=str(socket), services=context.services)
    await until_stopped(context, server, status)
    await observability.close()
    telemetry.logger().info("stopped")


def make_server(context: Context[Any]) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """A server with what `context` has registered, health and reflection; the caller adds a port and starts it."""
    server = grpc.aio.server(
        interceptors=[ServerInterceptor(context.pipeline)],
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ],
    )
    context.register(server)
    status = health.aio.HealthServicer()
    if health.SERVICE_NAME not in context.services:  # the edge answers both for other services
        health_pb2_grpc.add_HealthServicer_to_server(status, server)
    if reflection.SERVICE_NAME not in context.services:
        names = (*context.services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    return server, status


async def until_stopped(context: Context[Any], server: grpc.aio.Server, status: health.aio.HealthServicer) -> None:
    """Says SERVING until SIGTERM, then drains and closes."""
    for name in ("", *context.services):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    telemetry.logger().info("draining")
    await status.enter_graceful_shutdown()
    context.drain()
    await server.stop(DRAIN_S)
    await context.close()


def _model_server(settings: dict[str, str] | None) -> ModelServer | None:
    if settings is None:
        return None
    return ModelServer(models=Path(settings["models"]), admin_key=settings["admin_key"])


def crash(error: BaseException) -> None:
    """Crash-only: no clean-up that a recovery does not do better."""
    telemetry.logger().critical("crash", exc_info=error)
    sys.stdout.flush()
    os._exit(CRASHED)
