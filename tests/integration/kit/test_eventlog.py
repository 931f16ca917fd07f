import asyncio
from pathlib import Path

import pytest

from alphamesh.audit.v1 import event_pb2
from alphamesh.risk.v1 import events_pb2
from python_services.kit.eventlog import JETSTREAM, SUBJECT, NatsEventLog
from python_services.kit.journal import Event, Journal


@pytest.fixture
def journal(tmp_path: Path):
    def fail(error: BaseException) -> None:
        raise AssertionError(f"the journal failed: {error}")

    opened = Journal(tmp_path / "journal.db", "ledger", "1", fail)
    yield opened
    opened.close()


@pytest.fixture
async def log(nats):
    opened = NatsEventLog(nats.server.url, "test")
    await opened.start()
    yield opened
    await opened.close()


async def write(journal: Journal, *accounts: str) -> None:
    for account in accounts:
        payload = events_pb2.LimitsSet(account_id=account)
        journal.add([Event(payload=payload, ts_event_ns=1, ts_init_ns=1)])
        await journal.commit()


async def take(log: NatsEventLog, count: int, from_seq: int = 1) -> list[event_pb2.EventFrame]:
    taken: list[event_pb2.EventFrame] = []
    frames = log.subscribe("ledger", from_seq)
    async with asyncio.timeout(15):
        async for frame in frames:
            taken.append(frame)
            if len(taken) == count:
                break
    await frames.aclose()
    return taken


async def stored(log: NatsEventLog) -> int:
    return (await log._jetstream().stream_info(JETSTREAM)).state.messages


async def test_readers_get_what_is_in_the_journal_and_what_comes(log, journal):
    await write(journal, "a", "b")
    log.attach(journal)
    reader = asyncio.create_task(take(log, 3))
    await asyncio.sleep(0.1)
    await write(journal, "c")
    assert list(await reader) == list(journal.read(1))


async def test_a_reader_begins_where_it_wants(log, journal):
    log.attach(journal)
    await write(journal, "a", "b", "c")
    assert [frame.first_seq for frame in await take(log, 2, from_seq=2)] == [2, 3]


async def test_nothing_is_published_twice_after_a_restart_of_the_writer(nats, log, journal):
    log.attach(journal)
    await write(journal, "a", "b")
    await take(log, 2)
    await log.close()
    again = NatsEventLog(nats.server.url, "test-again")
    await again.start()
    again.attach(journal)
    await write(journal, "c")
    await take(again, 3)
    assert await stored(again) == 3
    await again.close()


async def test_a_repeated_publish_is_dropped_by_the_server(log, journal):
    log.attach(journal)
    await write(journal, "a")
    await take(log, 1)
    frame = next(iter(journal.read(1)))
    headers = {"Nats-Msg-Id": "ledger-1"}
    answer = await log._jetstream().publish(f"{SUBJECT}.ledger", frame.SerializeToString(), headers=headers)
    assert answer.duplicate
    assert await stored(log) == 1


async def test_a_killed_server_loses_nothing_and_both_sides_go_on(nats, log, journal):
    log.attach(journal)
    await write(journal, "a", "b")
    await take(log, 2)
    reader = asyncio.create_task(take(log, 4))
    await asyncio.sleep(0.1)
    await nats.kill()
    await write(journal, "c")  # the ledger goes on journalling
    await nats.start()
    await write(journal, "d")
    assert list(await reader) == list(journal.read(1))
    assert await stored(log) == 4


async def test_the_stream_has_the_settings_that_it_must_have(log):
    config = (await log._jetstream().stream_info(JETSTREAM)).config
    assert config.storage == "file"
    assert config.discard == "new"
    assert config.deny_delete
    assert config.deny_purge
    assert config.duplicate_window >= 300


async def test_a_frame_larger_than_a_megabyte_fits(log, journal):
    log.attach(journal)
    await write(journal, "x" * 2_000_000)
    assert (await take(log, 1))[0].events[0].payload == next(iter(journal.read(1))).events[0].payload
