"""A service's own stream of events: append-only, hash-chained, durable before anyone is answered.

SQLite with ``journal_mode=WAL, synchronous=FULL, locking_mode=EXCLUSIVE``; one frame is one row, one
transaction, one fsync. Decisions are made in memory in order; whatever waits when a transaction
starts is packed into one frame. Start is recovery: opening reads and checks the whole chain.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError, Message

from alphamesh.audit.v1 import event_pb2

ZERO_HASH = bytes(32)
LATER_S = 0.05

_SCHEMA = """
CREATE TABLE IF NOT EXISTS frame (first_seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS reply (
    request_id TEXT PRIMARY KEY, method TEXT NOT NULL, request_sha256 BLOB NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
"""


class JournalError(RuntimeError):
    """The journal cannot be opened or written; the service must not answer anything any more."""


@dataclass(frozen=True, kw_only=True)
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


def event_hash(envelope: event_pb2.EventEnvelope) -> bytes:
    """sha256 over the deterministic serialisation without the hash itself."""
    bare = event_pb2.EventEnvelope()
    bare.CopyFrom(envelope)
    bare.ClearField("hash")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()


def check_frame(frame: event_pb2.EventFrame, expected_seq: int, expected_hash: bytes) -> str:
    """Empty when `frame` continues the chain at (expected_seq, expected_hash), else what is wrong."""
    if frame.first_seq != expected_seq:
        return f"gap: expected seq {expected_seq}, got {frame.first_seq}"
    if frame.prev_hash != expected_hash or frame.count != len(frame.events) or not frame.events:
        return f"broken chain at seq {frame.first_seq}"
    previous = expected_hash
    for offset, envelope in enumerate(frame.events):
        wrong = envelope.seq != expected_seq + offset or envelope.prev_hash != previous
        if wrong or event_hash(envelope) != envelope.hash:
            return f"altered event at seq {envelope.seq}"
        previous = envelope.hash
    return "" if previous == frame.sha256 else f"altered frame at seq {frame.first_seq}"


class Journal:
    """One writer, one stream. All methods belong to one event loop."""

    def __init__(self, path: Path, stream: str, version: str, on_failure: Callable[[BaseException], None]) -> None:
        """Opens or creates the file and verifies the chain.

        Raises JournalError when another process holds it, or when it was damaged.
        """
        self.stream = stream
        self.path = path
        self._version = version
        self._on_failure = on_failure
        self._pending: list[event_pb2.EventEnvelope] = []
        self._replies: list[tuple[RequestKey, bytes]] = []
        self._flushed: asyncio.Future[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        self._failed: BaseException | None = None
        self._listeners: list[Callable[[event_pb2.EventFrame], None]] = []
        self.durable_seq, self.durable_hash = 0, ZERO_HASH
        try:
            self._database = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(_SCHEMA)
            self._verify()
        except sqlite3.Error as error:
            raise JournalError(
                f"cannot open {path}: {error}; if another system uses this data directory, stop it with "
                "`alphamesh down` or choose another with --data-dir"
            ) from error
        self._seq, self._hash = self.durable_seq, self.durable_hash

    def _verify(self) -> None:
        for frame in self.read(1):
            problem = check_frame(frame, self.durable_seq + 1, self.durable_hash)
            if problem:
                raise JournalError(f"{self.path} was damaged ({problem}); restore it from a copy or the event log")
            self.durable_seq += frame.count
            self.durable_hash = frame.sha256

    @property
    def last_seq(self) -> int:
        """Last sequence decided, durable or not."""
        return self._seq

    def read(self, from_seq: int) -> Iterator[event_pb2.EventFrame]:
        """Durable frames, from the one that holds `from_seq` on."""
        query = "SELECT body FROM frame WHERE first_seq + count > ? ORDER BY first_seq"
        for (body,) in self._database.execute(query, (from_seq,)):
            try:
                yield event_pb2.EventFrame.FromString(body)
            except DecodeError as error:
                raise JournalError(f"{self.path} was damaged (a frame cannot be read); restore it") from error

    def listen(self, listener: Callable[[event_pb2.EventFrame], None]) -> None:
        """Calls `listener` with each frame from now on, after it became durable."""
        self._listeners.append(listener)

    def add(self, events: Sequence[Event]) -> list[event_pb2.EventEnvelope]:
        """Decides `events`, in order: they have sequence and hash now, and are durable after `commit`."""
        if self._failed is not None:
            raise JournalError(f"the journal has failed: {self._failed}") from self._failed
        envelopes = [self._chain(event) for event in events]
        self._pending.extend(envelopes)
        return envelopes

    def poison(self, error: BaseException) -> None:
        """Decided events could not be applied: nothing may be written or answered any more."""
        self._failed = error
        self._pending.clear()
        if self._flushed is not None:
            self._flushed.set_exception(JournalError(f"the journal has failed: {error}"))
            self._flushed = None
        self._on_failure(error)

    def commit_later(self, reply: Message) -> None:
        """Makes what was added durable soon, and lets the caller answer now.

        Only for pure computations on durable inputs (a proposal, an assessment): what a crash loses here,
        a repeat of the request computes again, bit for bit. Saves an fsync on the way to a decision.
        """
        self._keep(reply)
        if self._later is None and (self._pending or self._replies):
            self._later = asyncio.get_running_loop().call_later(LATER_S, self._flush)

    async def commit(self, reply: Message | None = None) -> None:
        """Returns when all that was added is durable, together with the answer to the current request."""
        self._keep(reply)
        if not self._pending and not self._replies:
            await self.barrier()
            return
        if self._flushed is None:
            loop = asyncio.get_running_loop()
            self._flushed = loop.create_future()
            loop.call_soon(self._flush)
        await asyncio.shield(self._flushed)

    async def barrier(self) -> None:
        """Returns when nothing that is not yet durable can be read from the state."""
        if self._failed is not None:
            raise JournalError(f"the journal has failed: {self._failed}") from self._failed
        if self._pending or self._flushed is not None:
            if self._flushed is None:
                await self.commit()
            else:
                await asyncio.shield(self._flushed)

    def answered(self, request_id: str) -> tuple[str, bytes, bytes] | None:
        """(method, sha256 of the request, first answer) of a request that was answered before."""
        for key, body in self._replies:
            if key.request_id == request_id:
                return key.method, key.request_sha256, body
        query = "SELECT method, request_sha256, body FROM reply WHERE request_id = ?"
        row: tuple[str, bytes, bytes] | None = self._database.execute(query, (request_id,)).fetchone()
        return row

    def close(self) -> None:
        """Writes what waits and closes the file. No promise depends on it: start is recovery."""
        if self._failed is None and (self._pending or self._replies):
            self._flush()
        self._database.close()

    def _keep(self, reply: Message | None) -> None:
        key = current_request.get()
        if reply is not None and key is not None:
            self._replies.append((key, reply.SerializeToString(deterministic=True)))

    def _chain(self, event: Event) -> event_pb2.EventEnvelope:
        schema = event.payload.DESCRIPTOR.full_name
        self._seq += 1
        envelope = event_pb2.EventEnvelope(
            stream=self.stream,
            seq=self._seq,
            event_id=f"{self.stream}-{self._seq}-{schema.rpartition('.')[2]}",
            causation_id=event.causation_id,
            correlation_id=event.correlation_id,
            ts_event_ns=event.ts_event_ns,
            ts_init_ns=event.ts_init_ns,
            producer=self.stream,
            producer_version=self._version,
            schema=schema,
            payload=event.payload.SerializeToString(deterministic=True),
            prev_hash=self._hash,
        )
        envelope.hash = hashlib.sha256(envelope.SerializeToString(deterministic=True)).digest()
        self._hash = envelope.hash
        return envelope

    def _flush(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._failed is not None:
            return
        flushed, self._flushed = self._flushed, None
        pending, self._pending = self._pending, []
        replies, self._replies = self._replies, []
        frame = None
        if pending:
            frame = event_pb2.EventFrame(
                stream=self.stream,
                first_seq=pending[0].seq,
                count=len(pending),
                prev_hash=pending[0].prev_hash,
                events=pending,
                sha256=pending[-1].hash,
            )
        try:
            self._write(frame, replies)
        except sqlite3.Error as error:
            self._failed = error
            problem = JournalError(f"cannot write {self.path}: {error}; free disk space or repair it, then restart")
            if flushed is not None:
                flushed.set_exception(problem)
            self._on_failure(problem)
            return
        if frame is not None:
            self.durable_seq, self.durable_hash = pending[-1].seq, pending[-1].hash
        if flushed is not None:
            flushed.set_result(None)
        if frame is not None:
            for listener in self._listeners:
                listener(frame)

    def _write(self, frame: event_pb2.EventFrame | None, replies: list[tuple[RequestKey, bytes]]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            if frame is not None:
                row = (frame.first_seq, frame.count, frame.SerializeToString())
                self._database.execute("INSERT INTO frame VALUES (?, ?, ?)", row)
            for key, body in replies:
                values = (key.request_id, key.method, key.request_sha256, body)
                self._database.execute("INSERT OR REPLACE INTO reply VALUES (?, ?, ?, ?)", values)
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
