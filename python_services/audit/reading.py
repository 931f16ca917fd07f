"""Keeps the index up to date with every stream, in batches and off everybody's path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from alphamesh.audit.v1 import event_pb2
from python_services.kit import telemetry
from python_services.kit.eventlog import EventLog, EventLogAwayError, Reader
from python_services.kit.journal import check_frame
from python_services.kit.signal import Signal, within
from python_services.kit.views import BrokenStreamError, Refetch

from .config import Config
from .index import Index

TAKEN = 64  # frames at a time
PATIENCE_S = 0.5  # for the event log, before the writers are asked


class Streams:
    """Looks for new events every `pause_s`, and at once when somebody waits for them."""

    def __init__(
        self, config: Config, index: Index, events: EventLog, refetch: Mapping[str, Refetch], changed: Signal
    ) -> None:
        self._config = config
        self._index = index
        self._events = events
        self._refetch = refetch
        self._readers: dict[str, Reader] = {}
        self._wanted = asyncio.Event()
        self._turn = asyncio.Lock()
        self.changed = changed
        self.refetches = 0

    async def run(self) -> None:
        """For ever. Raises BrokenStreamError when a writer's own journal does not link, UnknownEventTypeError."""
        while True:
            self._wanted.clear()
            more = [await self._step(stream) for stream in self._refetch]
            if not any(more):
                await within(self._wanted, self._config.pause_s)

    async def reach(self, min_seq: int, min_stream_seqs: Mapping[str, int]) -> None:
        """Returns when both are applied; the caller's deadline bounds the wait. Raises what `refetch` raises."""
        while True:
            changed = self.changed.next()
            behind = [name for name, seq in min_stream_seqs.items() if self._index.place(name)[0] < seq]
            if not behind and self._index.last_seq >= min_seq:
                return
            self._wanted.set()
            if not await within(changed, PATIENCE_S):
                for stream in behind:
                    await self._recover(stream, "the event log is late")

    async def close(self) -> None:
        """Ends the reading."""
        for reader in self._readers.values():
            await reader.close()

    async def _step(self, stream: str) -> bool:
        """Applies the next frames of a stream; whether there are probably more."""
        if stream not in self._readers:
            self._readers[stream] = await self._events.open(stream, self._index.place(stream)[0] + 1)
        try:
            frames = await self._readers[stream].take(TAKEN)
        except EventLogAwayError as error:
            telemetry.logger().warning("event log not reachable", stream=stream, error=str(error))
            return False
        for first in range(0, len(frames), self._config.batch):
            begun = time.perf_counter()
            async with self._turn:
                problem = self._apply(stream, frames[first : first + self._config.batch])
            if problem:
                await self._recover(stream, problem)
            # Others have their turn: in one process with everybody else this takes a third of the time at most.
            await asyncio.sleep(0.0 if self._wanted.is_set() else 2.0 * (time.perf_counter() - begun))
        return len(frames) == TAKEN

    def _apply(self, stream: str, frames: list[event_pb2.EventFrame]) -> str:
        """Applies frames up to the first that does not link; what is wrong with that one."""
        good, problem = [], ""
        seq, digest = self._index.place(stream)
        for frame in frames:
            if frame.first_seq + frame.count - 1 <= seq:
                continue  # delivered again
            problem = check_frame(frame, seq + 1, digest)
            if problem:
                break
            good.append(frame)
            seq, digest = frame.first_seq + frame.count - 1, frame.sha256
        if good:
            self._index.add(stream, good)
            self.changed.notify()
        return problem

    async def _recover(self, stream: str, problem: str) -> None:
        self.refetches += 1
        telemetry.logger().warning("refetching from the writer", stream=stream, problem=problem)
        async with self._turn:
            async for frame in self._refetch[stream](self._index.place(stream)[0] + 1):
                seq, digest = self._index.place(stream)
                problem = check_frame(frame, seq + 1, digest)
                if problem:
                    raise BrokenStreamError(f"{stream}: {problem}, in the writer's journal too")
                self._index.add(stream, [frame])
            self.changed.notify()
