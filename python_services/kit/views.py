"""Projections of a stream: applied in order, readable at a sequence, checked link by link.

A view's state is a function of the events alone, so it can be saved after one (`Saved`) and rebuilt from the first
one at any time; both ways it has the same canonical bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

from google.protobuf.message import DecodeError

from alphamesh.audit.v1 import event_pb2, state_pb2

from . import telemetry
from .eventlog import EventLog
from .files import replace_file
from .journal import ZERO_HASH, check_frame
from .schemas import REGISTRY
from .signal import Signal

Refetch = Callable[[int], AsyncIterator[event_pb2.EventFrame]]
SAVE_EVERY = 10_000  # events: about what is read again in a second
PATIENCE_S = 0.5  # for the event log, before a reader that waits asks the writer
LATE_S = 0.02  # the same while the log is known to be late


class BrokenStreamError(RuntimeError):
    """A stream has a gap or an altered event, and its writer could not supply the truth."""


class View(Protocol):
    """What a follower feeds."""

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Takes the next event, of a type of today."""

    def dump(self) -> bytes:
        """The state, canonical: equal states give equal bytes."""

    def load(self, state: bytes) -> None:
        """Takes a state that `dump` gave, in place of its own."""


class Saved:
    """A view's state in a file, after one event and with its hash. The journal stays; a damaged file is refused."""

    def __init__(self, path: Path, name: str, view: View, every: int = SAVE_EVERY) -> None:
        """`name` carries a version: raise it when the same events no longer give the same state."""
        self.view = view
        self.every = every
        self._path = path
        self._name = name

    def read(self, stream: str) -> state_pb2.StateSnapshot | None:
        """The snapshot; None when there is none, or none that can be trusted."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            snapshot = state_pb2.StateSnapshot.FromString(content)
        except DecodeError:
            snapshot = state_pb2.StateSnapshot()
        if snapshot.sha256 != _snapshot_hash(snapshot) or (snapshot.view, snapshot.stream) != (self._name, stream):
            telemetry.logger().warning("state snapshot refused; rebuilding from the first event", path=str(self._path))
            return None
        return snapshot

    async def write(self, stream: str, seq: int, event_hash: bytes) -> None:
        """Keeps the view's state as it is now, which is after event `seq`."""
        snapshot = state_pb2.StateSnapshot(
            view=self._name, stream=stream, seq=seq, event_hash=event_hash, state=self.view.dump()
        )
        snapshot.sha256 = _snapshot_hash(snapshot)
        await asyncio.to_thread(replace_file, self._path, snapshot.SerializeToString(deterministic=True))


