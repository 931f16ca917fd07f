import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from alphamesh.audit.v1 import event_pb2
from alphamesh.risk.v1 import events_pb2, risk_pb2
from python_services.kit.journal import ZERO_HASH, Event, Journal, JournalError, RequestKey, current_request


def event(account: str, time: int = 1) -> Event:
    return Event(payload=events_pb2.LimitsSet(account_id=account), ts_event_ns=time, ts_init_ns=time)


def refuse(error: BaseException) -> None:
    raise AssertionError(f"the journal failed: {error}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def opened(path: Path, on_failure=refuse) -> Journal:
    return Journal(path, "ledger", "1", on_failure)


async def filled(path: Path, count: int) -> bytes:
    journal = opened(path)
    for number in range(count):
        journal.add([event(f"a{number}")])
        await journal.commit()
    last = journal.durable_hash
    journal.close()
    return last


async def test_a_reopened_journal_goes_on_where_it_was(path):
    last = await filled(path, 3)
    journal = opened(path)
    assert (journal.durable_seq, journal.durable_hash) == (3, last)
    journal.add([event("next")])
    await journal.commit()
    frames = list(journal.read(1))
    assert [envelope.seq for frame in frames for envelope in frame.events] == [1, 2, 3, 4]
    assert frames[3].prev_hash == last
    assert [frame.first_seq for frame in journal.read(3)] == [3, 4]
    journal.close()


async def test_the_same_events_give_the_same_hash(path, tmp_path):
    assert await filled(path, 3) == await filled(tmp_path / "other.db", 3) != ZERO_HASH


async def test_events_that_wait_together_share_one_frame(path):
    import asyncio

    journal = opened(path)
    journal.add([event("a")])
    first = asyncio.ensure_future(journal.commit())
    journal.add([event("b"), event("c")])
    await asyncio.gather(first, journal.commit())
    assert [frame.count for frame in journal.read(1)] == [3]
    journal.close()


async def test_listeners_see_frames_only_when_they_are_durable(path):
    journal = opened(path)
    seen: list[event_pb2.EventFrame] = []
    journal.listen(seen.append)
    journal.add([event("a")])
    assert not seen
    assert journal.last_seq == 1
    assert journal.durable_seq == 0
    await journal.barrier()
    assert [frame.first_seq for frame in seen] == [1]
    journal.close()


async def test_the_first_answer_survives_a_restart(path):
    journal = opened(path)
    key = RequestKey(request_id="r", method="/m", request_sha256=b"digest")
    token = current_request.set(key)
    journal.add([event("a")])
    await journal.commit(risk_pb2.SetLimitsResponse(etag="first"))
    current_request.reset(token)
    journal.close()
    journal = opened(path)
    answered = journal.answered("r")
    assert answered is not None
    assert answered[:2] == ("/m", b"digest")
    assert risk_pb2.SetLimitsResponse.FromString(answered[2]).etag == "first"
    assert journal.answered("other") is None
    journal.close()


def change_body(path: Path, change) -> None:
    with sqlite3.connect(path) as database:
        seq, body = database.execute("SELECT first_seq, body FROM frame WHERE first_seq = 2").fetchone()
        frame = event_pb2.EventFrame.FromString(body)
        change(frame)
        database.execute("UPDATE frame SET body = ? WHERE first_seq = ?", (frame.SerializeToString(), seq))
    database.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda frame: setattr(frame.events[0], "ts_event_ns", 99), "altered event at seq 2"),
        (lambda frame: setattr(frame.events[0], "payload", b""), "altered event at seq 2"),
        (lambda frame: setattr(frame, "prev_hash", bytes(32)), "broken chain at seq 2"),
        (lambda frame: setattr(frame, "sha256", bytes(32)), "altered frame at seq 2"),
        (lambda frame: frame.events.pop(), "broken chain at seq 2"),
    ],
)
async def test_a_changed_event_is_found_at_the_next_start(path, change, says):
    await filled(path, 3)
    change_body(path, change)
    with pytest.raises(JournalError, match=rf"journal\.db was damaged \({says}\); restore it"):
        opened(path)


async def test_a_missing_frame_is_found(path):
    await filled(path, 3)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM frame WHERE first_seq = 2")
    database.close()
    with pytest.raises(JournalError, match="gap: expected seq 2, got 3"):
        opened(path)


async def test_a_frame_of_noise_is_found(path):
    await filled(path, 3)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE frame SET body = x'ff00ff' WHERE first_seq = 2")
    database.close()
    with pytest.raises(JournalError, match="a frame cannot be read"):
        opened(path)


async def test_a_file_that_is_no_database_is_named(path):
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalError, match=r"cannot open .*journal\.db: file is not a database"):
        opened(path)


async def test_a_journal_belongs_to_one_process(path):
    journal = opened(path)
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


async def test_after_a_failed_write_nothing_is_answered_any_more(path):
    failures: list[BaseException] = []
    journal = opened(path, failures.append)
    journal.add([event("a")])
    await journal.commit()
    journal._database.execute("PRAGMA max_page_count = 1")  # the next page does not fit: a full disk
    journal.add([Event(payload=events_pb2.LimitsSet(account_id="b" * 100_000), ts_event_ns=1, ts_init_ns=1)])
    with pytest.raises(JournalError, match=r"cannot write .*: database or disk is full; free disk space"):
        await journal.commit()
    assert len(failures) == 1
    with pytest.raises(JournalError, match="the journal has failed"):
        journal.add([event("c")])
    with pytest.raises(JournalError, match="the journal has failed"):
        await journal.barrier()
    journal.close()
    again = opened(path)
    assert again.durable_seq == 1
    again.close()
