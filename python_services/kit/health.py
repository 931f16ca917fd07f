"""grpc.health.v1 over a service's socket."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

_POLL_S = 0.01
_CALL_TIMEOUT_S = 2.0
_SERVING = health_pb2.HealthCheckResponse.SERVING


async def wait_serving(socket: Path, authority: str = "localhost") -> None:
    """Returns when the service says SERVING; the caller bounds the wait.

    `socket`: its own, or that of a sidecar that knows it as `authority`.
    """
    while await check(socket, authority=authority) != "SERVING":  # noqa: ASYNC110 - another process, nothing to be woken by
        await asyncio.sleep(_POLL_S)


async def check(socket: Path, timeout_s: float = _CALL_TIMEOUT_S, *, authority: str = "localhost") -> str:
    """What the service says of itself: "SERVING", "NOT_SERVING", or "UNREACHABLE"."""
    if not os.path.exists(socket):  # noqa: PTH110, ASYNC240
        return "UNREACHABLE"
    options: list[tuple[str, Any]] = [("grpc.enable_retries", 0), ("grpc.default_authority", authority)]
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=options) as channel:
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
