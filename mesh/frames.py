"""Where the frames of a run come from: its services and its event log while it is up, else copies of their files.

Looking changes nothing: journals are locked by their writers and a store belongs to its server, so of a run that is
down everything is read from a copy in a temporary folder.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from alphamesh.audit.v1 import event_pb2, state_pb2, state_pb2_grpc
from python_services.kit import jetstream, telemetry
from python_services.kit.eventlog import EventLogError, Reader
from python_services.kit.journal import read_frames

from .connect import OPERATOR, SocketSystem, run_topology, running
from .errors import MeshError
from .rundir import RunDir
from .stored import JOURNAL, copy_journals, nats_copy

Frames = AsyncIterator[event_pb2.EventFrame]
_BATCH = 256


class Source(Protocol):
    """The journals of a run."""

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams, sorted."""

    def journal(self, stream: str, from_seq: int = 1, *, follow: bool = False) -> Frames:
        """Frames as their writer has them, from the one that holds `from_seq`; with `follow`, for ever."""


@dataclass(frozen=True)
class _Running:
    system: SocketSystem
    streams: tuple[str, ...]

    async def journal(self, stream: str, from_seq: int = 1, *, follow: bool = False) -> Frames:
        stub = self.system.stub(state_pb2_grpc.StateServiceStub, stream)
        async for response in stub.ReadEvents(state_pb2.ReadEventsRequest(from_seq=from_seq, stop_at_end=not follow)):
            for frame in response.frames:
                yield frame


@dataclass(frozen=True)
class _Stopped:
    folder: Path
    streams: tuple[str, ...]

    async def journal(self, stream: str, from_seq: int = 1, *, follow: bool = False) -> Frames:
        if follow:
            raise MeshError("nothing is up, so nothing new can come; leave --follow out")
        for frame in read_frames(self.folder / stream / JOURNAL, from_seq):
            yield frame


@asynccontextmanager
async def journals(run: RunDir) -> AsyncIterator[Source]:
    """The journals of `run`, up or down."""
    streams = tuple(sorted(run_topology(run).event_log.streams))
    if run.holder() is not None:
        async with running(run) as system:
            yield _Running(system, streams)
        return
    with tempfile.TemporaryDirectory(prefix="alphamesh-") as scratch:
        folder = Path(scratch)
        await copy_journals(run, folder)
        yield _Stopped(folder, tuple(name for name in streams if (folder / name / JOURNAL).is_file()))


class Copies:
    """The event log's copies of the journals."""

    def __init__(self, log: jetstream.NatsEventLog) -> None:
        self._log = log

    async def read(self, stream: str, from_seq: int = 1) -> Frames:
        """Frames as the event log has them now; none when it has no such stream."""
        try:
            reader: Reader = await self._log.open(stream, from_seq)
        except EventLogError as error:
            if "no stream" in str(error):
                return
            raise MeshError(str(error)) from error
        try:
            while frames := await reader.take(_BATCH):
                for frame in frames:
                    yield frame
        finally:
            await reader.close()


@asynccontextmanager
async def copies(run: RunDir) -> AsyncIterator[Copies | None]:
    """The event log of `run`, up or down; None for a run that had none (`session --local`)."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(telemetry.logging_to("reader", level="error"))  # what matters is in the answer
        url = run.event_log(OPERATOR) if run.holder() is not None else await stack.enter_async_context(nats_copy(run))
        if not url:
            yield None
            return
        log = jetstream.NatsEventLog(url, OPERATOR)
        await log.start()
        stack.push_async_callback(log.close)
        yield Copies(log)
