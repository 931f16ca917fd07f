"""Spans to an OTLP collector over gRPC: in batches, beside the work, never in the way of a call.

The collector is the audit service, or any other that speaks OTLP (Jaeger, Tempo). While it is away, spans wait in a
queue of bounded length; what does not fit is dropped and counted. Nothing but spans is lost. Only the messages of
opentelemetry-proto are used. Source: OpenTelemetry Protocol 1.5, section "OTLP/gRPC".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from functools import lru_cache
from itertools import islice

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from . import telemetry
from .config import ConfigError
from .tracing import FAILURES, Span, span_id

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
QUEUE = 8192  # spans
BATCH = 512
FLUSH_S = 0.5
ANSWER_S = 5.0
_LONGEST_PAUSE_S = 5.0
_SLICE = 32  # spans encoded before other work has its turn: about 0.3 ms
_LONGEST_TEXT = 512
_CODE = "rpc.grpc.status_code"
_AGAIN = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


class Exporter:
    """Sends what `keep` is given. `exported` and `dropped` count spans."""

    def __init__(self, endpoint: str, service: str, version: str) -> None:
        """Raises ConfigError for an endpoint that cannot be one."""
        self._channel = _open(endpoint)
        self._export = self._channel.unary_unary(
            METHOD,
            request_serializer=trace_service_pb2.ExportTraceServiceRequest.SerializeToString,
            response_deserializer=trace_service_pb2.ExportTraceServiceResponse.FromString,
        )
        facts: dict[str, str | int] = {"service.name": service, "service.version": version, "process.pid": os.getpid()}
        self._resource = Resource(attributes=[_attribute(key, value) for key, value in facts.items()])
        self._scope = InstrumentationScope(name="alphamesh.kit.tracing")
        self._queue: deque[Span] = deque()
        self._away = False
        self.exported = self.dropped = 0

    @property
    def waiting(self) -> int:
        """Spans that were not sent yet."""
        return len(self._queue)

    def keep(self, span: Span) -> None:
        """Takes a span; drops it when too many wait."""
        if len(self._queue) < QUEUE:
            self._queue.append(span)
        else:
            self.dropped += 1

    async def run(self) -> None:
        """For ever."""
        pause = FLUSH_S
        while True:
            await asyncio.sleep(pause)
            sent = await self._flush()
            pause = FLUSH_S if sent else min(2 * pause, _LONGEST_PAUSE_S)

    async def close(self) -> None:
        """Sends what is left, if the collector answers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._flush()
        await self._channel.close()

    async def _flush(self) -> bool:
        """Whether the collector took all that waited when this began."""
        while self._queue:
            batch = list(islice(self._queue, BATCH))
            try:
                answer = await self._export(await self._encoded(batch), timeout=ANSWER_S)
            except grpc.aio.AioRpcError as error:
                if not self._away:
                    telemetry.logger().warning("spans cannot be exported", code=error.code().name, why=error.details())
                self._away = True
                if error.code() in _AGAIN:
                    return False
                self._forget(len(batch))
                self.dropped += len(batch)
                continue
            if self._away:
                telemetry.logger().info("spans are exported again", waiting=len(self._queue), dropped=self.dropped)
            self._away = False
            self._forget(len(batch))
            rejected = answer.partial_success.rejected_spans
            self.exported += len(batch) - rejected
            self.dropped += rejected
            if len(batch) < BATCH:
                break
        return True

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._queue.popleft()

    async def _encoded(self, batch: list[Span]) -> trace_service_pb2.ExportTraceServiceRequest:
        request = trace_service_pb2.ExportTraceServiceRequest()
        resource = request.resource_spans.add(resource=self._resource)
        spans = resource.scope_spans.add(scope=self._scope).spans
        for first in range(0, len(batch), _SLICE):
            spans.extend(_message(span) for span in batch[first : first + _SLICE])
            await asyncio.sleep(0)
        return request


def _open(endpoint: str) -> grpc.aio.Channel:
    options = [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 1_000)]
    scheme, _, address = endpoint.partition(":")
    if scheme == "unix" and address:
        return grpc.aio.insecure_channel(endpoint, options=[*options, ("grpc.default_authority", "collector.mesh")])
    host = address.removeprefix("//").rstrip("/")
    if scheme == "http" and host:
        return grpc.aio.insecure_channel(host, options=options)
    if scheme == "https" and host:
        return grpc.aio.secure_channel(host, grpc.ssl_channel_credentials(), options=options)
    raise ConfigError(f"tracing.collector: {endpoint!r} is no address; use http://HOST:PORT or https://HOST:PORT")


def _message(span: Span) -> trace_pb2.Span:
    attributes = [_attribute(key, value) for key, value in span.attributes.items()]
    if span.code is not None:
        attributes.append(_attribute(_CODE, span.code.value[0]))
    made = trace_pb2.Span(
        trace_id=bytes.fromhex(span.context[3:35]),
        span_id=bytes.fromhex(span_id(span.context)),
        parent_span_id=bytes.fromhex(span.parent_id),
        flags=int(span.context[53:55], 16),
        name=span.name,
        kind=span.kind,  # type: ignore[arg-type]
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=attributes,
    )
    if span.error or span.code in FAILURES:
        made.status.code = trace_pb2.Status.STATUS_CODE_ERROR
        made.status.message = span.error[:_LONGEST_TEXT]
    return made


@lru_cache(maxsize=2048)
def _attribute(key: str, value: str | int) -> KeyValue:
    """Cached: methods, peers and codes are few, and a decision has many spans."""
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value[:_LONGEST_TEXT]))
