"""What every journal keeps, whatever store it rests on."""

import asyncio
import sqlite3
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from alphamesh.audit.v1 import event_pb2
from alphamesh.risk.v1 import risk_pb2
from benchmarks.servers import PostgresServer
from python_services.kit.journal import (
    ZERO_HASH,
    FencedError,
    Journal,
    JournalError,
    RequestKey,
    current_request,
    open_store,
    read_frames,
    verify,
)
from python_services.kit.journal.postgres import PostgresStore
from python_services.kit.journal.store import Batch

from .journals import JetStreamPlace, Place, SqlitePlace, event, refuse


async def answer(journal: Journal, request_id: str, etag: str) -> None:
    token = current_request.set(RequestKey(request_id=request_id, method="/m", request_sha256=b"digest"))
    await journal.commit(risk_pb2.SetLimitsResponse(etag=etag))
    current_request.reset(token)


async def test_a_reopened_journal_goes_on_where_it_was(place: Place):
    last = await place.fill(3)
    journal = place.open()
    assert (journal.durable_seq, journal.durable_hash, journal.epoch) == (3, last, 2)
    (added,) = journal.add([event("next")])
    await journal.commit()
    frames = list(journal.read(1))
    assert [envelope.seq for frame in frames for envelope in frame.events] == [1, 2, 3, 4]
    assert added.prev_hash == last
    assert journal.durable_hash == added.hash
    assert [frame.first_seq for frame in journal.read(3)] == [3, 4]
    assert verify(frames).problem == ""
    assert verify(frames).event_hash == added.hash
    journal.close()


async def test_reading_begins_with_the_frame_that_holds_the_event(place: Place):
    journal = place.open()
    for size in (2, 3, 1):
        journal.add([event(str(n)) for n in range(size)])
        await journal.commit()
    for from_seq, first in ((1, 1), (2, 1), (3, 3), (5, 3), (6, 6)):
        assert next(journal.read(from_seq)).first_seq == first
    assert list(journal.read(7)) == []
    journal.close()


async def test_the_same_events_give_the_same_hash_however_they_are_framed(place: Place):
    last = await place.fill(3)
    other = Journal(place.folder / "other.db", place.stream, "1", refuse)
    other.add([event(f"a{number}") for number in range(3)])
    await other.commit()
    assert other.durable_hash == last != ZERO_HASH
    other.close()


async def test_events_that_wait_together_share_one_frame(place: Place):
    journal = place.open()
    journal.add([event("a")])
    first = asyncio.ensure_future(journal.commit())
    journal.add([event("b"), event("c")])
    await asyncio.gather(first, journal.commit())
    assert [frame.count for frame in journal.read(1)] == [3]
    journal.close()


