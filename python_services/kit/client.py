"""Calling another service: one channel wrapper that puts deadline, identity and trace on every call.

A wrapper around the channel instead of gRPC's client interceptors: it costs 2 instead of 60
microseconds a call, and it works the same over a socket and over the local transport.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc

from . import deadline, metrics, policy, telemetry, tracing
from .config import ConfigError
from .errors import ServiceError, is_away
from .observed import Departure, StreamDeparture

T = TypeVar("T")
CALLER_KEY = "x-alphamesh-caller"
# Person, or program outside, on whose behalf the edge calls; the sidecars let nobody else say so.
USER_KEY = "x-alphamesh-user"
TRACE_KEY = "traceparent"
# A sidecar states the caller by its SPIFFE id, <trust domain><name>.
TRUST_DOMAIN = "spiffe://alphamesh.local/"
BAGGAGE_KEY = "baggage"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
SOCKET_PATH_LIMIT = 107  # sockaddr_un.sun_path, without the final NUL


_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


def socket_address(path: Path) -> str:
    """gRPC address of a Unix socket. Raises ServiceError when the path is too long for the kernel."""
    if len(str(path)) > SOCKET_PATH_LIMIT:
        raise ServiceError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "SOCKET_PATH_TOO_LONG",
            f"socket path {path} has {len(str(path))} bytes, the limit is {SOCKET_PATH_LIMIT}; "
            "choose a shorter --data-dir",
        )
    return f"unix:{path}"


def declared_edge(caller: str, service: str, callees: Collection[str]) -> str:
    """`service`, when the topology lets `caller` call it. Raises ConfigError."""
    if service not in callees:
        raise ConfigError(
            f"{caller} calls {service}, an edge that the topology does not have; add it under `calls` of {caller}"
        )
    return service


def authority(service: str) -> str:
    """What a sidecar knows `service` by."""
    return f"{service}.mesh"


def open_channel(caller: str, service: str, path: Path) -> Channel:
    """A channel to `service`: on its own Unix socket, or on that of the caller's sidecar."""
    return connect(caller, service, socket_address(path))


def connect(caller: str, service: str, address: str) -> Channel:
    """A channel to `service` at a gRPC address."""
    options: list[tuple[str, Any]] = [
        ("grpc.default_authority", authority(service)),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.enable_retries", 0),  # retries belong to one layer: the sidecar
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
    return Channel(caller, grpc.aio.insecure_channel(address, options=options), service)


class Channel:
    """What generated stubs are built on. `wrapped` is a grpc.aio.Channel or the local transport's."""

    def __init__(self, caller: str, wrapped: Any, callee: str = "") -> None:
        self._caller = caller
        self._wrapped = wrapped
        self._callee = callee

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> _Call:
        """A callable for a unary method."""
        return self._call(method, self._wrapped.unary_unary(method, *arguments, **options), Departure)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> _Call:
        """A callable for a server stream."""
        return self._call(method, self._wrapped.unary_stream(method, *arguments, **options), StreamDeparture)

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> _Call:
        """A callable for a client stream."""
        return self._call(method, self._wrapped.stream_unary(method, *arguments, **options), Departure)

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> _Call:
        """A callable for a bidirectional stream."""
        return self._call(method, self._wrapped.stream_stream(method, *arguments, **options), StreamDeparture)

    async def close(self) -> None:
        """Closes the connection."""
        await self._wrapped.close()

    def _call(self, method: str, wrapped: Any, departure: type[Departure | StreamDeparture]) -> _Call:
        return _Call(self._caller, self._callee, method, wrapped, departure)


class _Call:
    __slots__ = ("_callee", "_caller", "_default_timeout", "_departure", "_method", "_wrapped")

    def __init__(
        self, caller: str, callee: str, method: str, wrapped: Any, departure: type[Departure | StreamDeparture]
    ) -> None:
        self._caller = caller
        self._callee = callee
        self._method = method
        self._default_timeout = policy.timeout_s(method) or None
        self._wrapped = wrapped
        self._departure = departure

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Sequence[tuple[str, str]] = ()) -> Any:
        context, parent_id = tracing.departing()
        metadata = (*metadata, (CALLER_KEY, self._caller), (TRACE_KEY, context))
        if decision_id := telemetry.decision.get():
            metadata = (*metadata, (BAGGAGE_KEY, f"decision_id={decision_id}"))
        limit = deadline.bounded(self._default_timeout if timeout is None else timeout)
        begun = time.perf_counter_ns()
        call = self._wrapped(request, timeout=limit, metadata=metadata)
        if tracing.tracer is None and metrics.registry is None:
            return call
        return self._departure(call, self._method, self._callee, request, context, parent_id, begun)


async def persist(call: Callable[[], Awaitable[T]], patience_s: float, *, slow: bool = True) -> T:
    """Repeats `call` while the service is away; with `slow`, also when it did not answer in time.

    Safe because every mutation carries its request_id: a repeat waits for the first one and gets its answer.
    Raises the last AioRpcError once `patience_s` has passed.
    """
    loop = asyncio.get_running_loop()
    give_up, pause = loop.time() + patience_s, _FIRST_PAUSE_S
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if not is_away(error, slow=slow) or loop.time() + pause > give_up:
                raise
            telemetry.logger().warning("service away, repeating the call", error=error.details())
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
