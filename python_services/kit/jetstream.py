"""The event log on NATS JetStream: one stream for each journal, one message for each frame.

The outbox of a journal publishes its frames in order, exactly once: the message id "<stream>-<first_seq>" makes a
repeat harmless, the expected sequence refuses a second writer. Readers pull: what they read is durable, and they know
by sequence what they have.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from nats.aio.client import Client
from nats.js import JetStreamContext

from alphamesh.audit.v1 import event_pb2

from . import messaging, metrics, telemetry
from .connections import connect
from .eventlog import EventLogAwayError, EventLogError, Reader
from .journal import Journal
from .pull import Pull
from .schemas import REGISTRY
from .streams import (
    ANSWER_S,
    AWAY,
    RETRY_S,
    recorded_schemas,
    stream_info,
)
from .subjects import jetstream_name, subject

MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_SEQUENCE = "Nats-Expected-Last-Sequence"
_WAITING = 4096  # frames; whatever does not fit is read from the journal again


class NatsEventLog:
    """The event log of one service. `url`: as connections.connect wants it."""

    def __init__(self, url: str, name: str, fail: Callable[[BaseException], None] | None = None) -> None:
        """`fail` is told what ends an outbox for ever: a stream that does not exist, or that has wrong settings."""
        self._url = url
        self._name = name
        self._fail = fail
        self._client: Client | None = None
        self._outboxes: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connects. Raises NoServersError when nobody answers."""
        self._client = await connect(self._url, self._name)

    def attach(self, journal: Journal) -> None:
        """Starts the outbox of `journal`."""
        outbox = _Outbox(journal, self._connection)
        task = asyncio.create_task(outbox.run(), name=f"outbox-{journal.stream}")
        task.add_done_callback(self._ended)
        self._outboxes.append(task)
        text = "Durable events that the event log does not have yet."
        metrics.figure("alphamesh_outbox_lag_events", text, lambda: outbox.lag)

    async def subscribe(self, stream: str, from_seq: int) -> AsyncGenerator[event_pb2.EventFrame, None]:
        """Frames of `stream`, through restarts of its servers. Raises EventLogError, UnknownEventTypeError."""
        pull = await self._pull(stream, from_seq)
        next_seq = from_seq
        try:
            while True:
                try:
                    messages = await pull.fetch(wait=True)
                except AWAY as error:
                    telemetry.logger().warning("event log not reachable", stream=stream, error=repr(error))
                    await asyncio.sleep(RETRY_S)
                    continue
                for message in messages:
                    frame = event_pb2.EventFrame.FromString(message.data)
                    if frame.first_seq + frame.count > next_seq:
                        with messaging.consuming(frame, message.headers, "process"):
                            yield frame
                        next_seq = frame.first_seq + frame.count
        finally:
            await pull.close()

    async def open(self, stream: str, from_seq: int) -> Reader:
        """A place in `stream`. Raises EventLogError, UnknownEventTypeError."""
        return _JetStreamReader(await self._pull(stream, from_seq), from_seq)

    async def close(self) -> None:
        """Stops the outboxes and disconnects."""
        for outbox in self._outboxes:
            outbox.cancel()
        await asyncio.gather(*self._outboxes, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def _connection(self) -> Client:
        if self._client is None:
            raise RuntimeError("the event log is not started")
        return self._client

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            telemetry.logger().error("outbox ended", error=str(error))
            if self._fail is not None:
                self._fail(error)

    async def _pull(self, stream: str, from_seq: int) -> Pull:
        context = self._connection().jetstream(timeout=ANSWER_S)
        while True:
            try:
                info = await stream_info(context, stream)
                REGISTRY.check(recorded_schemas(info), f"stream {stream}")
                start = await _message_of(context, stream, from_seq, info.state.last_seq)
                return Pull(self._connection(), stream, start)
            except AWAY as error:
                telemetry.logger().warning("event log not reachable", stream=stream, error=repr(error))
                await asyncio.sleep(RETRY_S)


class _Outbox:
    """Publishes the frames of one journal, from where the log stands."""

    def __init__(self, journal: Journal, connection: Callable[[], Client]) -> None:
        self._journal = journal
        self._connection = connection
        self._waiting: deque[event_pb2.EventFrame] = deque(maxlen=_WAITING)
        self._wake = asyncio.Event()
        self._wake.set()
        self._published, self._messages = 0, 0  # last event, last JetStream sequence
        journal.listen(self._add)

    @property
    def lag(self) -> int:
        """Durable events that the log does not have yet."""
        return self._journal.durable_seq - self._published

    async def run(self) -> None:
        """For ever. While the log is away the ledger goes on journalling; the outbox catches up."""
        behind = True
        while True:
            try:
                if behind:
                    await self._find_end()
                    behind = False
                await self._wake.wait()
                self._wake.clear()
                await self._publish_waiting()
            except AWAY as error:
                telemetry.logger().warning("event log not reachable", stream=self._journal.stream, error=repr(error))
                behind = True
                self._wake.set()
                await asyncio.sleep(RETRY_S)

    def _add(self, frame: event_pb2.EventFrame) -> None:
        self._waiting.append(frame)
        self._wake.set()

    async def _find_end(self) -> None:
        context, stream = self._connection().jetstream(timeout=ANSWER_S), self._journal.stream
        info = await stream_info(context, stream)
        recorded = recorded_schemas(info)
        REGISTRY.check(recorded, f"stream {stream}")
        if missing := REGISTRY.written_to(stream).difference(recorded):
            raise EventLogError(
                f"the event log's stream {stream!r} is not declared to carry {min(missing)}; start the system again: "
                "that declares it"
            )
        self._published, self._messages = 0, info.state.last_seq
        if self._messages:
            last = await context.get_msg(jetstream_name(stream), seq=self._messages)
            frame = event_pb2.EventFrame.FromString(last.data or b"")
            self._published = frame.first_seq + frame.count - 1
        if self._published > self._journal.durable_seq:
            raise EventLogError(
                f"the event log has {self._published} events of {stream}, its journal {self._journal.durable_seq}: "
                "the journal is older than its copy; restore it from the log (docs/events.md)"
            )

    async def _publish_waiting(self) -> None:
        while self._waiting and self._waiting[0].first_seq <= self._published:
            self._waiting.popleft()
        expected = self._waiting[0].first_seq if self._waiting else self._journal.durable_seq + 1
        if expected != self._published + 1:
            # Just started, or the log was away for long: the journal has what is missing.
            for frame in list(self._journal.read(self._published + 1)):
                await self._publish(frame)
        while self._waiting:
            if self._waiting[0].first_seq == self._published + 1:
                await self._publish(self._waiting[0])
            elif self._waiting[0].first_seq > self._published + 1:
                self._wake.set()
                return
            self._waiting.popleft()

    async def _publish(self, frame: event_pb2.EventFrame) -> None:
        stream = self._journal.stream
        publishing = messaging.Publishing(frame, self._journal.traces(frame))
        headers = {MESSAGE_ID: f"{stream}-{frame.first_seq}", EXPECTED_SEQUENCE: str(self._messages)}
        headers |= publishing.headers
        answer = await (
            self._connection()
            .jetstream(timeout=ANSWER_S)
            .publish(subject(stream), frame.SerializeToString(), timeout=ANSWER_S, headers=headers)
        )
        self._messages = answer.seq
        self._published = frame.first_seq + frame.count - 1
        self._journal.forget_traces(frame)
        publishing.end()


class _JetStreamReader:
    def __init__(self, pull: Pull, from_seq: int) -> None:
        self._pull = pull
        self._next_seq = from_seq

    async def take(self, limit: int) -> list[event_pb2.EventFrame]:
        try:
            messages = await self._pull.fetch(wait=False, limit=limit)
        except AWAY as error:
            raise EventLogAwayError(f"the event log does not answer: {error!r}") from error
        taken = []
        for message in messages:
            frame = event_pb2.EventFrame.FromString(message.data)
            if frame.first_seq + frame.count > self._next_seq:
                with messaging.consuming(frame, message.headers, "receive"):
                    taken.append(frame)
                self._next_seq = frame.first_seq + frame.count
        return taken

    async def close(self) -> None:
        await self._pull.close()


async def _message_of(context: JetStreamContext, stream: str, from_seq: int, last: int) -> int:
    """JetStream sequence of the frame that holds event `from_seq`, by bisection; past the end when there is none."""
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        found = await context.get_msg(jetstream_name(stream), seq=middle, direct=True)
        if int((found.headers or {})[MESSAGE_ID].rpartition("-")[2]) <= from_seq:
            low = middle + 1
        else:
            high = middle
    return max(low - 1, 1)