async def test_what_comes_while_a_write_is_under_way_goes_out_next(place: Place):
    journal = place.open()

    async def write(name: str) -> int:
        (added,) = journal.add([event(name)])
        await journal.commit()
        assert journal.durable_seq >= added.seq
        return int(added.seq)

    first = asyncio.ensure_future(write("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    sequences = await asyncio.gather(first, *(write(str(n)) for n in range(50)))
    assert sorted(sequences) == list(range(1, 52))
    assert sum(frame.count for frame in journal.read(1)) == 51
    assert len(list(journal.read(1))) < 10
    journal.close()


async def test_more_events_than_a_frame_takes_go_out_in_several(place: Place):
    journal = place.open()
    journal.add([event(str(n)) for n in range(5000)])
    await answer(journal, "r", "all of them")
    assert [frame.count for frame in journal.read(1)] == [4096, 904]
    journal.close()
    again = place.open()
    assert again.durable_seq == 5000
    assert again.answered("r") is not None
    again.close()


async def test_listeners_see_frames_only_when_they_are_durable(place: Place):
    journal = place.open()
    seen: list[event_pb2.EventFrame] = []
    journal.listen(seen.append)
    journal.add([event("a")])
    assert not seen
    assert (journal.last_seq, journal.durable_seq) == (1, 0)
    await journal.barrier()
    assert seen == list(journal.read(1))
    journal.close()


async def test_what_may_wait_is_durable_soon(place: Place):
    journal = place.open()
    journal.add([event("a")])
    journal.commit_later()
    assert journal.durable_seq == 0
    async with asyncio.timeout(5):
        while journal.durable_seq == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    journal.close()


async def test_closing_writes_what_waits(place: Place):
    journal = place.open()
    journal.add([event("a"), event("b")])
    journal.close()
    again = place.open()
    assert again.durable_seq == 2
    again.close()


async def test_the_first_answer_survives_a_restart(place: Place):
    journal = place.open()
    journal.add([event("a")])
    await answer(journal, "r", "first")
    await answer(journal, "only", "without an event")
    await answer(journal, "r", "second")
    journal.close()
    journal = place.open()
    for request_id, etag in (("r", "first"), ("only", "without an event")):
        answered = journal.answered(request_id)
        assert answered is not None
        assert answered[:2] == ("/m", b"digest")
        assert risk_pb2.SetLimitsResponse.FromString(answered[2]).etag == etag
    assert journal.answered("other") is None
    journal.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda frame: setattr(frame.events[0], "ts_event_ns", 99), "altered event at seq 2"),
        (lambda frame: setattr(frame.events[0], "payload", b""), "altered event at seq 2"),
        (lambda frame: setattr(frame.events[0], "hash", bytes(32)), "altered event at seq 2"),
        (lambda frame: setattr(frame, "prev_hash", bytes(32)), "broken chain at seq 2"),
        (lambda frame: setattr(frame, "sha256", bytes(32)), "altered frame at seq 2"),
        (lambda frame: setattr(frame, "stream", "other"), "altered frame at seq 2"),
        (lambda frame: frame.events.pop(), "broken chain at seq 2"),
        (None, "gap: expected seq 2, got 3"),
    ],
)
async def test_a_changed_frame_is_found_at_the_next_start(open_place: Place, change, says):
    await open_place.fill(3)
    await open_place.alter(2, change)
    with pytest.raises(JournalError, match=rf"was damaged \({says}\); restore it"):
        open_place.open()


async def test_an_event_that_was_changed_with_its_frame_s_hash_is_found(open_place: Place):
    """Whoever changes an event and computes the frame's hash again breaks the link of the next frame."""
    await open_place.fill(3)

    def forge(frame: event_pb2.EventFrame) -> None:
        from hashlib import sha256

        frame.events[0].payload = b"forged"
        frame.sha256 = b""
        frame.sha256 = sha256(frame.SerializeToString()).digest()

    await open_place.alter(2, forge)
    with pytest.raises(JournalError, match="broken chain at seq 3"):
        open_place.open()


async def test_a_missing_end_is_found(open_place: Place):
    await open_place.fill(3)
    await open_place.alter(3, None)
    with pytest.raises(JournalError, match="it ends at seq 2, and 3 was durable"):
        open_place.open()


async def test_a_changed_answer_is_found(open_place: Place):
    journal = open_place.open()
    await answer(journal, "r", "first")
    journal.close()
    await open_place.alter_answers()
    with pytest.raises(JournalError, match="altered answer to request 'r'"):
        open_place.open()


async def test_after_a_failure_nothing_is_answered_any_more(place: Place):
    failures: list[BaseException] = []
    journal = place.open(failures.append)
    journal.add([event("a")])
    await journal.commit()
    journal.add([event("b")])
    waiting = asyncio.ensure_future(journal.commit())
    await asyncio.sleep(0)
    journal.poison(ValueError("cannot apply"))
    with pytest.raises(JournalError, match="the journal has failed: cannot apply"):
        await waiting
    assert [type(error) for error in failures] == [ValueError]
    for use in (lambda: journal.add([event("c")]),):
        with pytest.raises(JournalError, match="the journal has failed"):
            use()
    with pytest.raises(JournalError, match="the journal has failed"):
        await journal.barrier()
    journal.close()


