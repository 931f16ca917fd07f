"""The streams of the event log on JetStream: their names, the settings that they must have, their event types.

One JetStream stream for each journal. `stream_config` is the only place where settings are written down; whoever opens
a stream checks it against them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import nats
import nats.errors
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, PersistMode, RetentionPolicy, StorageType, StreamInfo
from nats.js.api import StreamConfig as JetStreamConfig
from nats.js.errors import NotFoundError

from . import telemetry
from .connections import connect
from .eventlog import EventLogError
from .schemas import REGISTRY
from .subjects import jetstream_name, subject

SCHEMAS = "alphamesh-schemas"  # in a stream's metadata: the event types that it has ever carried
DUPLICATE_WINDOW_S = 600.0
ANSWER_S = 1.0  # a repeat is harmless, so a lost answer need not be waited for long
RETRY_S = 0.1
AWAY = (TimeoutError, asyncio.TimeoutError, nats.errors.Error)


def stream_config(stream: str, replicas: int, maximum_mb: int) -> JetStreamConfig:
    """What a stream must be. At `maximum_mb` it refuses more (0: only the disk limits it); nothing is ever deleted."""
    return JetStreamConfig(
        name=jetstream_name(stream),
        subjects=[subject(stream)],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        max_bytes=maximum_mb * 2**20 or -1,
        num_replicas=replicas,
        deny_delete=True,
        deny_purge=True,
        allow_direct=True,
        duplicate_window=DUPLICATE_WINDOW_S,
    )


async def declare(url: str, streams: Mapping[str, int], replicas: int) -> None:
    """Makes sure that each stream (name -> maximum_mb) exists as it must be. Raises EventLogError.

    It also says which event types a stream carries: today's, and all that it ever had. A writer may not change that, so
    that it cannot change what else its stream is. Repeats while the servers elect a leader; the caller bounds the wait.
    """
    client = await connect(url, "declare")
    try:
        await asyncio.gather(
            *(
                _declare(client.jetstream(timeout=ANSWER_S), name, stream_config(name, replicas, mb))
                for name, mb in streams.items()
            )
        )
    finally:
        await client.close()


async def _declare(context: JetStreamContext, stream: str, wanted: JetStreamConfig) -> None:
    while True:
        try:
            try:
                info = await context.stream_info(jetstream_name(stream))
            except NotFoundError:
                info = await context.add_stream(wanted)
            _check(info)
            found, carried = info.config, recorded_schemas(info)
            carries = sorted(REGISTRY.written_to(stream).union(carried))
            if (found.num_replicas, found.max_bytes, carried) != (wanted.num_replicas, wanted.max_bytes, carries):
                wanted.metadata = {SCHEMAS: ",".join(carries)}
                await context.update_stream(wanted)
            return
        except AWAY as error:
            telemetry.logger().info("waiting for the event log", stream=stream, error=repr(error))
            await asyncio.sleep(RETRY_S)


def _check(info: StreamInfo) -> None:
    found = info.config
    right = {
        "storage": found.storage == StorageType.FILE,
        "retention": found.retention == RetentionPolicy.LIMITS,
        "discard": found.discard == DiscardPolicy.NEW,
        "deny_delete": found.deny_delete,
        "deny_purge": found.deny_purge,
        "duplicate_window": found.duplicate_window >= DUPLICATE_WINDOW_S,
        "persist_mode": found.persist_mode in (None, PersistMode.DEFAULT),
        "no_ack": not found.no_ack,
        "max_age": not found.max_age,
    }
    wrong = [name for name, good in right.items() if not good]
    if wrong:
        raise EventLogError(
            f"JetStream stream {found.name}: {', '.join(wrong)} is not what it must be (docs/events.md); "
            "remove the stream and start again: it is copied from the journal"
        )


async def stream_info(context: JetStreamContext, stream: str) -> StreamInfo:
    """Facts about a stream. Raises EventLogError when it does not exist, or is not as it must be."""
    try:
        info = await context.stream_info(jetstream_name(stream))
    except NotFoundError:
        raise EventLogError(
            f"the event log has no stream {stream!r}; add it under event_log.streams in the topology"
        ) from None
    _check(info)
    return info


def recorded_schemas(info: StreamInfo) -> list[str]:
    """Full names of the event types that the stream has ever carried."""
    listed = (info.config.metadata or {}).get(SCHEMAS, "")
    return [name for name in listed.split(",") if name]
