"""Logs and trace context. One JSON line per log event, with service, trace and decision ids.

`traceparent` (W3C Trace Context) is read from every call and forwarded on every call; spans are built
by the mesh's tracing, which is why nothing here costs more than a context variable.
"""

from __future__ import annotations

import gc
import logging
import re
import secrets
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, BinaryIO

import orjson
import structlog

traceparent: ContextVar[str] = ContextVar("traceparent", default="")
caller: ContextVar[str] = ContextVar("caller", default="")
user: ContextVar[str] = ContextVar("user", default="")

_TRACEPARENT = re.compile(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def new_traceparent() -> str:
    """A fresh, unsampled trace context."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def accept_traceparent(value: str) -> str:
    """`value` when it is well formed, else a fresh one (W3C Trace Context, section 3.2)."""
    return value if _TRACEPARENT.match(value) else new_traceparent()


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
    if user.get():
        event["user"] = user.get()
    return event


def calm_collector() -> None:
    """A busy service allocates millions of small messages; the collector's defaults cost it milliseconds."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
