"""Calling another service: one channel wrapper that puts deadline, identity and trace on every call.

A wrapper around the channel instead of gRPC's client interceptors: it costs 2 instead of 60
microseconds a call, and it works the same over a socket and over the local transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc

from . import deadline, policy, telemetry
from .config import ConfigError
from .errors import ServiceError

T = TypeVar("T")
CALLER_KEY = "x-alphamesh-caller"
TRACE_KEY = "traceparent"
# A sidecar states the caller by its SPIFFE id, <trust domain><name>.
TRUST_DOMAIN = "spiffe://alphamesh.local/"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
SOCKET_PATH_LIMIT = 107  # sockaddr_un.sun_path, without the final NUL


_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
# What gRPC says, under UNKNOWN, of a call whose server was killed while it answered.
_CUT_OFF = "Stream removed"


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
    return Channel(caller, grpc.aio.insecure_channel(socket_address(path), options=options))


class Channel:
    """What generated stubs are built on. `wrapped` is a grpc.aio.Channel or the local transport's."""

    def __init__(self, caller: str, wrapped: Any) -> None:
        self._caller = caller
        self._wrapped = wrapped

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> _Call:
        """A callable for a unary method."""
        return _Call(self._caller, method, self._wrapped.unary_unary(method, *arguments, **options))

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> _Call:
        """A callable for a server stream."""
        return _Call(self._caller, method, self._wrapped.unary_stream(method, *arguments, **options))

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> _Call:
        """A callable for a client stream."""
        return _Call(self._caller, method, self._wrapped.stream_unary(method, *arguments, **options))

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> _Call:
        """A callable for a bidirectional stream."""
        return _Call(self._caller, method, self._wrapped.stream_stream(method, *arguments, **options))

    async def close(self) -> None:
        """Closes the connection."""
        await self._wrapped.close()


class _Call:
    __slots__ = ("_caller", "_default_timeout", "_wrapped")

    def __init__(self, caller: str, method: str, wrapped: Any) -> None:
        self._caller = caller
        self._default_timeout = policy.timeout_s(method) or None
        self._wrapped = wrapped

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Sequence[tuple[str, str]] = ()) -> Any:
        trace = telemetry.traceparent.get() or telemetry.new_traceparent()
        return self._wrapped(
            request,
            timeout=deadline.bounded(self._default_timeout if timeout is None else timeout),
            metadata=(*metadata, (CALLER_KEY, self._caller), (TRACE_KEY, trace)),
        )


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
            if not _away(error, slow) or loop.time() + pause > give_up:
                raise
            telemetry.logger().warning("service away, repeating the call", error=error.details())
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _away(error: grpc.aio.AioRpcError, slow: bool) -> bool:
    code = error.code()
    if code is grpc.StatusCode.UNKNOWN:
        return _CUT_OFF in (error.details() or "")
    return code is grpc.StatusCode.UNAVAILABLE or (slow and code is grpc.StatusCode.DEADLINE_EXCEEDED)
