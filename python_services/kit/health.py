"""grpc.health.v1 over a service's socket."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

_POLL_S, _LONGEST_POLL_S = 0.01, 0.1
_CALL_TIMEOUT_S = 2.0
_SERVING = health_pb2.HealthCheckResponse.SERVING


async def wait_serving(socket: Path, authority: str = "localhost") -> None:
    """Returns when the service says SERVING; the caller bounds the wait.

    `socket`: its own, or that of a sidecar that knows it as `authority`. A sidecar is there long before the service:
    one connection and growing pauses, or the questions of all who wait keep the machine from starting what they
    wait for.
    """
    pause = _POLL_S
    while not _exists(socket):  # noqa: ASYNC110 - another process, nothing to be woken by
        await asyncio.sleep(_POLL_S)
    async with _channel(socket, authority) as channel:
        while await _ask(channel, _CALL_TIMEOUT_S) != "SERVING":
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_POLL_S)


async def check(socket: Path, timeout_s: float = _CALL_TIMEOUT_S, *, authority: str = "localhost") -> str:
    """What the service says of itself: "SERVING", "NOT_SERVING", or "UNREACHABLE"."""
    if not _exists(socket):
        return "UNREACHABLE"
    async with _channel(socket, authority) as channel:
        return await _ask(channel, timeout_s)


def _exists(socket: Path) -> bool:
    return os.path.exists(socket)  # noqa: PTH110


def _channel(socket: Path, authority: str) -> grpc.aio.Channel:
    options: list[tuple[str, Any]] = [
        ("grpc.enable_retries", 0),
        ("grpc.default_authority", authority),
        ("grpc.initial_reconnect_backoff_ms", 10),
        ("grpc.max_reconnect_backoff_ms", 100),
    ]
    return grpc.aio.insecure_channel(f"unix:{socket}", options=options)


async def _ask(channel: grpc.aio.Channel, timeout_s: float) -> str:
    ask = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = await ask(health_pb2.HealthCheckRequest(service=""), timeout=timeout_s)
    except grpc.aio.AioRpcError:
        return "UNREACHABLE"
    return "SERVING" if answer.status == _SERVING else "NOT_SERVING"
