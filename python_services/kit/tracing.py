"""Spans: what took how long, as a tree over all services, for the traces that are sampled.

Every call has a place in its trace (W3C Trace Context) whether it is sampled or not: a fresh span id, two readings
of the clock. Only a span that is kept costs more: those of a sampled trace, those that failed, and slow calls.
Kept spans are handed to an exporter (otlp.py) as tuples and encoded later, off the path of the call.

One decision is one trace: its id is a function of the decision_id, so that every process finds it, also for a fill
that comes a day later. Whether a trace is sampled is a function of its id, so all services agree.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import grpc

from . import telemetry
from .telemetry import new_span_id, new_trace_id

# SpanKind of OTLP.
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
Code = grpc.StatusCode
# Failures of the system, or an attempt that was not permitted: kept in every trace. What the caller asked for and was
# refused (NOT_FOUND, FAILED_PRECONDITION, ABORTED, ...) is an answer, and no failure.
FAILURES = frozenset(
    {
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,
        Code.PERMISSION_DENIED,
        Code.RESOURCE_EXHAUSTED,
        Code.UNIMPLEMENTED,
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.DATA_LOSS,
        Code.UNAUTHENTICATED,
    }
)
_SAMPLED = frozenset("13579bdf")  # the lowest bit of the flags
_RANDOM_BITS = 56  # of a trace id, from the right: W3C Trace Context level 2, section 3.2.2.3.1
_SPAN = slice(36, 52)  # of a traceparent


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is traced, and where spans go.

    endpoint       unix:PATH, or http://HOST:PORT or https://HOST:PORT of an OTLP collector (gRPC)
    decision_rate  share of the decisions that are sampled
    rate           share of all other traces
    slow_ms        a unary call that takes longer is kept in every trace
    """

    endpoint: str
    decision_rate: float = 1.0
    rate: float = 0.01
    slow_ms: float = 250.0


class Span(NamedTuple):
    """A span that is over. `context` is its own traceparent; `code` is absent for what is not a call."""

    context: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    code: grpc.StatusCode | None
    error: str
    attributes: Mapping[str, str | int]


class Tracer:
    """Decides what is kept. `keep` takes what is, and neither blocks nor raises."""

    def __init__(self, settings: Settings, keep: Callable[[Span], None]) -> None:
        self._keep = keep
        self._slow_ns = int(settings.slow_ms * 1e6)
        self._from = _threshold(settings.rate)
        self._decisions_from = _threshold(settings.decision_rate)

    def root(self) -> str:
        """The context of a new trace."""
        trace_id = new_trace_id()
        return f"00-{trace_id}-{new_span_id()}-{_flags(trace_id, self._from)}"

    def decision_root(self, decision_id: str) -> str:
        """The context of a decision's first span."""
        trace_id, span_id = decision_ids(decision_id)
        return f"00-{trace_id}-{span_id}-{_flags(trace_id, self._decisions_from)}"

    def event_context(self, correlation_id: str) -> str:
        """The sampled context that an event belongs to: its decision's, else that of the call; empty for none."""
        context = telemetry.traceparent.get()
        if correlation_id and correlation_id != telemetry.decision.get():
            context = self.decision_root(correlation_id)
        return context if is_sampled(context) else ""

    def finish(
        self,
        context: str,
        parent_id: str,
        name: str,
        kind: int,
        elapsed_ns: int,
        attributes: Callable[[], Mapping[str, str | int]],
        *,
        code: grpc.StatusCode | None = None,
        error: str = "",
        endless: bool = False,
    ) -> None:
        """Keeps a span that ends now, if it is to be kept. `endless`: a stream, which is not slow."""
        failed = code in FAILURES or bool(error)
        if failed or is_sampled(context) or (elapsed_ns > self._slow_ns and not endless):
            end_ns = time.time_ns()
            self._keep(
                Span(context, parent_id, name, kind, end_ns - elapsed_ns, end_ns, code, error, dict(attributes()))
            )


# The tracer of this process, set once by `serve`. None: contexts are forwarded as they came, nothing is kept.
tracer: Tracer | None = None


