"""What is given to a journal, and which request it is given for."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from google.protobuf.message import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A fact to append. Times are market time, Unix nanoseconds UTC."""

    payload: Message
    ts_event_ns: int
    ts_init_ns: int
    correlation_id: str = ""
    causation_id: str = ""


@dataclass(frozen=True, kw_only=True)
class RequestKey:
    """The mutation being served: what an idempotent repeat is compared with."""

    request_id: str
    method: str
    request_sha256: bytes


current_request: ContextVar[RequestKey | None] = ContextVar("current_request", default=None)
