"""Distribution of events. Truth is each writer's journal; the event log carries copies to everyone else.

Two drivers behind one interface, chosen by configuration: `LocalEventLog` hands frames over inside one process,
`jetstream.NatsEventLog` goes through JetStream servers. Readers see the same frames either way. docs/events.md says
what a third driver must keep.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Protocol

from alphamesh.audit.v1 import event_pb2

from .journal import Journal
from .signal import Signal


class EventLogError(RuntimeError):
    """The event log does not have a stream, or not with the settings that it must have."""


class EventLogAwayError(RuntimeError):
    """The event log does not answer now; asking again later goes on where the reader stands."""


class Reader(Protocol):
    """A place in a stream, for readers that take what there is in batches."""

    async def take(self, limit: int) -> list[event_pb2.EventFrame]:
        """The next stored frames, at most `limit`; empty when there is none now. In order, each once.

        Raises EventLogAwayError.
        """

    async def close(self) -> None:
        """Ends the reading."""


class EventLog(Protocol):
    """Where frames of all streams can be read.

    A stream is named after the service that writes it. Frames come as they were journalled, in order, at least once,
    and only when they are durable. Whoever reads checks each frame against the one before (`journal.check_frame`).
    """

    async def start(self) -> None:
        """Connects, or raises with the remedy."""

    def attach(self, journal: Journal) -> None:
        """Distributes `journal`: what it holds and every frame from now on."""

    def subscribe(self, stream: str, from_seq: int) -> AsyncGenerator[event_pb2.EventFrame, None]:
        """Frames of `stream`, from the one that holds `from_seq`, then each as it comes."""

    async def open(self, stream: str, from_seq: int) -> Reader:
        """The same frames, on demand."""

    async def close(self) -> None:
        """Stops distributing; everything not yet sent is sent after the next start."""


class DeclaredReads:
    """An event log as one service may use it: it reads the streams that the topology lets it, and no other.

    The servers refuse the others as well, but with silence; here it is an error that says what to do.
    """

    def __init__(self, log: EventLog, name: str, reads: Collection[str]) -> None:
        self._log = log
        self._name = name
        self._reads = reads

    async def start(self) -> None:
        """As the log below."""
        await self._log.start()

    def attach(self, journal: Journal) -> None:
        """As the log below."""
        self._log.attach(journal)

    def subscribe(self, stream: str, from_seq: int) -> AsyncGenerator[event_pb2.EventFrame, None]:
        """As the log below. Raises EventLogError."""
        return self._log.subscribe(self._declared(stream), from_seq)

    async def open(self, stream: str, from_seq: int) -> Reader:
        """As the log below. Raises EventLogError."""
        return await self._log.open(self._declared(stream), from_seq)

    async def close(self) -> None:
        """As the log below."""
        await self._log.close()

    def _declared(self, stream: str) -> str:
        if stream not in self._reads:
            raise EventLogError(
                f"{self._name} reads the stream {stream!r}, which the topology does not let it; add it under `reads` "
                f"of {self._name}"
            )
        return stream


class LocalEventLog:
    """All services in one process: readers take what the journal holds, then each frame as it becomes durable."""

    def __init__(self) -> None:
        self._journals: dict[str, Journal] = {}
        self._attached = Signal()
        self._readers: dict[str, list[asyncio.Queue[event_pb2.EventFrame]]] = {}

    async def start(self) -> None:
        """Nothing to connect to."""

    def attach(self, journal: Journal) -> None:
        """Makes `journal` readable; readers of an earlier one of this stream go on with it."""
        self._journals[journal.stream] = journal
        journal.listen(lambda frame: self._deliver(journal.stream, frame))
        for frame in journal.read(1):
            self._deliver(journal.stream, frame)
        self._attached.notify()

    async def subscribe(self, stream: str, from_seq: int) -> AsyncGenerator[event_pb2.EventFrame, None]:
        """Frames of `stream`; waits for its journal when it is not attached yet."""
        await self._journal(stream)
        frames: asyncio.Queue[event_pb2.EventFrame] = asyncio.Queue()
        for frame in self._journals[stream].read(from_seq):
            frames.put_nowait(frame)
        readers = self._readers.setdefault(stream, [])
        readers.append(frames)
        try:
            next_seq = from_seq
            while True:
                frame = await frames.get()
                if frame.first_seq + frame.count > next_seq:
                    yield frame
                    next_seq = frame.first_seq + frame.count
        finally:
            readers.remove(frames)

    async def open(self, stream: str, from_seq: int) -> Reader:
        """A place in the journal; waits until it is attached."""
        await self._journal(stream)
        return _JournalReader(lambda: self._journals[stream], from_seq)

    async def close(self) -> None:
        """Nothing to stop."""

    async def _journal(self, stream: str) -> Journal:
        # Until it is attached, or, after its service was stopped, attached again.
        while stream not in self._journals or self._journals[stream].closed:
            await self._attached.next().wait()
        return self._journals[stream]

    def _deliver(self, stream: str, frame: event_pb2.EventFrame) -> None:
        for frames in self._readers.get(stream, ()):
            frames.put_nowait(frame)


class _JournalReader:
    def __init__(self, journal: Callable[[], Journal], from_seq: int) -> None:
        self._journal = journal
        self._next_seq = from_seq

    async def take(self, limit: int) -> list[event_pb2.EventFrame]:
        journal = self._journal()
        if journal.closed or self._next_seq > journal.durable_seq:
            return []
        taken: list[event_pb2.EventFrame] = []
        for frame in journal.read(self._next_seq):
            taken.append(frame)
            if len(taken) == limit:
                break
        if taken:
            self._next_seq = taken[-1].first_seq + taken[-1].count
        return taken

    async def close(self) -> None:
        """Nothing is held."""
