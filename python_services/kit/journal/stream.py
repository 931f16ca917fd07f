"""Deciding and chaining: events get their sequence and hash at once, and become durable in groups.

Decisions are made in memory in order; whatever waits when a write starts is packed into one frame. Start is
recovery: opening reads and checks the whole chain. After any failure nothing is written or answered any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path

from google.protobuf.message import Message

from alphamesh.audit.v1 import event_pb2

from .. import tracing
from . import frames
from .event import Event, current_request
from .recovery import recover
from .sqlite import SqliteStore
from .store import Batch, FencedError, JournalError, Store
from .watermark import Watermark

LATER_S = 0.05
LARGEST_FRAME = 4096  # events
_TRACED = 4096  # events whose trace is kept until they are distributed


class _Group:
    """What waits to become durable together: serialised events, answers, and those who wait for it."""

    __slots__ = ("answers", "events", "waiters")

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.answers: list[event_pb2.Answer] = []
        self.waiters: list[asyncio.Future[None]] = []

    def end(self, error: BaseException | None) -> None:
        for waiter in self.waiters:
            if waiter.done():
                continue  # its caller went away
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)


class Journal:
    """One writer, one stream. All methods belong to one event loop."""

    def __init__(
        self,
        where: Path | Store,
        stream: str,
        version: str,
        on_failure: Callable[[BaseException], None],
        watermark: Path | None = None,
    ) -> None:
        """Takes the lease and verifies the chain. A path stands for a SQLite file there.

        watermark: the file of the durable state's lower bound; beside the file when there is one.
        Raises JournalError when another writer holds the stream, or when it was damaged.
        """
        self.stream = stream
        self.closed = False
        self._version = version
        self._on_failure = on_failure
        self._failed: BaseException | None = None
        self._listeners: list[Callable[[event_pb2.EventFrame], None]] = []
        self._waiting = _Group()
        self._writing: _Group | None = None
        self._done: Future[None] | None = None
        self._scheduled = False
        self._later: asyncio.TimerHandle | None = None
        self._types: dict[type[Message], tuple[str, str]] = {}
        self._traced: dict[int, tuple[str, int]] = {}
        self.commits = 0  # writes since the start
        if isinstance(where, Path):
            watermark = watermark or where.with_suffix(".watermark")
            where = SqliteStore(where, stream)
        self._store = where
        self._watermark = None
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        try:
            self._watermark = Watermark(watermark) if watermark is not None else None
            end = recover(self._store, stream, self._watermark)
        except BaseException:
            self.close()
            raise
        self.durable_seq, self.durable_hash = self._seq, self._hash = end.seq, end.event_hash
        self._frame_hash = end.frame_hash
        self._store.watch(self._lost)

    @property
    def last_seq(self) -> int:
        """Last sequence decided, durable or not."""
        return self._seq

    @property
    def last_hash(self) -> bytes:
        """Hash of the last event decided, durable or not."""
        return self._hash

    @property
    def epoch(self) -> int:
        """Which writer of the stream this is, counted from 1."""
        return self._store.epoch

    def read(self, from_seq: int) -> Iterator[event_pb2.EventFrame]:
        """Durable frames, from the one that holds `from_seq` on."""
        parse = event_pb2.EventFrame.FromString
        for _, _, body in self._store.frames(from_seq):
            yield parse(body)

    def listen(self, listener: Callable[[event_pb2.EventFrame], None]) -> None:
        """Calls `listener` with each frame from now on, after it became durable."""
        self._listeners.append(listener)

    def traces(self, frame: event_pb2.EventFrame) -> dict[str, int]:
        """Sampled contexts in which the frame's events were decided, and when (`time.time_ns`) each first was."""
        found: dict[str, int] = {}
        for seq in range(frame.first_seq, frame.first_seq + frame.count):
            if (traced := self._traced.get(seq)) is not None:
                found.setdefault(*traced)
        return found

    def forget_traces(self, frame: event_pb2.EventFrame) -> None:
        """The frame was distributed."""
        for seq in range(frame.first_seq, frame.first_seq + frame.count):
            self._traced.pop(seq, None)

    def add(self, events: Sequence[Event]) -> list[event_pb2.EventEnvelope]:
        """Decides `events`, in order: they have sequence and hash now, and are durable after `commit`."""
        self._refuse_after_failure()
        return [self._chain(event) for event in events]

    def poison(self, error: BaseException) -> None:
        """Decided events could not be applied: nothing may be written or answered any more."""
        self._fail(error)

    def commit_later(self, reply: Message | None = None) -> None:
        """Makes what was added durable soon, and lets the caller answer now.

        Only for what a crash may lose because it comes again, bit for bit: pure computations on durable inputs (a
        proposal, an assessment), and reports that their sender keeps. Saves an fsync on the way to a decision.
        """
        if reply is not None:
            self._keep(reply)
        if self._later is None and (self._waiting.events or self._waiting.answers):
            self._later = asyncio.get_running_loop().call_later(LATER_S, self._flush)

    async def commit(self, reply: Message | None = None) -> None:
        """Returns when all that was added is durable, together with the answer to the current request."""
        if reply is not None:
            self._keep(reply)
        if not self._waiting.events and not self._waiting.answers:
            await self.barrier()
            return
        self._refuse_after_failure()
        self._flush_soon()
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.waiters.append(waiter)
        await waiter

    async def barrier(self) -> None:
        """Returns when nothing that is not yet durable can be read from the state."""
        self._refuse_after_failure()
        if self._waiting.events:
            await self.commit()
        elif self._writing is not None:
            waiter = asyncio.get_running_loop().create_future()
            self._writing.waiters.append(waiter)
            await waiter

    def answered(self, request_id: str) -> tuple[str, bytes, bytes] | None:
        """(method, sha256 of the request, first answer) of a request that was answered before."""
        waiting = self._waiting.answers if self._writing is None else self._writing.answers + self._waiting.answers
        answer = next((a for a in waiting if a.request_id == request_id), None) or self._store.answer(request_id)
        return None if answer is None else (answer.method, answer.request_sha256, answer.response)

    def close(self) -> None:
        """Writes what waits and gives the stream back. No promise depends on it: start is recovery."""
        self.closed = True
        while self._done is not None or self._start():
            if self._done is not None:
                wait([self._done])
                self._finish(self._done)
        self._store.close()
        if self._watermark is not None:
            self._watermark.close()
            self._watermark = None

    # --- chaining ----------------------------------------------------------------------------------

    def _chain(self, event: Event) -> event_pb2.EventEnvelope:
        payload = event.payload
        names = self._types.get(type(payload))
        if names is None:
            schema = payload.DESCRIPTOR.full_name
            names = self._types[type(payload)] = schema, schema.rpartition(".")[2]
        self._seq += 1
        envelope = event_pb2.EventEnvelope(
            stream=self.stream,
            seq=self._seq,
            event_id=f"{self.stream}-{self._seq}-{names[1]}",
            causation_id=event.causation_id,
            correlation_id=event.correlation_id,
            ts_event_ns=event.ts_event_ns,
            ts_init_ns=event.ts_init_ns,
            producer=self.stream,
            producer_version=self._version,
            schema=names[0],
            payload=payload.SerializeToString(deterministic=True),
            prev_hash=self._hash,
        )
        self._waiting.events.append(frames.seal(envelope))
        self._hash = envelope.hash
        if tracing.tracer is not None and (context := tracing.tracer.event_context(event.correlation_id)):
            self._traced[self._seq] = context, time.time_ns()
            if len(self._traced) > _TRACED:
                del self._traced[next(iter(self._traced))]
        return envelope

    def _keep(self, reply: Message) -> None:
        key = current_request.get()
        if key is not None:
            self._waiting.answers.append(
                event_pb2.Answer(
                    request_id=key.request_id,
                    method=key.method,
                    request_sha256=key.request_sha256,
                    response=reply.SerializeToString(deterministic=True),
                )
            )

    # --- writing -----------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        """Starts a write at the loop's next turn; while one is under way, its end starts the next."""
        if not self._scheduled and self._writing is None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._writing is not None or not self._start():
            return
        if self._done is not None:
            loop = asyncio.get_running_loop()
            self._done.add_done_callback(lambda done: loop.call_soon_threadsafe(self._landed, done))
        elif self._waiting.events:
            self._flush_soon()

    def _start(self) -> bool:
        """Gives the store what waits; False when nothing does, or nothing may be written any more."""
        group = self._waiting
        if self._failed is not None or not (group.events or group.answers):
            return False
        self._waiting = _Group()
        if len(group.events) > LARGEST_FRAME:
            # The rest follows in frames of its own; answers and waiters go with the last of them.
            self._waiting.events = group.events[LARGEST_FRAME:]
            self._waiting.answers, group.answers = group.answers, []
            self._waiting.waiters, group.waiters = group.waiters, []
            del group.events[LARGEST_FRAME:]
        body = b""
        if group.events:
            body = frames.pack(self.stream, self.durable_seq + 1, self._frame_hash, group.events)
        self._writing = group
        batch = Batch(after_seq=self.durable_seq, count=len(group.events), body=body, answers=group.answers)
        try:
            self._done = self._store.append(batch)
        except JournalError as error:
            self._fail(error)
            return False
        self._batch = batch
        if self._done is None:
            self._written(batch)
        return True

    def _landed(self, done: Future[None]) -> None:
        """In the loop: a write that was under way has ended."""
        self._finish(done)
        if self._waiting.events or self._waiting.answers:
            self._flush()

    def _finish(self, done: Future[None]) -> None:
        if done is not self._done:
            return  # closing has waited for it
        self._done = None
        if self._failed is not None:
            return
        error = done.exception()
        if error is not None:
            self._fail(error)
        else:
            self._written(self._batch)

    def _written(self, batch: Batch) -> None:
        group, self._writing = self._writing, None
        assert group is not None
        self.commits += 1
        if batch.count:
            self.durable_seq += batch.count
            self.durable_hash = frames.last_event_hash(batch.body)
            self._frame_hash = frames.frame_hash(batch.body)
        try:
            if self._watermark is not None:
                self._watermark.note(self.durable_seq, self._store.answers, self._frame_hash)
        except OSError as error:
            self._writing = group
            self._fail(JournalError(f"cannot note what is durable: {error}; repair the disk, then restart"))
            return
        group.end(None)
        if batch.count and self._listeners:
            frame = event_pb2.EventFrame.FromString(batch.body)
            for listener in self._listeners:
                listener(frame)

    # --- failing -----------------------------------------------------------------------------------

    def _refuse_after_failure(self) -> None:
        if self._failed is None and time.monotonic() > self._store.lease_until:
            # This process stood still for longer than its lease: another may be writing by now.
            self._fail(FencedError(f"the lease on {self.stream} in {self._store.where} ran out; restart the service"))
        if self._failed is not None:
            raise self._told()

    def _lost(self, error: JournalError) -> None:
        """The store lost its lease, and says so from a thread of its own."""
        if self._loop is None:
            self._fail(error)
        else:
            self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, cause: BaseException) -> None:
        if self._failed is not None:
            return
        self._failed = cause
        writing, self._writing = self._writing, None
        waiting, self._waiting = self._waiting, _Group()
        for group in (writing, waiting):
            if group is not None:
                group.end(cause if isinstance(cause, JournalError) else self._told())
        self._on_failure(cause)

    def _told(self) -> JournalError:
        error = JournalError(f"the journal has failed: {self._failed}")
        error.__cause__ = self._failed
        return error
