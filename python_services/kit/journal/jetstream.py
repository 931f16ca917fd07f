"""A JetStream stream as journal: three replicas, so that one machine may be lost without a pause.

A frame and its answers are one message. It is published with the sequence that must be the stream's last
(`Nats-Expected-Last-Sequence`): a writer that was overtaken is refused by the server. The first message of every
writer carries its epoch, so that the writer before is fenced before the new one has read the stream. The lease lies
in a second stream, whose messages the servers remove when they are older than its time to live.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import AsyncIterator
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

import nats
import nats.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError
from nats.js.errors import Error as JetStreamError

from alphamesh.audit.v1 import event_pb2

from ..connections import connect
from .remote import RemoteStore
from .store import Batch, JournalError, Page, Stored

SUBJECT = "alphamesh.journal"
LEASES = "alphamesh.lease"
_WRONG_LAST_SEQUENCE = 10071
_UNAVAILABLE = 10008
_NO_LEADER = (TimeoutError, NoStreamResponseError, ServiceUnavailableError)
_PAGE = 256  # messages
_WAIT_S = 2.0
_LEADER_S = 20.0


class JetStreamStore(RemoteStore):
    """address: servers separated by commas; `?replicas=N` after the last (default 3).

    The servers must sync every write (`sync_interval: always`): a power cut would otherwise take what was answered.
    """

    def __init__(self, address: str, stream: str, holder: str, **options: float) -> None:
        """Raises JournalError."""
        self._address = address
        self._servers, query = _parsed(address)
        self._replicas = int(parse_qs(query).get("replicas", ["3"])[0])
        self._name, self._subject = f"JOURNAL_{stream}", f"{SUBJECT}.{stream}"
        self._client: Client | None = None
        self._lease_seq = self._last = 0
        # Of each message with a frame: its first event, and its place in the stream.
        self._first, self._place = array("q"), array("q")
        self._answers: dict[str, int] = {}
        super().__init__(_shown(self._servers), stream, holder, **options)

    @property
    def answers(self) -> int:
        """Of this stream."""
        return len(self._answers)

    async def _open(self) -> None:
        self._client = await connect(
            self._address, f"journal-{self._stream}", reconnect_time_wait=0.1, connect_timeout=2, error_cb=_ignore
        )
        self._context = self._client.jetstream(timeout=_WAIT_S)
        while True:
            try:
                await self._take_over()
                return
            except _NO_LEADER as error:
                # Servers that have just started, or lost one of them, elect a leader; the caller bounds the wait.
                if isinstance(error, APIError) and error.err_code not in (None, _UNAVAILABLE):
                    raise
                await asyncio.sleep(0.1)

    async def _take_over(self) -> None:
        """The lease first, then all that is stored, then the message that fences the writer before."""
        await self._take_lease()
        try:
            facts = await self._context.stream_info(self._name)
        except NotFoundError:
            config = StreamConfig(
                name=self._name, subjects=[self._subject], storage=StorageType.FILE, num_replicas=self._replicas,
                discard=DiscardPolicy.NEW, deny_delete=True, deny_purge=True,
            )  # fmt: skip
            facts = await self._context.add_stream(config)
        if facts.config.num_replicas != self._replicas:
            raise JournalError(
                f"{self.where} keeps {facts.config.num_replicas} replicas of {self._name}, not {self._replicas}; "
                "say ?replicas=N in the address, or change the stream"
            )
        while True:
            await self._scan(facts.state.last_seq)
            self.epoch += 1
            try:
                await self._publish(event_pb2.JournalRecord(epoch=self.epoch, holder=self._holder))
                return
            except APIError as error:
                if error.err_code != _WRONG_LAST_SEQUENCE:
                    raise
            # The writer before wrote once more while this one read.
            facts = await self._context.stream_info(self._name)

    async def _take_lease(self) -> None:
        subject = f"{LEASES}.{self._stream}"
        self._lease_stream = f"LEASE_{self._stream}"
        try:
            await self._context.stream_info(self._lease_stream)
        except NotFoundError:
            config = StreamConfig(
                name=self._lease_stream, subjects=[subject], storage=StorageType.FILE, max_age=self._lease_s,
                max_msgs_per_subject=1, num_replicas=self._replicas, duplicate_window=min(self._lease_s, 2.0),
            )  # fmt: skip
            await self._context.add_stream(config)
        try:
            held = await self._context.get_last_msg(self._lease_stream, subject)
        except NotFoundError:
            held = None
        if held is not None and (held.data or b"").decode() not in (self._holder, ""):
            raise self._held((held.data or b"").decode())
        self._lease_seq = held.seq or 0 if held is not None else 0
        await self._write_lease(self._holder)

    async def _write_lease(self, holder: str) -> None:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(self._lease_seq)}
        acked = await self._context.publish(
            f"{LEASES}.{self._stream}", holder.encode(), timeout=_WAIT_S, headers=headers
        )
        self._lease_seq = acked.seq

    async def _renew(self) -> None:
        await self._write_lease(self._holder)

    async def _release(self) -> None:
        await self._write_lease("")

    async def _disconnect(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _scan(self, last: int) -> None:
        """Takes note of what the stream holds, up to `last`."""
        while self._last < last:
            for place, record in await self._fetch(self._last + 1):
                self.epoch = max(self.epoch, record.epoch)
                self._note(place, record)
                self._last = place

    def _note(self, place: int, record: event_pb2.JournalRecord) -> None:
        if record.frame:
            frame = event_pb2.EventFrame.FromString(record.frame)
            self._first.append(frame.first_seq)
            self._place.append(place)
        for answer in record.answers:
            self._answers.setdefault(answer.request_id, place)

    async def _fetch(self, place: int) -> list[tuple[int, event_pb2.JournalRecord]]:
        """Messages from `place` on; raises when there is none."""
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=place, ack_policy=AckPolicy.NONE,
            num_replicas=1, mem_storage=True, inactive_threshold=30.0,
        )  # fmt: skip
        subscription = await self._context.pull_subscribe(self._subject, stream=self._name, config=config)
        try:
            while True:
                try:
                    messages = await subscription.fetch(_PAGE, timeout=_WAIT_S)
                    break
                except ServiceUnavailableError:  # the new consumer has no leader yet; the caller bounds the wait
                    await asyncio.sleep(0.02)
        finally:
            await subscription.unsubscribe()
        return [(m.metadata.sequence.stream, event_pb2.JournalRecord.FromString(m.data)) for m in messages]

    async def _page(self, from_seq: int) -> list[Stored]:
        at = max(bisect_right(self._first, from_seq) - 1, 0)
        page: list[Stored] = []
        while at < len(self._place) and not page:
            for _, record in await self._fetch(self._place[at]):
                if record.frame:
                    frame = event_pb2.EventFrame.FromString(record.frame)
                    if frame.first_seq + frame.count > from_seq:
                        page.append((frame.first_seq, frame.count, record.frame))
            at += 1
        return page

    async def _append(self, batch: Batch) -> None:
        record = event_pb2.JournalRecord(frame=batch.body, answers=batch.answers, epoch=self.epoch, holder=self._holder)
        place = await self._publish(record)
        if batch.count:
            self._first.append(batch.after_seq + 1)
            self._place.append(place)
        for answer in batch.answers:
            self._answers.setdefault(answer.request_id, place)

    async def _publish(self, record: event_pb2.JournalRecord) -> int:
        """Publishes behind the last message. Repeats while the stream has no leader; the caller bounds that."""
        data, repeated = record.SerializeToString(), False
        headers = {"Nats-Expected-Stream": self._name, "Nats-Expected-Last-Sequence": str(self._last)}
        while True:
            try:
                acked = await self._context.publish(self._subject, data, timeout=_WAIT_S, headers=headers)
                self._last = acked.seq
                return self._last
            except _NO_LEADER:
                repeated = True
                await asyncio.sleep(0.1)
            except APIError as error:
                # The first attempt may have been stored, and only its acknowledgement lost.
                if not repeated or error.err_code != _WRONG_LAST_SEQUENCE or not await self._is_stored(data):
                    raise
                self._last += 1
                return self._last

    async def _is_stored(self, data: bytes) -> bool:
        stored = await self._context.get_msg(self._name, self._last + 1)
        return stored.data == data

    def _is_answered(self, request_id: str) -> bool:
        return request_id in self._answers

    async def _answer(self, request_id: str) -> event_pb2.Answer:
        stored = await self._context.get_msg(self._name, self._answers[request_id])
        record = event_pb2.JournalRecord.FromString(stored.data or b"")
        return next(answer for answer in record.answers if answer.request_id == request_id)

    def _explain(self, error: Exception) -> JournalError | None:
        match error:
            case APIError(err_code=code) if code == _WRONG_LAST_SEQUENCE:
                return self._fenced()
            case DecodeError():
                return JournalError(f"{self.where} was damaged ({error}); restore the stream from a backup")
            case JetStreamError() | nats.errors.Error():
                return JournalError(f"cannot use {self.where}: {error}; see the servers' logs, then restart")
        return None


async def stored(address: str, stream: str) -> AsyncIterator[Page]:
    """What the servers hold of `stream`, page by page. Raises JournalError."""
    servers, _ = _parsed(address)
    try:
        client = await connect(address, "reader", allow_reconnect=False, connect_timeout=2, error_cb=_ignore)
        try:
            async with asyncio.timeout(_LEADER_S):
                subscription, last = await _reader(client.jetstream(timeout=_WAIT_S), stream)
            place = 0
            while place < last:
                messages = await subscription.fetch(_PAGE, timeout=_WAIT_S)
                place = messages[-1].metadata.sequence.stream
                yield _page([event_pb2.JournalRecord.FromString(message.data) for message in messages])
        finally:
            await client.close()
    except NotFoundError:
        return  # nobody has written there yet
    except (nats.errors.Error, JetStreamError, TimeoutError, OSError, DecodeError) as error:
        raise JournalError(
            f"{stream} in {_shown(servers)} cannot be read ({error!r}); see that the servers run and can be reached"
        ) from error


async def _reader(context: JetStreamContext, stream: str) -> tuple[JetStreamContext.PullSubscription, int]:
    """A consumer from the first message on, and the place of the last; the caller bounds the wait for leaders."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, num_replicas=1, mem_storage=True,
        inactive_threshold=30.0,
    )  # fmt: skip
    name = f"JOURNAL_{stream}"
    while True:
        try:
            last = (await context.stream_info(name)).state.last_seq
            subscription = await context.pull_subscribe(f"{SUBJECT}.{stream}", stream=name, config=config)
            return subscription, last
        except _NO_LEADER:
            await asyncio.sleep(0.1)


def _page(records: list[event_pb2.JournalRecord]) -> Page:
    frames: list[Stored] = []
    for body in (record.frame for record in records if record.frame):
        frame = event_pb2.EventFrame.FromString(body)
        frames.append((frame.first_seq, frame.count, body))
    answers = [answer for record in records for answer in record.answers]
    bodies = [answer.SerializeToString(deterministic=True) for answer in answers]
    return frames, [(a.request_id, body, sha256(body).digest()) for a, body in zip(answers, bodies, strict=True)]


def _parsed(address: str) -> tuple[list[str], str]:
    servers, _, query = address.partition("?")
    return servers.split(","), query


def _shown(servers: list[str]) -> str:
    """Without credentials."""
    return "nats://" + ",".join(urlsplit(server).netloc.rpartition("@")[2] for server in servers)


async def _ignore(error: Exception) -> None:
    """The client connects again by itself; what fails meanwhile is told to who asked for it."""