async def test_a_write_that_the_store_refuses_ends_the_journal(place: Place):
    failures: list[BaseException] = []
    journal = place.open(failures.append)
    journal.add([event("a")])
    await journal.commit()
    error = JournalError("no room")

    def append(_batch: object) -> Future[None]:
        failed: Future[None] = Future()
        failed.set_exception(error)
        return failed

    journal._store.append = append  # type: ignore[method-assign]
    journal.add([event("b")])
    with pytest.raises(JournalError, match="no room"):
        await journal.commit()
    assert failures == [error]
    with pytest.raises(JournalError, match="the journal has failed: no room"):
        journal.add([event("c")])
    journal.close()
    again = place.open()
    assert again.durable_seq == 1
    again.close()


async def test_a_caller_that_goes_away_harms_nobody(place: Place):
    journal = place.open()
    journal.add([event("a")])
    gone = asyncio.ensure_future(journal.commit())
    journal.add([event("b")])
    stays = asyncio.ensure_future(journal.commit())
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert journal.durable_seq == 2
    journal.close()


# --- SQLite -----------------------------------------------------------------------------------------


async def test_a_frame_of_noise_is_found(tmp_path):
    place = SqlitePlace("sqlite", tmp_path, "ledger")
    await place.fill(3)
    with sqlite3.connect(tmp_path / "journal.db") as database:
        database.execute("UPDATE frame SET body = x'ff00ff' WHERE first_seq = 2")
    database.close()
    with pytest.raises(JournalError, match="a frame cannot be read"):
        place.open()


async def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalError, match=r"journal\.db was damaged \(file is not a database\); restore it"):
        Journal(tmp_path / "journal.db", "ledger", "1", refuse)


