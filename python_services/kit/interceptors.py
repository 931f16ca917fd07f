"""What happens around every handler, in one explicit order: see `CHAIN`.

A middleware wraps a unary handler; streams pass the same steps on their opening message. None of them
sends initial metadata early: an abort stays trailers-only, the one form Envoy's retry policy can read.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import protovalidate
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from . import deadline, policy, telemetry
from .client import BAGGAGE_KEY, CALLER_KEY, TRACE_KEY, TRUST_DOMAIN, USER_KEY
from .errors import ServiceError, from_exception, precondition
from .journal import Journal, JournalError, RequestKey, current_request
from .observed import Arrival
from .violations import field_path

Handler = Callable[[Any, Any], Awaitable[Any]]
# grpc.RpcMethodHandler: its functions are optional and untyped for asyncio.
RpcHandler = Any


@dataclass(frozen=True)
class Method:
    """One RPC, as the middlewares see it."""

    path: str
    request_type: type[Message]
    response_type: type[Message]

    @property
    def is_mutation(self) -> bool:
        """Mutations carry a request_id."""
        return "request_id" in self.request_type.DESCRIPTOR.fields_by_name


def method_of(path: str) -> Method | None:
    """Looks up "/package.Service/Method" in the descriptor pool; None for one that is not compiled in."""
    service, _, name = path.lstrip("/").partition("/")
    try:
        descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return None
    request, response = (message_factory.GetMessageClass(d) for d in (descriptor.input_type, descriptor.output_type))
    return Method(path, request, response)


class Pipeline:
    """The chain of one service: trace, deadline, identity, validate, idempotency, errors."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal
        self._in_flight: dict[str, asyncio.Task[Any]] = {}
        self._wrapped: dict[str, RpcHandler] = {}
        self._validator = protovalidate.Validator()

    def wrap(self, path: str, handler: RpcHandler) -> RpcHandler:
        """`handler` with the chain around it; foreign methods (health, reflection) pass as they are."""
        if path not in self._wrapped:
            method = method_of(path)
            if method is None or not path.startswith("/alphamesh."):
                self._wrapped[path] = handler
            elif handler.unary_unary is not None:
                self._wrapped[path] = grpc.unary_unary_rpc_method_handler(
                    self._unary(method, handler.unary_unary), handler.request_deserializer, handler.response_serializer
                )
            elif handler.unary_stream is not None:
                self._wrapped[path] = grpc.unary_stream_rpc_method_handler(
                    self._stream(method, handler.unary_stream),
                    handler.request_deserializer,
                    handler.response_serializer,
                )
            elif handler.stream_stream is not None:
                self._wrapped[path] = grpc.stream_stream_rpc_method_handler(
                    self._duplex(method, handler.stream_stream),
                    handler.request_deserializer,
                    handler.response_serializer,
                )
            else:
                self._wrapped[path] = handler
        return self._wrapped[path]

    def _unary(self, method: Method, handler: Handler) -> Handler:
        limit = policy.timeout_s(method.path) or None

        async def call(request: Any, context: Any) -> Any:
            arrival = self._arrive(method, context)
            try:
                self._admit(method, request, arrival, context)
                async with asyncio.timeout(limit if context.time_remaining() is None else None):
                    if method.is_mutation and self.journal is not None:
                        response = await self._once(method, request, context, handler)
                    else:
                        response = await handler(request, context)
                arrival.code = grpc.StatusCode.OK
                return response
            except Exception as error:
                await self._fail(method, error, arrival, context)
            finally:
                arrival.end(request)

        return call

    def _stream(self, method: Method, handler: Callable[[Any, Any], AsyncIterator[Any]]) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            arrival = self._arrive(method, context)
            try:
                self._admit(method, request, arrival, context)
                async for response in handler(request, context):
                    yield response
                arrival.code = grpc.StatusCode.OK
            except Exception as error:
                await self._fail(method, error, arrival, context)
            finally:
                arrival.end(request, endless=True)

        return call

    def _duplex(self, method: Method, handler: Callable[[Any, Any], AsyncIterator[Any]]) -> Any:
        """A stream both ways: opened like a mutation, and every message of the caller is validated."""

        async def valid(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
            async for request in requests:
                self._validate(request)
                yield request

        async def call(requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Any]:
            arrival = self._arrive(method, context)
            try:
                self._identify(method, arrival, context, mutation=True)
                async for response in handler(valid(requests), context):
                    yield response
                arrival.code = grpc.StatusCode.OK
            except Exception as error:
                await self._fail(method, error, arrival, context)
            finally:
                arrival.end(None, endless=True)

        return call

    def _arrive(self, method: Method, context: Any) -> Arrival:
        metadata = dict(context.invocation_metadata() or ())
        traceparent, baggage = str(metadata.get(TRACE_KEY, "")), str(metadata.get(BAGGAGE_KEY, ""))
        caller = str(metadata.get(CALLER_KEY, "")).removeprefix(TRUST_DOMAIN)
        telemetry.user.set(str(metadata.get(USER_KEY, "")))
        return Arrival(method.path, traceparent, baggage, caller)

    def _admit(self, method: Method, request: Message, arrival: Arrival, context: Any) -> None:
        """Deadline, identity, validate."""
        self._identify(method, arrival, context, mutation=method.is_mutation)
        self._validate(request)

    def _identify(self, method: Method, arrival: Arrival, context: Any, *, mutation: bool) -> None:
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise ServiceError(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the deadline has passed")
        deadline.accept(None if mutation else remaining)
        telemetry.caller.set(arrival.caller)
        if mutation and not arrival.caller:
            raise ServiceError(
                grpc.StatusCode.UNAUTHENTICATED,
                "CALLER_UNKNOWN",
                f"a mutation needs an identity; send {CALLER_KEY} metadata",
            )
        if mutation and telemetry.user.get():
            telemetry.logger().info("asked from outside", method=method.path, caller=arrival.caller)

    def _validate(self, request: Message) -> None:
        violations = self._validator.collect_violations(request)
        if violations:
            listed = [(field_path(v), v.proto.message or v.proto.rule_id) for v in violations]
            raise ServiceError(
                grpc.StatusCode.INVALID_ARGUMENT,
                "VALIDATION",
                "; ".join(f"{field}: {text}" if field else text for field, text in listed),
                violations=listed,
            )

    async def _once(self, method: Method, request: Message, context: Any, handler: Handler) -> Any:
        """Idempotency: a repeat gets the first answer, the same key with other content is an error."""
        assert self.journal is not None
        request_id = request.request_id  # type: ignore[attr-defined]
        while (running := self._in_flight.get(request_id)) is not None:
            await asyncio.wait([running])
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        answered = self.journal.answered(request_id)
        if answered is not None:
            if answered[0] != method.path or answered[1] != digest:
                raise precondition(
                    "REQUEST_ID_REUSED",
                    f"request_id {request_id} was used for another request; use a new UUID",
                    request_id=request_id,
                )
            return method.response_type.FromString(answered[2])
        key = RequestKey(request_id=request_id, method=method.path, request_sha256=digest)
        token = current_request.set(key)
        try:
            # A task of its own: a caller that goes away must not stop a mutation half-way.
            work: asyncio.Task[Any] = asyncio.create_task(_await(handler(request, context)))
        finally:
            current_request.reset(token)
        self._in_flight[request_id] = work
        work.add_done_callback(lambda _: self._in_flight.pop(request_id))
        return await asyncio.shield(work)

    async def _fail(self, method: Method, error: Exception, arrival: Arrival, context: Any) -> None:
        arrival.code = grpc.StatusCode.UNKNOWN
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if isinstance(error, JournalError):
            known: ServiceError | None = ServiceError(grpc.StatusCode.UNAVAILABLE, "JOURNAL_LOST", str(error))
        else:
            known = from_exception(error)
        if known is None:
            telemetry.logger().error("unmapped error", method=method.path, exc_info=error)
            known = ServiceError(
                grpc.StatusCode.INTERNAL, "INTERNAL", f"{type(error).__name__} in {method.path}; see the service's log"
            )
        elif known.code is grpc.StatusCode.INTERNAL:
            telemetry.logger().error("internal error", method=method.path, reason=known.reason, error=known.message)
        arrival.code, arrival.error = known.code, known.reason
        await context.abort_with_status(known.to_status())


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Puts a Pipeline around every handler of a grpc.aio server."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Called by gRPC for each call; the wrapped handlers are cached."""
        handler = await continuation(handler_call_details)
        return None if handler is None else self._pipeline.wrap(handler_call_details.method, handler)


async def _await(work: Awaitable[Any]) -> Any:
    return await work