def start(settings: Settings, keep: Callable[[Span], None]) -> None:
    """From now on this process traces."""
    global tracer
    tracer = Tracer(settings, keep)


def is_sampled(context: str) -> bool:
    """Whether the trace of a context is sampled; False for an empty one."""
    return bool(context) and context[-1] in _SAMPLED


def child_of(context: str) -> str:
    """The context of a new span under `context`."""
    return f"{context[:36]}{new_span_id()}{context[52:]}"


def span_id(context: str) -> str:
    """The span of a context."""
    return context[_SPAN]


def arriving(value: str) -> tuple[str, str]:
    """(context of the server's span, its parent's span id) for the traceparent of a call; a new trace without one."""
    if telemetry.well_formed(value):
        return (value, "") if tracer is None else (child_of(value), value[_SPAN])
    return (telemetry.new_traceparent() if tracer is None else tracer.root()), ""


def departing() -> tuple[str, str]:
    """(context of the client's span, its parent's span id) for a call that begins here."""
    context = telemetry.traceparent.get()
    if tracer is None:
        return context or telemetry.new_traceparent(), ""
    return (child_of(context), context[_SPAN]) if context else (tracer.root(), "")


@lru_cache(maxsize=1024)
def decision_ids(decision_id: str) -> tuple[str, str]:
    """(trace id, id of the first span) of a decision, in hex: a function of the decision_id alone."""
    digest = sha256(b"alphamesh/decision/" + decision_id.encode()).hexdigest()
    return digest[:32], digest[32:48]


@contextmanager
def decision(decision_id: str, attributes: Mapping[str, str | int]) -> Iterator[None]:
    """The block is one decision, and the first span of its trace. `attributes` are read when it ends."""
    served = telemetry.decision.set(decision_id)
    unsampled = "00-{}-{}-00".format(*decision_ids(decision_id))
    try:
        with _block("decision", tracer.decision_root(decision_id) if tracer else unsampled, "", attributes):
            yield
    finally:
        telemetry.decision.reset(served)


@contextmanager
def step(name: str) -> Iterator[None]:
    """The block is a span of its own in the trace that it is part of."""
    context = telemetry.traceparent.get()
    if tracer is None or not context:
        yield
    else:
        with _block(name, child_of(context), span_id(context), {}):
            yield


@contextmanager
def _block(name: str, context: str, parent_id: str, attributes: Mapping[str, str | int]) -> Iterator[None]:
    token = telemetry.traceparent.set(context)
    begun, error = time.perf_counter_ns(), ""
    try:
        yield
    except (Exception, asyncio.CancelledError) as raised:
        error = type(raised).__name__
        raise
    finally:
        telemetry.traceparent.reset(token)
        if tracer is not None:
            elapsed_ns = time.perf_counter_ns() - begun
            tracer.finish(
                context, parent_id, name, INTERNAL, elapsed_ns, lambda: {**attributes, **_served()}, error=error
            )


def rpc_attributes(path: str, peer: str, request: Any = None) -> dict[str, str | int]:
    """What a span says of a call: OpenTelemetry's names for RPC, and the decision and snapshot where it has them."""
    service, _, method = path.lstrip("/").partition("/")
    said: dict[str, str | int] = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    if peer:
        said["peer.service"] = peer
    decision_id = getattr(request, "decision_id", "") or telemetry.decision.get()
    if decision_id:
        said["alphamesh.decision_id"] = decision_id
    if snapshot_id := getattr(request, "snapshot_id", ""):
        said["alphamesh.snapshot_id"] = snapshot_id
    return said


def _served() -> dict[str, str | int]:
    served = telemetry.decision.get()
    return {"alphamesh.decision_id": served} if served else {}


def _threshold(rate: float) -> int:
    """Trace ids whose random part is at least this are sampled."""
    return round((1.0 - rate) * (1 << _RANDOM_BITS))


def _flags(trace_id: str, threshold: int) -> str:
    return "01" if int(trace_id[-_RANDOM_BITS // 4 :], 16) >= threshold else "00"