async def test_a_journal_belongs_to_one_process(tmp_path):
    path = tmp_path / "journal.db"
    journal = Journal(path, "ledger", "1", refuse)
    journal.add([event("a")])
    await journal.commit()
    code = f"""
from pathlib import Path
from python_services.kit.journal import Journal, JournalError
try:
    Journal(Path({str(path)!r}), "ledger", "1", print)
except JournalError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: ASYNC221
    assert (
        "database is locked; if another system uses this data directory, stop it with `alphamesh down`" in done.stdout
    )
    journal.close()


@pytest.mark.parametrize(("replace", "says"), [(False, "was removed"), (True, "was replaced")])
async def test_a_file_that_was_taken_away_is_not_written_any_more(tmp_path, replace, says):
    path, failures = tmp_path / "journal.db", []
    journal = Journal(path, "ledger", "1", failures.append)
    path.rename(tmp_path / "moved.db")
    if replace:
        path.write_bytes(b"")
    journal.add([event("a")])
    with pytest.raises(FencedError, match=says):
        await journal.commit()
    assert len(failures) == 1
    journal.close()


async def test_a_journal_at_rest_is_verified_event_by_event(tmp_path):
    place = SqlitePlace("sqlite", tmp_path, "ledger")
    last = await place.fill(3)
    verdict = verify(read_frames(tmp_path / "journal.db"))
    assert (verdict.seq, verdict.frames, verdict.event_hash, verdict.problem) == (3, 3, last, "")
    await place.alter(2, lambda frame: setattr(frame.events[0], "producer", "x"))
    verdict = verify(read_frames(tmp_path / "journal.db"))
    assert (verdict.seq, verdict.problem) == (1, "altered event at seq 2")


async def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(JournalError, match=r"cannot open .*missing"):
        Journal(tmp_path / "missing" / "journal.db", "ledger", "1", refuse)


def test_an_unknown_driver_is_named(tmp_path):
    with pytest.raises(JournalError, match="unknown journal 'oracle'; use sqlite, postgresql:"):
        open_store("oracle://x", tmp_path / "journal.db", "ledger", "a")


# --- servers ----------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_named(tmp_path):
    with pytest.raises(JournalError, match=r"postgresql:///postgres does not answer .* then restart"):
        open_store(f"postgresql://x@/postgres?host={tmp_path}", Path(), "ledger", "a")


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_does_not_sync_is_refused(postgres: PostgresServer, setting):
    postgres.configure(setting, "off")
    try:
        with pytest.raises(JournalError, match=f"has {setting} off .*; set {setting} = on"):
            open_store(postgres.dsn, Path(), "ledger", "a")
    finally:
        postgres.configure(setting, "on")


async def test_what_postgres_acknowledged_survives_its_crash(postgres: PostgresServer, tmp_path):
    from .journals import PostgresPlace

    place, failures = PostgresPlace(postgres.dsn, tmp_path, "crashing"), []
    store = PostgresStore(postgres.dsn, "crashing", "a", lease_s=2.0)
    journal = Journal(store, "crashing", "1", failures.append)
    for number in range(20):
        journal.add([event(str(number))])
        await journal.commit()
    postgres.kill()
    journal.add([event("lost")])
    with pytest.raises(JournalError, match="postgresql:///postgres"):
        await journal.commit()
    assert len(failures) == 1
    journal.close()
    postgres.start()
    again = place.open()
    assert again.durable_seq == 20
    again.close()


async def test_a_postgres_that_restarts_is_waited_for(postgres: PostgresServer, tmp_path):
    from .journals import PostgresPlace

    place = PostgresPlace(postgres.dsn, tmp_path, "restarting")
    journal = place.open()
    for number in range(3):
        journal.add([event(str(number))])
        await journal.commit()
    postgres.kill()
    journal.add([event("waits")])
    commit = asyncio.create_task(journal.commit())
    await asyncio.sleep(0.5)
    assert not commit.done()
    await asyncio.to_thread(postgres.start)
    async with asyncio.timeout(8):
        await commit
    journal.add([event("after")])
    await journal.commit()
    journal.close()
    again = place.open()
    assert again.durable_seq == 5
    assert verify(again.read(1)).problem == ""
    again.close()


async def test_an_append_whose_answer_was_lost_is_written_once(postgres: PostgresServer):
    """What a writer repeats on a new connection may have been stored through the old one."""
    store = PostgresStore(postgres.dsn, "repeating", "a")
    answers = [event_pb2.Answer(request_id=str(number), response=b"yes") for number in range(2)]
    try:
        for batch in (
            Batch(after_seq=0, count=2, body=b"frame", answers=answers[:1]),
            Batch(after_seq=2, count=0, body=b"", answers=answers[1:]),
        ):
            known, counted = set(store._answered), store._counted
            store.append(batch).result()
            store._answered, store._counted = known, counted
            store.append(batch).result()
        assert store.answers == store._counted == 2
        assert [(first, count) for first, count, _ in store.frames(1)] == [(1, 2)]
        with pytest.raises(FencedError):
            store.append(Batch(after_seq=1, count=1, body=b"other", answers=())).result()
    finally:
        store.close()
    again = PostgresStore(postgres.dsn, "repeating", "a")
    assert again.answers == 2
    again.close()


async def test_a_cluster_goes_on_without_one_of_its_servers(cluster, tmp_path):
    place = JetStreamPlace(cluster.url, tmp_path, "losing")
    journal = place.open()
    journal.add([event("a")])
    await journal.commit()
    leader = await cluster.leader("JOURNAL_losing")
    cluster.kill(leader)
    try:
        journal.add([event("b")])
        async with asyncio.timeout(20):
            await journal.commit()
    finally:
        cluster.start(leader)
        cluster.wait()
        journal.close()
    again = place.open()
    assert again.durable_seq == 2
    assert verify(again.read(1)).problem == ""
    again.close()


async def test_a_message_that_the_writer_did_not_write_is_found(cluster, tmp_path):
    import nats

    place = JetStreamPlace(cluster.url, tmp_path, "forged")
    await place.fill(2)
    frame = event_pb2.EventFrame(stream="forged", first_seq=3, count=1, prev_hash=bytes(32))
    frame.events.add(stream="forged", seq=3)
    client = await nats.connect(cluster.url.split(","))
    record = event_pb2.JournalRecord(frame=frame.SerializeToString(), epoch=9)
    await client.jetstream().publish("alphamesh.journal.forged", record.SerializeToString())
    await client.close()
    with pytest.raises(JournalError, match="broken chain at seq 3"):
        place.open()


def test_the_test_servers_do_not_run_as_root(postgres: PostgresServer):
    assert Path(f"/proc/{postgres.pid}").stat().st_uid != 0
