"""The local transport: the same servicers and stubs in one process, without sockets.

Messages are serialised and parsed as on a socket, so neither side can see the other's objects, and the
same chain of interceptors runs. Deadlines, aborts and cancellation behave as they do over gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextvars import Context as ContextVars
from contextvars import copy_context
from typing import Any

import grpc
from grpc.aio import AioRpcError, Metadata

from . import journal, telemetry
from .client import Channel
from .interceptors import Pipeline, RpcHandler


class LocalServer:
    """Collects handlers like a gRPC server does."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._handlers: dict[str, RpcHandler] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Part of gRPC's registration; the methods come through `add_registered_method_handlers`."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: dict[str, Any]) -> None:
        """Takes the handlers of one service."""
        for name, handler in method_handlers.items():
            path = f"/{service_name}/{name}"
            self._handlers[path] = self._pipeline.wrap(path, handler)

    def handler(self, path: str) -> RpcHandler:
        """The wrapped handler of a method."""
        return self._handlers.get(path)


class LocalTransport:
    """Connects services of one process by name."""

    def __init__(self) -> None:
        self._servers: dict[str, LocalServer] = {}

    def bind(self, service: str, server: LocalServer) -> None:
        """Makes `server` reachable as `service`."""
        self._servers[service] = server

    def unbind(self, service: str) -> None:
        """Calls to `service` are UNAVAILABLE from now on."""
        self._servers.pop(service, None)

    def channel(self, caller: str, service: str) -> Channel:
        """A channel on which generated stubs work."""
        return Channel(caller, _LocalChannel(self._servers, service))


class _LocalChannel:
    def __init__(self, servers: dict[str, LocalServer], service: str) -> None:
        self._servers = servers
        self._service = service

    def unary_unary(self, method: str, request_serializer: Any, response_deserializer: Any, **_options: Any) -> Any:
        def call(request: Any, *, timeout: float | None, metadata: Sequence[tuple[str, str]]) -> _UnaryCall:
            body = request_serializer(request)
            return _UnaryCall(self._unary(method, body, response_deserializer, timeout, metadata))

        return call

    def unary_stream(self, method: str, request_serializer: Any, response_deserializer: Any, **_options: Any) -> Any:
        def call(request: Any, *, timeout: float | None, metadata: Sequence[tuple[str, str]]) -> Any:
            body = request_serializer(request)
            return _StreamCall(self._stream(method, body, response_deserializer, timeout, metadata))

        return call

    def stream_stream(self, method: str, request_serializer: Any, response_deserializer: Any, **_options: Any) -> Any:
        async def bodies(requests: AsyncIterator[Any]) -> AsyncIterator[bytes]:
            async for request in requests:
                yield request_serializer(request)

        def call(requests: Any, *, timeout: float | None, metadata: Sequence[tuple[str, str]]) -> Any:
            return _StreamCall(self._duplex(method, bodies(requests), response_deserializer, timeout, metadata))

        return call

    async def close(self) -> None:
        """Nothing is open."""

    def _find(self, method: str) -> RpcHandler:
        server = self._servers.get(self._service)
        if server is None:
            raise _error(grpc.StatusCode.UNAVAILABLE, f"service {self._service} is not running")
        handler = server.handler(method)
        if handler is None:
            raise _error(grpc.StatusCode.UNIMPLEMENTED, f"{self._service} has no method {method}")
        return handler

    async def _unary(
        self, method: str, body: bytes, deserialize: Any, limit: float | None, metadata: Sequence[tuple[str, str]]
    ) -> Any:
        handler = self._find(method)
        context = LocalContext(limit, metadata)
        try:
            async with asyncio.timeout(limit):
                # A task of its own: the handler must not see or change the caller's context variables.
                response = await asyncio.create_task(
                    handler.unary_unary(handler.request_deserializer(body), context),
                    context=_fresh_context(self._service),
                )
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        except _Aborted as aborted:
            raise aborted.error from None
        return deserialize(handler.response_serializer(response))

    def _stream(
        self, method: str, body: bytes, deserialize: Any, limit: float | None, metadata: Sequence[tuple[str, str]]
    ) -> AsyncIterator[Any]:
        def start(handler: RpcHandler, context: LocalContext) -> AsyncIterator[Any]:
            return handler.unary_stream(handler.request_deserializer(body), context)  # type: ignore[no-any-return]

        return self._responses(method, start, deserialize, limit, metadata)

    def _duplex(
        self,
        method: str,
        bodies: AsyncIterator[bytes],
        deserialize: Any,
        limit: float | None,
        metadata: Sequence[tuple[str, str]],
    ) -> AsyncIterator[Any]:
        def start(handler: RpcHandler, context: LocalContext) -> AsyncIterator[Any]:
            requests = (handler.request_deserializer(body) async for body in bodies)
            return handler.stream_stream(requests, context)  # type: ignore[no-any-return]

        return self._responses(method, start, deserialize, limit, metadata)

    async def _responses(
        self,
        method: str,
        start: Callable[[RpcHandler, LocalContext], AsyncIterator[Any]],
        deserialize: Any,
        limit: float | None,
        metadata: Sequence[tuple[str, str]],
    ) -> AsyncIterator[Any]:
        handler = self._find(method)
        context = LocalContext(limit, metadata)
        try:
            async with asyncio.timeout(limit):
                responses: Any = start(handler, context)
                try:
                    async for response in _in_context(responses, _fresh_context(self._service)):
                        yield deserialize(handler.response_serializer(response))
                finally:
                    await responses.aclose()
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        except _Aborted as aborted:
            raise aborted.error from None


