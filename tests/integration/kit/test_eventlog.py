import asyncio
from pathlib import Path

import nats.js.errors
import pytest
from nats.js.api import StreamConfig

from alphamesh.audit.v1 import event_pb2
from alphamesh.risk.v1 import events_pb2
from python_services.kit.eventlog import EventLogError
from python_services.kit.jetstream import EXPECTED_SEQUENCE, NatsEventLog
from python_services.kit.journal import Event, Journal
from python_services.kit.schemas import REGISTRY, UnknownEventTypeError
from python_services.kit.streams import SCHEMAS, declare, stream_config
from python_services.kit.subjects import jetstream_name, subject


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
    return (await log._connection().jetstream().stream_info(jetstream_name("ledger"))).state.messages


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
    context = log._connection().jetstream()
    answer = await context.publish(subject("ledger"), frame.SerializeToString(), headers=headers)
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
    config = (await log._connection().jetstream().stream_info(jetstream_name("ledger"))).config
    assert config.storage == "file"
    assert config.discard == "new"
    assert config.deny_delete
    assert config.deny_purge
    assert config.duplicate_window >= 300


async def test_a_frame_larger_than_a_megabyte_fits(log, journal):
    log.attach(journal)
    await write(journal, "x" * 2_000_000)
    assert (await take(log, 1))[0].events[0].payload == next(iter(journal.read(1))).events[0].payload


async def test_a_reader_takes_what_there_is_in_batches(log, journal):
    log.attach(journal)
    await write(journal, *"abcdefg")
    await take(log, 7)
    reader = await log.open("ledger", 3)
    taken = [[frame.first_seq for frame in await reader.take(2)] for _ in range(4)]
    assert taken == [[3, 4], [5, 6], [7], []]
    await write(journal, "h")
    await take(log, 8)
    assert [frame.first_seq for frame in await reader.take(2)] == [8]
    await reader.close()


@pytest.mark.parametrize("from_seq", range(1, 9))
async def test_every_event_is_found_whatever_frame_it_is_in(log, journal, from_seq):
    log.attach(journal)
    for count in (1, 3, 2, 1):
        journal.add([Event(payload=events_pb2.LimitsSet(), ts_event_ns=1, ts_init_ns=1)] * count)
        await journal.commit()
    await take(log, 4)
    reader = await log.open("ledger", from_seq)
    frames = await reader.take(10)
    assert [frame.first_seq for frame in frames] == [
        first for first, last in ((1, 1), (2, 4), (5, 6), (7, 7)) if last >= from_seq
    ]
    await reader.close()


async def test_a_second_writer_is_refused_by_the_expected_sequence(log, journal):
    log.attach(journal)
    await write(journal, "a", "b")
    await take(log, 2)
    context = log._connection().jetstream()
    with pytest.raises(nats.js.errors.APIError, match="wrong last sequence"):
        await context.publish(subject("ledger"), b"a fork", headers={EXPECTED_SEQUENCE: "1"})
    assert await stored(log) == 2


async def test_nothing_can_be_removed(log, journal):
    log.attach(journal)
    await write(journal, "a")
    await take(log, 1)
    context = log._connection().jetstream()
    with pytest.raises(nats.js.errors.APIError):
        await context.delete_msg(jetstream_name("ledger"), 1)
    with pytest.raises(nats.js.errors.APIError):
        await context.purge_stream(jetstream_name("ledger"))
    assert await stored(log) == 1


async def test_a_stream_with_other_settings_is_refused(nats, log, journal):
    context = log._connection().jetstream()
    await context.delete_stream(jetstream_name("ledger"))
    wrong = stream_config("ledger", 1, 0)
    wrong.deny_purge = False
    await context.add_stream(wrong)
    with pytest.raises(EventLogError, match="ALPHAMESH_ledger: deny_purge is not what it must be"):
        await declare(nats.server.url, {"ledger": 0}, 1)
    with pytest.raises(EventLogError, match="deny_purge"):
        await log.open("ledger", 1)


async def test_a_stream_that_is_not_declared_is_an_error_for_reader_and_writer(nats, tmp_path):
    failed = asyncio.get_running_loop().create_future()
    log = NatsEventLog(nats.server.url, "test", failed.set_result)
    await log.start()
    with pytest.raises(EventLogError, match=r"no stream 'unheard'; add it under event_log\.streams"):
        await log.open("unheard", 1)
    journal = Journal(tmp_path / "unheard.db", "unheard", "1", print)
    log.attach(journal)
    assert "no stream 'unheard'" in str(await asyncio.wait_for(failed, 5))
    await log.close()
    journal.close()


async def test_an_event_type_that_is_not_known_stops_reader_and_writer_at_the_start(nats, tmp_path, log, journal):
    config: StreamConfig = (await log._connection().jetstream().stream_info(jetstream_name("ledger"))).config
    config.metadata = {SCHEMAS: "alphamesh.risk.v9.Surprise"}
    await log._connection().jetstream().update_stream(config)
    with pytest.raises(UnknownEventTypeError, match=r"stream ledger: event type 'alphamesh\.risk\.v9\.Surprise'"):
        await log.open("ledger", 1)
    failed = asyncio.get_running_loop().create_future()
    writer = NatsEventLog(nats.server.url, "writer", failed.set_result)
    await writer.start()
    writer.attach(journal)
    assert isinstance(await asyncio.wait_for(failed, 5), UnknownEventTypeError)
    await writer.close()


async def test_a_writer_says_which_event_types_its_stream_carries(nats, tmp_path):
    await declare(nats.server.url, {"risk": 0}, 1)
    log = NatsEventLog(nats.server.url, "risk")
    await log.start()
    journal = Journal(tmp_path / "risk.db", "risk", "1", print)
    log.attach(journal)
    await write(journal, "a")
    frames = log.subscribe("risk", 1)
    await asyncio.wait_for(anext(frames), 5)
    await frames.aclose()
    config = (await log._connection().jetstream().stream_info(jetstream_name("risk"))).config
    assert set(config.metadata[SCHEMAS].split(",")) == REGISTRY.written_to("risk")
    await log.close()
    journal.close()


async def test_a_full_copy_takes_no_more_and_the_journal_goes_on(nats, tmp_path):
    await declare(nats.server.url, {"risk": 1}, 1)
    log = NatsEventLog(nats.server.url, "risk")
    await log.start()
    journal = Journal(tmp_path / "risk.db", "risk", "1", print)
    log.attach(journal)
    await write(journal, *(letter * 300_000 for letter in "abcde"))
    assert journal.durable_seq == 5
    await asyncio.sleep(0.5)
    reader = await log.open("risk", 1)
    assert [frame.first_seq for frame in await reader.take(10)] == [1, 2, 3]
    await declare(nats.server.url, {"risk": 0}, 1)  # room
    async with asyncio.timeout(10):
        while not (more := await reader.take(10)):  # noqa: ASYNC110 - a reader on demand is asked again
            await asyncio.sleep(0.05)
    assert more[0].first_seq == 4
    await log.close()
    journal.close()


async def test_a_journal_that_is_older_than_its_copy_is_refused(nats, log, journal, tmp_path):
    log.attach(journal)
    await write(journal, "a", "b")
    await take(log, 2)
    failed = asyncio.get_running_loop().create_future()
    restored = Journal(tmp_path / "older.db", "ledger", "1", print)
    writer = NatsEventLog(nats.server.url, "writer", failed.set_result)
    await writer.start()
    writer.attach(restored)
    assert "the event log has 2 events of ledger, its journal 0" in str(await asyncio.wait_for(failed, 5))
    await writer.close()
    restored.close()
