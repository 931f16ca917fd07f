"""A journal whose files were damaged says so and is not served; a full disk ends it before anything is answered."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alphamesh.audit.v1 import event_pb2
from alphamesh.risk.v1 import risk_pb2
from python_services.kit.journal import Journal, JournalError, RequestKey, current_request

from .journals import event, refuse

SAMPLES = 400
WRITER = """
import asyncio, json, os, resource, sys
from pathlib import Path
from alphamesh.risk.v1 import events_pb2
from python_services.kit.journal import Event, Journal, JournalError

def crash(error):
    print(json.dumps({"failed": str(error)}), flush=True)
    os._exit(70)

async def main(path, limit):
    journal = Journal(Path(path), "ledger", "1", crash)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for number in range(10_000):
        payload = events_pb2.LimitsSet(account_id="x" * 200)
        journal.add([Event(payload=payload, ts_event_ns=1, ts_init_ns=1)])
        await journal.commit()
        print(json.dumps({"answered": journal.durable_seq}), flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def written(folder: Path, *, at_rest: bool) -> list[event_pb2.EventFrame]:
    """A journal of 30 frames and 10 answers in `folder`: closed, or as kill -9 leaves it, all in the log."""
    live = folder / "live"
    live.mkdir()
    journal = Journal(live / "journal.db", "ledger", "1", refuse)
    for number in range(30):
        journal.add([event(f"a{number}" * 20) for _ in range(3)])
        if number % 3 == 0:
            key = RequestKey(request_id=f"r{number}", method="/m", request_sha256=b"d")
            token = current_request.set(key)
            await journal.commit(risk_pb2.SetLimitsResponse(etag=str(number)))
            current_request.reset(token)
        await journal.commit()
    frames = list(journal.read(1))
    if at_rest:
        journal.close()
    shutil.copytree(live, folder / "kept")
    if not at_rest:
        journal.close()
    return frames


def opened(folder: Path) -> tuple[list[event_pb2.EventFrame], list[tuple[str, bytes, bytes] | None]]:
    journal = Journal(folder / "journal.db", "ledger", "1", refuse)
    try:
        return list(journal.read(1)), [journal.answered(f"r{number}") for number in range(0, 30, 3)]
    finally:
        journal.close()


def damaged_copy(folder: Path, name: str, change) -> Path:
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "kept", copy)
    content = bytearray((copy / name).read_bytes())
    (copy / name).write_bytes(change(content))
    return copy


FILES = [(True, "journal.db"), (False, "journal.db-wal"), (False, "journal.watermark"), (True, "journal.watermark")]


@pytest.mark.parametrize(("at_rest", "name"), FILES)
async def test_a_flipped_bit_is_found_or_harms_nothing(tmp_path, at_rest, name):
    """Not every byte of a SQLite file means something; but none changes what is read without a word."""
    frames = await written(tmp_path, at_rest=at_rest)
    answers = opened(damaged_copy(tmp_path, name, bytes))[1]
    size = (tmp_path / "kept" / name).stat().st_size
    draw = random.Random(7)
    places = range(size) if size <= SAMPLES else sorted(draw.sample(range(size), SAMPLES))
    found = 0
    for place in places:

        def flip(content: bytearray, place: int = place) -> bytes:
            content[place] ^= 1 << draw.randrange(8)
            return bytes(content)

        copy = damaged_copy(tmp_path, name, flip)
        try:
            assert opened(copy) == (frames, answers), f"byte {place} of {name}"
        except JournalError as error:
            said = str(error)
            found += 1 if "journal." in said and any(word in said for word in ("restore", "see that")) else -SAMPLES
    assert found > len(places) * (0.3 if name == "journal.db" else 0.8)


@pytest.mark.parametrize(("at_rest", "name"), FILES)
async def test_a_truncated_file_is_found(tmp_path, at_rest, name):
    frames = await written(tmp_path, at_rest=at_rest)
    size = (tmp_path / "kept" / name).stat().st_size
    for keep in (0, 1, size // 3, size // 2, size - 4096, size - 100, size - 1):
        copy = damaged_copy(tmp_path, name, lambda content, keep=keep: bytes(content[: max(keep, 0)]))
        if name == "journal.watermark" and keep <= 0:
            assert opened(copy)[0] == frames  # as if it had never been written: no bound, the journal is whole
            continue
        with pytest.raises(JournalError):
            opened(copy)


async def test_a_write_ahead_log_that_is_gone_is_found(tmp_path):
    await written(tmp_path, at_rest=False)
    (tmp_path / "kept" / "journal.db-wal").unlink()
    with pytest.raises(JournalError, match=r"it ends at seq 0, and 90 was durable\); restore it"):
        opened(tmp_path / "kept")


async def test_an_older_copy_is_found(tmp_path):
    path = tmp_path / "journal.db"
    journal = Journal(path, "ledger", "1", refuse)
    journal.add([event("a")])
    journal.close()
    shutil.copy(path, tmp_path / "old.db")
    journal = Journal(path, "ledger", "1", refuse)
    journal.add([event("b")])
    journal.close()
    shutil.copy(tmp_path / "old.db", path)
    with pytest.raises(JournalError, match="it ends at seq 1, and 2 was durable"):
        Journal(path, "ledger", "1", refuse)


async def test_another_journal_in_its_place_is_found(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        journal = Journal(tmp_path / name / "journal.db", "ledger", "1", refuse)
        journal.add([event(name)])
        journal.close()
    shutil.copy(tmp_path / "b" / "journal.db", tmp_path / "a" / "journal.db")
    with pytest.raises(JournalError, match="seq 1 is not the one that was written"):
        Journal(tmp_path / "a" / "journal.db", "ledger", "1", refuse)


async def test_a_journal_of_another_service_is_found(tmp_path):
    journal = Journal(tmp_path / "journal.db", "ledger", "1", refuse)
    journal.add([event("a")])
    journal.close()
    with pytest.raises(JournalError, match="altered frame at seq 1"):
        Journal(tmp_path / "journal.db", "other", "1", refuse)


def run_writer(path: Path, limit: int = 0) -> tuple[int, int, str]:
    """(exit status, last sequence answered, what it said when it failed)"""
    command = [sys.executable, "-c", WRITER, str(path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    answered = [line["answered"] for line in said if "answered" in line]
    return done.returncode, max(answered, default=0), said[-1].get("failed", "") if said else done.stderr


def test_a_file_that_may_not_grow_ends_the_process_before_it_answers(tmp_path):
    path = tmp_path / "journal.db"
    status, answered, said = run_writer(path, limit=512 * 1024)
    assert status == 70
    assert 0 < answered < 10_000
    assert str(path) in said
    assert "free disk space or repair it, then restart" in said
    recovered = Journal(path, "ledger", "1", refuse)
    assert recovered.durable_seq == answered
    recovered.close()


def test_a_full_disk_ends_the_process_before_it_answers(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    try:
        status, answered, said = run_writer(disk / "journal.db")
        assert status == 70
        assert 0 < answered < 10_000
        assert "free disk space or repair it, then restart" in said
        with pytest.raises(JournalError, match="see that the folder is writable and the disk has room"):
            Journal(disk / "journal.db", "ledger", "1", refuse)
        shutil.copytree(disk, tmp_path / "larger")
        recovered = Journal(tmp_path / "larger" / "journal.db", "ledger", "1", refuse)
        assert recovered.durable_seq == answered
        recovered.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