class Follower:
    """Feeds every event of `stream` to `apply`, exactly once and in order.

    On a gap or a break it stops trusting the log and refetches from the writer's journal through
    `refetch(from_seq)`; when that breaks too, `run` raises BrokenStreamError. With `saved` it begins where that
    snapshot ends, if the event there is the one that the snapshot names.
    """

    def __init__(
        self,
        events: EventLog,
        stream: str,
        apply: Callable[[event_pb2.EventEnvelope], None],
        refetch: Refetch,
        saved: Saved | None = None,
    ) -> None:
        self._events = events
        self._stream = stream
        self._apply = apply
        self._refetch = refetch
        self._saved = saved
        self._turn = asyncio.Lock()
        self._changed = Signal()
        self._late = False
        self.applied_seq = 0
        self.applied_hash = ZERO_HASH  # of the last frame
        self._event_hash = ZERO_HASH  # of the last event
        self.refetches = 0
        self.started_at: int | None = None  # seq of the snapshot that the state began with
        self._saved_seq = 0

    @property
    def stream(self) -> str:
        """The stream that is followed."""
        return self._stream

    async def run(self) -> None:
        """Follows the stream until cancelled. Raises BrokenStreamError, UnknownEventTypeError."""
        await self._restore()
        async for frame in self._events.subscribe(self._stream, self.applied_seq + 1):
            async with self._turn:
                self._late = False
                if frame.first_seq + frame.count - 1 <= self.applied_seq:
                    continue  # delivered again
                problem = check_frame(frame, self.applied_seq + 1, self.applied_hash)
                if problem:
                    self._warn(problem)
                    await self._recover()
                else:
                    self._take(frame)
            if self._saved is not None and self.applied_seq >= self._saved_seq + self._saved.every:
                self._saved_seq = self.applied_seq
                await self._saved.write(self._stream, self.applied_seq, self._event_hash)

    async def wait_for(self, seq: int) -> None:
        """Returns when the view has applied `seq`; the caller's deadline bounds the wait.

        When the log does not bring it in time, the writer is asked. Raises what `refetch` raises.
        """
        while self.applied_seq < seq:
            try:
                async with asyncio.timeout(LATE_S if self._late else PATIENCE_S):
                    await self._changed.next().wait()
            except TimeoutError:
                async with self._turn:
                    if self.applied_seq < seq:
                        if not self._late:
                            self._warn("the event log is late")
                        self._late = True
                        await self._recover()

    async def _restore(self) -> None:
        snapshot = self._saved.read(self._stream) if self._saved is not None else None
        if snapshot is None or self._saved is None:
            return
        async with aclosing(self._events.subscribe(self._stream, snapshot.seq)) as frames:
            frame = await anext(frames)
        wrong = check_frame(frame, frame.first_seq, frame.prev_hash)
        last = frame.events[-1] if frame.events else event_pb2.EventEnvelope()
        if wrong or (last.seq, last.hash) != (snapshot.seq, snapshot.event_hash):
            telemetry.logger().warning(
                "state snapshot belongs to another history; rebuilding from the first event",
                stream=self._stream,
                seq=snapshot.seq,
            )
            return
        async with self._turn:
            if self.applied_seq:
                return  # a reader that waited has asked the writer meanwhile
            self._saved.view.load(snapshot.state)
            self.started_at = self._saved_seq = self.applied_seq = snapshot.seq
            self.applied_hash, self._event_hash = frame.sha256, last.hash
        self._changed.notify()

    def _warn(self, problem: str) -> None:
        telemetry.logger().warning("refetching from the writer", stream=self._stream, problem=problem)

    async def _recover(self) -> None:
        self.refetches += 1
        async for frame in self._refetch(self.applied_seq + 1):
            problem = check_frame(frame, self.applied_seq + 1, self.applied_hash)
            if problem:
                raise BrokenStreamError(f"{self._stream}: {problem}, in the writer's journal too")
            self._take(frame)

    def _take(self, frame: event_pb2.EventFrame) -> None:
        current = REGISTRY.current
        for envelope in frame.events:
            self._apply(current(envelope))
        self.applied_seq += frame.count
        self.applied_hash, self._event_hash = frame.sha256, frame.events[-1].hash
        self._changed.notify()


class Applies(Protocol):
    """What events can be given to."""

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Takes the next event, of a type of today."""


async def extend(
    view: Applies, frames: AsyncIterator[event_pb2.EventFrame], seq: int, last: bytes, stream: str
) -> tuple[int, bytes]:
    """Applies what follows event `seq` with hash `last`, checking every link; returns the new end.

    Raises BrokenStreamError when the frames, which come from the writer's journal, do not link.
    """
    async for frame in frames:
        problem = check_frame(frame, seq + 1, last)
        if problem:
            raise BrokenStreamError(f"{stream}: {problem}, in the writer's journal")
        for envelope in frame.events:
            view.apply(REGISTRY.current(envelope))
        seq, last = seq + frame.count, frame.sha256
    return seq, last


def _snapshot_hash(snapshot: state_pb2.StateSnapshot) -> bytes:
    bare = state_pb2.StateSnapshot()
    bare.CopyFrom(snapshot)
    bare.ClearField("sha256")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()
