"""Two real processes and one stream: the second is refused, or the first is fenced and ends without an answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from python_services.kit.journal import verify

from .journals import Place

LEASE_S = 1.5
WRITER = """
import asyncio, json, os, sys
from pathlib import Path
from alphamesh.risk.v1 import events_pb2
from python_services.kit.journal import Event, Journal, JournalError, open_store
from python_services.kit.journal import remote

remote.LEASE_S = float(sys.argv[5])
address, folder, stream, holder = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
pace = float(sys.argv[6])

def say(**what):
    print(json.dumps(what), flush=True)

def crash(error):
    say(failed=str(error))
    os._exit(70)

async def main():
    journal = Journal(open_store(address, folder / "journal.db", stream, holder), stream, "1", crash)
    say(epoch=journal.epoch, seq=journal.durable_seq)
    while True:
        payload = events_pb2.LimitsSet(account_id=holder)
        journal.add([Event(payload=payload, ts_event_ns=1, ts_init_ns=1)])
        await journal.commit()
        say(answered=journal.durable_seq)
        await asyncio.sleep(pace)

try:
    asyncio.run(main())
except JournalError as error:
    say(refused=str(error))
    sys.exit(78)
"""


@dataclass
class Writer:
    """A process that appends for ever."""

    process: subprocess.Popen[str]
    said: list[dict[str, Any]] = field(default_factory=list)

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        said: dict[str, Any] = json.loads(line) if line else {}
        self.said.append(said)
        return said

    def hear_rest(self) -> None:
        while self.hear():
            pass

    @property
    def answered(self) -> int:
        return max((said["answered"] for said in self.said if "answered" in said), default=0)


@pytest.fixture
def start(place: Place) -> Iterator[Any]:
    writers: list[Writer] = []

    def begin(holder: str, pace: float = 0.02) -> Writer:
        arguments = [place.address, str(place.folder), place.stream, holder, str(LEASE_S), str(pace)]
        process = subprocess.Popen([sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, text=True)
        writers.append(Writer(process))
        return writers[-1]

    yield begin
    for writer in writers:
        if writer.process.poll() is None:
            writer.process.kill()
        writer.process.wait()
        assert writer.process.stdout is not None
        writer.process.stdout.close()


def local(place: Place) -> bool:
    return place.address == "sqlite"


def is_sound(place: Place, writers: list[Writer]) -> None:
    """Every answer given is in the stream, under the one who gave it."""
    time.sleep(0 if local(place) else LEASE_S * 1.5)
    journal = place.open(holder="reader")
    events = [envelope for frame in journal.read(1) for envelope in frame.events]
    assert verify(journal.read(1)).problem == ""
    for holder, writer in writers:
        for said in writer.said:
            if "answered" in said:
                assert holder.encode() in events[said["answered"] - 1].payload
    journal.close()


def test_a_second_live_writer_is_refused(place: Place, start):
    first = start("a")
    assert first.hear() == {"epoch": 1, "seq": 0}
    first.hear()
    second = start("b")
    refused = second.hear()["refused"]
    assert second.process.wait(10) == 78
    assert ("database is locked" if local(place) else "is being written by a; stop that system") in refused
    for _ in range(5):
        assert "answered" in first.hear()  # it goes on


def test_a_writer_that_stood_still_is_fenced_and_never_answers_again(place: Place, start):
    first = start("a")
    first.hear()
    first.hear()
    os.kill(first.process.pid, signal.SIGSTOP)
    deadline = time.monotonic() + LEASE_S * 6
    while True:
        second = start("b")
        heard = second.hear()
        if "epoch" in heard or local(place) or time.monotonic() > deadline:
            break
    if local(place):
        assert "database is locked" in heard["refused"]  # the kernel keeps the lock for the one who stands still
        return
    assert heard["epoch"] == 2
    for _ in range(3):
        second.hear()
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.process.wait(10) == 70
    first.hear_rest()
    assert any(word in first.said[-2]["failed"] for word in ("another writer has taken over", "ran out"))
    assert first.answered <= heard["seq"]
    second.process.kill()
    second.hear_rest()
    is_sound(place, [("a", first), ("b", second)])


def test_a_restarted_writer_does_not_wait_for_its_own_lease(place: Place, start):
    """The supervisor starts a killed service again within a fraction of a second."""
    first = start("a")
    first.hear()
    first.hear()
    first.process.kill()
    first.process.wait()
    began = time.monotonic()
    again = start("a")
    assert again.hear()["epoch"] == 2
    assert time.monotonic() - began < LEASE_S + 3  # of which most is Python's start
    again.hear()
    again.process.kill()
    first.hear_rest()
    again.hear_rest()
    is_sound(place, [("a", first), ("a", again)])


def test_a_restarted_writer_fences_the_one_that_hangs(place: Place, start):
    if local(place):
        pytest.skip("a file's lock ends with its process: the supervisor kills a service before it starts it again")
    first = start("a", pace=0.3)
    first.hear()
    first.hear()
    again = start("a")
    assert again.hear()["epoch"] == 2
    assert first.process.wait(10) == 70
    first.hear_rest()
    assert "another writer has taken over" in first.said[-2]["failed"]
    again.hear()
    again.process.kill()
    again.hear_rest()
    is_sound(place, [("a", first), ("a", again)])


def test_an_idle_writer_that_was_fenced_ends_by_itself(place: Place, start):
    """Nothing is appended: the renewal of the lease tells it."""
    if local(place):
        pytest.skip("a file's lock ends with its process")
    first = start("a", pace=60)
    first.hear()
    first.hear()
    again = start("a", pace=60)
    assert again.hear()["epoch"] == 2
    assert first.process.wait(LEASE_S * 3) == 70
