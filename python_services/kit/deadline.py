"""How long the caller of the call in progress still waits: what it leads to gets no longer than that.

Reads only. A mutation that has begun is finished, whoever still waits, so what it calls has its own time.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

_until: ContextVar[float | None] = ContextVar("deadline", default=None)


def accept(remaining_s: float | None) -> None:
    """A call has arrived with so much time left; None: what it leads to is not bounded by it."""
    _until.set(None if remaining_s is None else time.monotonic() + remaining_s)


def bounded(limit_s: float | None) -> float | None:
    """`limit_s`, or what is left when that is less; None: no limit. Not below zero."""
    until = _until.get()
    if until is None:
        return limit_s
    left = max(until - time.monotonic(), 0.0)
    return left if limit_s is None else min(limit_s, left)
