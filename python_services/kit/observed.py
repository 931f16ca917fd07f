"""Calls as they are observed, on both sides: one span and one count each, whatever way they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator
from typing import Any

import grpc

from . import metrics, telemetry, tracing


class Arrival:
    """A call that this service answers. `code` stays CANCELLED when the caller goes away."""

    __slots__ = ("_begun", "_context", "_parent_id", "_path", "caller", "code", "error")

    def __init__(self, path: str, traceparent: str, baggage: str, caller: str) -> None:
        """Sets the context variables of the handler, which runs in a context of its own."""
        self._begun = time.perf_counter_ns()
        self._path = path
        self._context, self._parent_id = tracing.arriving(traceparent)
        self.caller = caller
        self.code = grpc.StatusCode.CANCELLED
        self.error = ""
        telemetry.traceparent.set(self._context)
        telemetry.decision.set(telemetry.decision_in(baggage) if baggage else "")

    def end(self, request: Any, *, endless: bool = False) -> None:
        """Counts it, and keeps its span when that is to be kept."""
        elapsed_ns = time.perf_counter_ns() - self._begun
        if metrics.registry is not None:
            sampled = self._context[3:35] if tracing.is_sampled(self._context) else ""
            calls = metrics.registry.calls(metrics.SERVER, self._path, self.caller)
            calls.observe(self.code, elapsed_ns, sampled)
        if tracing.tracer is not None:
            tracing.tracer.finish(
                self._context,
                self._parent_id,
                self._path[1:],
                tracing.SERVER,
                elapsed_ns,
                lambda: tracing.rpc_attributes(self._path, self.caller, request),
                code=self.code,
                error=self.error if self.code in tracing.FAILURES else "",
                endless=endless,
            )


class _Departure:
    """A call that this service makes; everything else that gRPC offers of it is there too."""

    __slots__ = ("_begun", "_call", "_callee", "_context", "_method", "_parent_id", "_request")
    endless = False

    def __init__(
        self, call: Any, method: str, callee: str, request: Any, context: str, parent_id: str, begun: int
    ) -> None:
        self._call = call
        self._method = method
        self._callee = callee
        self._request = request
        self._context = context
        self._parent_id = parent_id
        self._begun = begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def _end(self, code: grpc.StatusCode, error: str = "") -> None:
        elapsed_ns = time.perf_counter_ns() - self._begun
        if metrics.registry is not None:
            sampled = self._context[3:35] if tracing.is_sampled(self._context) else ""
            metrics.registry.calls(metrics.CLIENT, self._method, self._callee).observe(code, elapsed_ns, sampled)
        if tracing.tracer is not None:
            tracing.tracer.finish(
                self._context,
                self._parent_id,
                self._method[1:],
                tracing.CLIENT,
                elapsed_ns,
                lambda: tracing.rpc_attributes(self._method, self._callee, self._request),
                code=code,
                error=error if code in tracing.FAILURES else "",
                endless=self.endless,
            )


class Departure(_Departure):
    """One answer."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            response = yield from self._call.__await__()
        except grpc.aio.AioRpcError as error:
            self._end(error.code(), error.details() or "")
            raise
        except asyncio.CancelledError:
            self._end(grpc.StatusCode.CANCELLED)
            raise
        self._end(grpc.StatusCode.OK)
        return response


class StreamDeparture(_Departure):
    """A stream of answers. One that the reader leaves is CANCELLED."""

    __slots__ = ()
    endless = True

    async def __aiter__(self) -> AsyncIterator[Any]:
        code, why = grpc.StatusCode.CANCELLED, ""
        try:
            async for response in self._call:
                yield response
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code, why = error.code(), error.details() or ""
            raise
        finally:
            self._end(code, why)
