"""Traces across the event log: a frame carries in its headers in which trace its events were decided.

One span where a frame is published, from the first event's decision until the log has it, and one in each reader,
below it. A frame whose events belong to several traces has a span in each: the first is in `traceparent` (W3C Trace
Context), the others in `Alphamesh-Traceparents`. An event that was decided outside a call, as a fill is at the next
market step, belongs to the trace of its decision.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from alphamesh.audit.v1 import event_pb2

from . import telemetry, tracing

TRACEPARENT = "traceparent"
MORE = "Alphamesh-Traceparents"
_MOST = 8  # traces of one frame
_MOST_NAMES = 6


class Publishing:
    """One frame on its way to the log."""

    def __init__(self, frame: event_pb2.EventFrame, decided: Mapping[str, int]) -> None:
        """decided: `Journal.traces`."""
        self._frame = frame
        self._spans = [(tracing.child_of(parent), parent, at) for parent, at in list(decided.items())[:_MOST]]
        self.headers: dict[str, str] = {}
        if self._spans:
            contexts = [context for context, _, _ in self._spans]
            self.headers = {TRACEPARENT: contexts[0]} | ({MORE: ",".join(contexts[1:])} if contexts[1:] else {})

    def end(self) -> None:
        """The log has it."""
        for context, parent, decided_ns in self._spans:
            _keep(context, parent, "publish", tracing.PRODUCER, time.time_ns() - decided_ns, self._frame)


@contextmanager
def consuming(frame: event_pb2.EventFrame, headers: Mapping[str, str] | None, how: str) -> Iterator[None]:
    """The block handles the frame; calls that it makes belong to the frame's first trace."""
    parents = _contexts(headers) if headers and tracing.tracer is not None else []
    if not parents:
        yield
        return
    spans = [(tracing.child_of(parent), parent) for parent in parents]
    begun = time.perf_counter_ns()
    telemetry.traceparent.set(spans[0][0])
    telemetry.decision.set(_decision(frame, spans[0][0][3:35]))
    try:
        yield
    finally:
        telemetry.traceparent.set("")  # a reader's task has no other context to go back to
        telemetry.decision.set("")
        for context, parent in spans:
            _keep(context, parent, how, tracing.CONSUMER, time.perf_counter_ns() - begun, frame)


def _decision(frame: event_pb2.EventFrame, trace_id: str) -> str:
    """The decision that a trace is of, if the frame has an event of it."""
    ids = {envelope.correlation_id for envelope in frame.events}
    return next((one for one in ids if one and tracing.decision_ids(one)[0] == trace_id), "")


def _contexts(headers: Mapping[str, str]) -> list[str]:
    listed = [headers.get(TRACEPARENT, ""), *headers.get(MORE, "").split(",")]
    return [context for context in listed[:_MOST] if telemetry.well_formed(context) and tracing.is_sampled(context)]


def _keep(context: str, parent: str, how: str, kind: int, elapsed_ns: int, frame: event_pb2.EventFrame) -> None:
    if tracing.tracer is not None:
        name = f"{how} {frame.stream}"
        parent_id = tracing.span_id(parent)
        tracing.tracer.finish(context, parent_id, name, kind, elapsed_ns, lambda: _attributes(frame, how))


def _attributes(frame: event_pb2.EventFrame, how: str) -> dict[str, str | int]:
    """OpenTelemetry's names for messaging, and which events the frame holds."""
    counts: dict[str, int] = {}
    for envelope in frame.events:
        name = envelope.schema.rpartition(".")[2]
        counts[name] = counts.get(name, 0) + 1
    listed = [name if count == 1 else f"{name} x{count}" for name, count in list(counts.items())[:_MOST_NAMES]]
    return {
        "messaging.system": "nats",
        "messaging.destination.name": f"alphamesh.events.{frame.stream}",
        "messaging.operation.type": how,
        "alphamesh.event.first_seq": frame.first_seq,
        "alphamesh.event.count": frame.count,
        "alphamesh.event.types": ", ".join(listed) + (", ..." if len(counts) > _MOST_NAMES else ""),
    }
