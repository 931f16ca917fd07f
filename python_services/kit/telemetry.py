"""Logs and trace context. One JSON line per log event, with service, trace and decision ids.

`traceparent` (W3C Trace Context) and the decision (W3C Baggage) are read from every call and forwarded on every
call; `tracing` builds spans from them, which is why nothing here costs more than a context variable.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, BinaryIO

import orjson
import structlog

traceparent: ContextVar[str] = ContextVar("traceparent", default="")
caller: ContextVar[str] = ContextVar("caller", default="")
decision: ContextVar[str] = ContextVar("decision", default="")
user: ContextVar[str] = ContextVar("user", default="")

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_DECISION = re.compile(r"(?:^|,)\s*decision_id=([A-Za-z0-9_.:-]{1,128})")
# Not the stream that seeds anything: ids of traces and spans decide nothing. Services are forked from one process.
_ids = random.Random()
os.register_at_fork(after_in_child=_ids.seed)
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def new_trace_id() -> str:
    """32 hex digits, never all zero."""
    return f"{_ids.getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    """16 hex digits, never all zero."""
    return f"{_ids.getrandbits(64) or 1:016x}"


def new_traceparent() -> str:
    """A fresh, unsampled trace context."""
    return f"00-{new_trace_id()}-{new_span_id()}-00"


def well_formed(value: str) -> bool:
    """Whether `value` is a trace context (W3C Trace Context, section 3.2)."""
    return _TRACEPARENT.fullmatch(value) is not None


def decision_in(baggage: str) -> str:
    """The decision_id that W3C Baggage carries; empty for none."""
    found = _DECISION.search(baggage)
    return found[1] if found else ""


def configure(service: str, version: str, level: str = "info", output: BinaryIO | None = None) -> None:
    """Sets up JSON lines on stdout, which the supervisor writes to the service's log file, or on `output`."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _trace_ids,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(output or sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, **({"version": version} if version else {}))


@contextmanager
def logging_to(service: str, output: BinaryIO | None = None, level: str = "info") -> Iterator[None]:
    """``configure``, and afterwards as before, so that nobody writes to a file that was closed."""
    before = structlog.get_config()
    configure(service, "", level, output)
    try:
        yield
    finally:
        structlog.configure(**before)


def as_service(service: str) -> None:
    """From now on, in this context, log lines are those of `service`: one process may hold several."""
    structlog.contextvars.bind_contextvars(service=service)


def logger() -> Any:
    """The structured logger."""
    return structlog.get_logger()


def _trace_ids(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = traceparent.get()
    if context:
        event["trace_id"] = context[3:35]
    if "decision_id" not in event and (served := decision.get()):
        event["decision_id"] = served
    if user.get():
        event["user"] = user.get()
    return event


def calm_collector() -> None:
    """A busy service allocates millions of small messages; the collector's defaults cost it milliseconds."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