class LocalContext:
    """The part of grpc.aio.ServicerContext that handlers use."""

    def __init__(self, timeout: float | None, metadata: Sequence[tuple[str, str]]) -> None:
        self._deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        self._metadata = tuple(metadata)

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of the call."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds to the deadline; None without one."""
        return None if self._deadline is None else self._deadline - asyncio.get_running_loop().time()

    def set_code(self, code: grpc.StatusCode) -> None:
        """Generated servicers call it before they raise NotImplementedError, which says the same."""

    def set_details(self, details: str) -> None:
        """As `set_code`."""

    def peer(self) -> str:
        """Where the call comes from."""
        return "local:"

    async def abort_with_status(self, status: grpc.Status) -> None:
        """Ends the call with `status`."""
        raise _Aborted(_error(status.code, status.details, status.trailing_metadata))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        """Ends the call with a code and details."""
        raise _Aborted(_error(code, details, trailing_metadata))


class _Aborted(grpc.aio.AbortError):
    def __init__(self, error: AioRpcError) -> None:
        super().__init__(error.details() or "")
        self.error = error


class _UnaryCall:
    """Awaitable like grpc.aio.UnaryUnaryCall."""

    def __init__(self, work: Any) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, None, Any]:
        return self._work.__await__()  # type: ignore[no-any-return]


class _StreamCall:
    """Iterable like grpc.aio.UnaryStreamCall."""

    def __init__(self, responses: AsyncIterator[Any]) -> None:
        self._responses = responses

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._responses


async def _in_context(responses: AsyncIterator[Any], context: ContextVars) -> AsyncIterator[Any]:
    """Each step of the handler in its own context variables, not in the reader's."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            yield await loop.create_task(_step(responses), context=context)
        except StopAsyncIteration:
            return


async def _step(responses: AsyncIterator[Any]) -> Any:
    return await anext(responses)


def _fresh_context(service: str) -> ContextVars:
    context = copy_context()
    context.run(telemetry.as_service, service)
    context.run(journal.current_request.set, None)
    context.run(telemetry.traceparent.set, "")
    context.run(telemetry.caller.set, "")
    context.run(telemetry.user.set, "")
    return context


def _error(code: grpc.StatusCode, details: str, trailing: Any = ()) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata.from_tuple(tuple(trailing or ())), details)
