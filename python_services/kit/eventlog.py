"""Distribution of events. Truth is each writer's journal; the event log carries copies to everyone else.

Two drivers behind one interface, chosen by configuration: `LocalEventLog` hands frames over inside one
process, `NatsEventLog` goes through a JetStream server. Readers see the same frames either way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, RetentionPolicy, StorageType
from nats.js.api import StreamConfig as JetStreamConfig
from nats.js.errors import NotFoundError

from alphamesh.audit.v1 import event_pb2

from . import telemetry
from .journal import Journal
from .signal import Signal

JETSTREAM = "ALPHAMESH"
SUBJECT = "alphamesh.events"
_DUPLICATE_WINDOW_S = 600.0
_IN_FLIGHT = 64
_HEARTBEAT_S = 0.5  # two missed ones, and the client asks for a new consumer: after a restart of the server


class EventLog(Protocol):
    """Where frames of all streams can be read."""

    async def start(self) -> None:
        """Connects, or raises with the remedy."""

    def attach(self, journal: Journal) -> None:
        """Distributes `journal`: what it holds and every frame from now on."""

    def subscribe(self, stream: str, from_seq: int) -> AsyncIterator[event_pb2.EventFrame]:
        """Frames of `stream`, from the one that holds `from_seq`, then as they come. At least once, in order."""

    async def close(self) -> None:
        """Stops distributing; everything not yet sent is sent after the next start."""


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

    async def subscribe(self, stream: str, from_seq: int) -> AsyncIterator[event_pb2.EventFrame]:
        """Frames of `stream`; waits for its journal when it is not attached yet."""
        while stream not in self._journals:
            await self._attached.next().wait()
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

    async def close(self) -> None:
        """Nothing to stop."""

    def _deliver(self, stream: str, frame: event_pb2.EventFrame) -> None:
        for frames in self._readers.get(stream, ()):
            frames.put_nowait(frame)


class NatsEventLog:
    """A JetStream server. Each journal has an outbox that publishes its frames in order, exactly once.

    The message id "<stream>-<first_seq>" makes a repeated publish harmless; after a start the outbox
    asks the log how far it got.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._client: Client | None = None
        self._context: JetStreamContext | None = None
        self._outboxes: list[asyncio.Task[None]] = []
        self._pending: dict[str, asyncio.Event] = {}

    async def start(self) -> None:
        """Connects and makes sure that the JetStream stream exists with the settings it must have."""
        self._client = await nats.connect(
            self._url, name=self._name, max_reconnect_attempts=-1, reconnect_time_wait=0.25, error_cb=_log_error
        )
        self._context = self._client.jetstream(publish_async_max_pending=_IN_FLIGHT)
        config = JetStreamConfig(
            name=JETSTREAM,
            subjects=[f"{SUBJECT}.*"],
            storage=StorageType.FILE,
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW,
            deny_delete=True,
            deny_purge=True,
            duplicate_window=_DUPLICATE_WINDOW_S,
        )
        try:
            await self._jetstream().stream_info(JETSTREAM)
        except NotFoundError:
            await self._jetstream().add_stream(config)

    def attach(self, journal: Journal) -> None:
        """Starts the outbox of `journal`."""
        wake = self._pending.setdefault(journal.stream, asyncio.Event())
        wake.set()
        journal.listen(lambda _frame: wake.set())
        self._outboxes.append(asyncio.create_task(self._publish(journal, wake), name=f"outbox-{journal.stream}"))

    async def subscribe(self, stream: str, from_seq: int) -> AsyncIterator[event_pb2.EventFrame]:
        """Frames of `stream` from a durable-only JetStream consumer, kept in order by the client."""
        subscription = await self._jetstream().subscribe(
            f"{SUBJECT}.{stream}",
            ordered_consumer=True,
            config=ConsumerConfig(
                deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, idle_heartbeat=_HEARTBEAT_S
            ),
        )
        try:
            async for message in subscription.messages:
                frame = event_pb2.EventFrame.FromString(message.data)
                if frame.first_seq + frame.count > from_seq:
                    yield frame
        finally:
            # The server may be gone already; its consumer expires by itself.
            if self._client is not None and self._client.is_connected:
                await subscription.unsubscribe()

    async def close(self) -> None:
        """Stops the outboxes and disconnects."""
        for outbox in self._outboxes:
            outbox.cancel()
        await asyncio.gather(*self._outboxes, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def _jetstream(self) -> JetStreamContext:
        if self._context is None:
            raise RuntimeError("the event log is not started")
        return self._context

    async def _published_seq(self, stream: str) -> int:
        try:
            last = await self._jetstream().get_last_msg(JETSTREAM, f"{SUBJECT}.{stream}")
        except NotFoundError:
            return 0
        frame = event_pb2.EventFrame.FromString(last.data or b"")
        return frame.first_seq + frame.count - 1

    async def _publish(self, journal: Journal, wake: asyncio.Event) -> None:
        log = telemetry.logger()
        subject, published = f"{SUBJECT}.{journal.stream}", -1
        while True:
            try:
                if published < 0:
                    published = await self._published_seq(journal.stream)
                await wake.wait()
                wake.clear()
                for frame in list(journal.read(published + 1)):
                    headers = {"Nats-Msg-Id": f"{journal.stream}-{frame.first_seq}"}
                    await self._jetstream().publish(subject, frame.SerializeToString(), timeout=5.0, headers=headers)
                    published = frame.first_seq + frame.count - 1
            except (TimeoutError, nats.errors.Error) as error:
                # The ledger goes on journalling; the outbox catches up when the log is back.
                log.warning("event log not reachable", stream=journal.stream, error=repr(error))
                published = -1
                wake.set()
                await asyncio.sleep(0.25)


async def _log_error(error: Exception) -> None:
    telemetry.logger().warning("event log connection", error=repr(error))
