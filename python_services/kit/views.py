"""Projections of a stream: applied in order, readable at a sequence, checked link by link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from alphamesh.audit.v1 import event_pb2

from . import telemetry
from .eventlog import EventLog
from .journal import ZERO_HASH, check_frame
from .signal import Signal

Refetch = Callable[[int], AsyncIterator[event_pb2.EventFrame]]


class BrokenStreamError(RuntimeError):
    """A stream has a gap or an altered event, and its writer could not supply the truth."""


class Follower:
    """Feeds every event of `stream` to `apply`, exactly once and in order.

    On a gap or a break it stops trusting the log and refetches from the writer's journal through
    `refetch(from_seq)`; when that breaks too, `run` raises BrokenStreamError.
    """

    def __init__(
        self, events: EventLog, stream: str, apply: Callable[[event_pb2.EventEnvelope], None], refetch: Refetch
    ) -> None:
        self._events = events
        self._stream = stream
        self._apply = apply
        self._refetch = refetch
        self._changed = Signal()
        self.applied_seq = 0
        self.applied_hash = ZERO_HASH
        self.refetches = 0

    async def run(self) -> None:
        """Follows the stream until cancelled."""
        async for frame in self._events.subscribe(self._stream, 1):
            if frame.first_seq + frame.count - 1 <= self.applied_seq:
                continue  # delivered again
            problem = check_frame(frame, self.applied_seq + 1, self.applied_hash)
            if problem:
                await self._recover(problem)
            else:
                self._take(frame)

    async def wait_for(self, seq: int) -> None:
        """Returns when the view has applied `seq`; the caller's deadline bounds the wait."""
        while self.applied_seq < seq:
            await self._changed.next().wait()

    async def _recover(self, problem: str) -> None:
        self.refetches += 1
        telemetry.logger().warning("refetching from the writer", stream=self._stream, problem=problem)
        async for frame in self._refetch(self.applied_seq + 1):
            problem = check_frame(frame, self.applied_seq + 1, self.applied_hash)
            if problem:
                raise BrokenStreamError(f"{self._stream}: {problem}, in the writer's journal too")
            self._take(frame)

    def _take(self, frame: event_pb2.EventFrame) -> None:
        for envelope in frame.events:
            self._apply(envelope)
        self.applied_seq += frame.count
        self.applied_hash = frame.sha256
        self._changed.notify()
