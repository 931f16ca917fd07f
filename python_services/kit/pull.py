"""Reading a JetStream stream by pull requests: in order, from a sequence on, through restarts of its servers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from .streams import ANSWER_S, AWAY
from .subjects import jetstream_name, next_message

BATCH = 512
_BATCH_BYTES = 64 * 2**20  # several times the largest message
_HEARTBEAT_S = 0.5
_SILENCE_S = 2.5 * _HEARTBEAT_S  # then the consumer is gone: its server was restarted, or is cut off
_EXPIRES_S = 30.0


class Pull:
    """Messages of one JetStream stream, in order, from a JetStream sequence on.

    One pull request at a time. When a server goes away the consumer is made again where this reader stands.
    """

    def __init__(self, client: Client, stream: str, next_seq: int) -> None:
        self._client = client
        self._stream = stream
        self._name = jetstream_name(stream)
        self._next_seq = next_seq
        self._consumer = ""
        self._subscription: Any = None
        self._got: list[Msg] = []
        self._owed = 0  # messages that the request in progress may still bring
        self._broken = False
        self._heard = asyncio.Event()

    async def fetch(self, *, wait: bool, limit: int = BATCH) -> list[Msg]:
        """What there is: at least one message with `wait`, else perhaps none. Raises what NATS raises."""
        asked = False
        while True:
            if self._got:
                got, self._got = self._got, []
                return got
            if self._broken or self._subscription is None:
                await self._begin()
            if not self._owed:
                if asked and not wait:
                    return []
                await self._ask(limit, wait)
                asked = True
            self._heard.clear()
            try:
                async with asyncio.timeout(_SILENCE_S):
                    await self._heard.wait()
                    while not wait and self._owed and not self._broken:
                        self._heard.clear()
                        await self._heard.wait()
            except TimeoutError:
                self._broken = True  # not even a heartbeat
                raise

    async def close(self) -> None:
        """Gives the consumer back; it would end by itself otherwise."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and self._client.is_connected:
            with contextlib.suppress(*AWAY):
                await subscription.unsubscribe()
                await self._client.jetstream(timeout=ANSWER_S).delete_consumer(self._name, self._consumer)

    async def _begin(self) -> None:
        old, self._subscription = self._subscription, None
        if old is not None:
            with contextlib.suppress(*AWAY):
                await old.unsubscribe()
        consumer = await self._client.jetstream(timeout=ANSWER_S).add_consumer(
            self._name,
            ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self._next_seq,
                ack_policy=AckPolicy.NONE,
                mem_storage=True,
                num_replicas=1,
                inactive_threshold=4 * _EXPIRES_S,
            ),
            timeout=ANSWER_S,
        )
        self._consumer = consumer.name
        inbox = self._client.new_inbox()
        self._got, self._owed, self._broken = [], 0, False
        self._subscription = await self._client.subscribe(inbox, cb=self._take, pending_bytes_limit=-1)
        self._inbox = inbox

    async def _ask(self, limit: int, wait: bool) -> None:
        request: dict[str, Any] = {"batch": limit, "max_bytes": _BATCH_BYTES}
        if wait:
            request |= {"expires": int(_EXPIRES_S * 1e9), "idle_heartbeat": int(_HEARTBEAT_S * 1e9)}
        else:
            request |= {"no_wait": True}
        self._owed = limit
        subject = next_message(self._stream, self._consumer)
        await self._client.publish(subject, orjson.dumps(request), reply=self._inbox)

    async def _take(self, message: Msg) -> None:
        if message.subject == self._inbox and not message.data:
            headers = message.headers or {}
            status, why = headers.get("Status", ""), headers.get("Description", "")
            if status != "100" and why != "Batch Completed":  # a heartbeat; said after the last message
                # These end a request; anything else is a consumer that cannot be asked again.
                self._owed = 0
                self._broken = self._broken or (status not in ("404", "408") and "MaxBytes" not in why)
        elif _sequence(message.reply) == self._next_seq:
            self._got.append(message)
            self._next_seq += 1
            self._owed -= 1
        else:
            self._broken = True
        self._heard.set()


def _sequence(reply: str) -> int:
    """Stream sequence of a delivered message: $JS.ACK.[domain.account.]stream.consumer.delivered.SEQUENCE..."""
    tokens = reply.split(".")
    return int(tokens[5] if len(tokens) == 9 else tokens[7])
