"""A view that begins with a saved state is the view that all events give; a state that was altered is refused."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from alphamesh.audit.v1 import event_pb2, state_pb2
from python_services.kit.eventlog import LocalEventLog
from python_services.kit.ledger_view import LedgerView
from python_services.kit.schemas import UnknownEventTypeError
from python_services.kit.views import Follower, Saved
from tests.unit.python_services.kit.ledger_events import LedgerWriter, instruments
from tests.unit.python_services.kit.old_events import OldAccountOpened

EVERY = 5


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerWriter]:
    writer = LedgerWriter(tmp_path)
    yield writer
    writer.journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "states" / "ledger.state"


async def trade(ledger: LedgerWriter, count: int) -> None:
    """Events that leave every kind of figure in the view, each in a frame of its own."""
    for number in range(count):
        ledger.trade(("AAPL", "IBM")[number % 2], 10 + number if number % 3 else -7, 100 + number, day=number)
        ledger.submit("IBM", 3, day=number)
        await ledger.journal.commit()
        ledger.value({"AAPL": 101 + number, "IBM": 99}, day=number)
        await ledger.journal.commit()


async def follow(
    ledger: LedgerWriter, path: Path | None, name: str = "ledger.1", late: bool = False
) -> tuple[LedgerView, Follower]:
    """The view after all events, with its follower."""
    await ledger.journal.commit()
    log, view = LocalEventLog(), LedgerView(instruments("AAPL", "IBM"))
    if not late:
        log.attach(ledger.journal)

    async def refetch(from_seq: int) -> AsyncIterator[event_pb2.EventFrame]:
        for frame in ledger.journal.read(from_seq):
            yield frame

    saved = Saved(path, name, view, every=EVERY) if path is not None else None
    follower = Follower(log, "execution", view.apply, refetch, saved)
    running = asyncio.create_task(follower.run())
    waiting = asyncio.create_task(follower.wait_for(ledger.journal.last_seq))
    try:
        async with asyncio.timeout(10):
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        await asyncio.sleep(0.05)  # the last state is being written
    finally:
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
    return view, follower


def saved(path: Path) -> state_pb2.StateSnapshot:
    return state_pb2.StateSnapshot.FromString(path.read_bytes())


def flip_a_bit(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 0x01
    path.write_bytes(content)


def digest(view: LedgerView) -> bytes:
    return hashlib.sha256(view.dump()).digest()


async def test_a_saved_state_and_the_rest_give_what_all_events_give(ledger: LedgerWriter, path: Path) -> None:
    ledger.open(1_000_000)
    await trade(ledger, 6)
    first, _ = await follow(ledger, path)
    assert saved(path).seq > 0
    await trade(ledger, 4)
    again, follower = await follow(ledger, path)
    whole, from_the_first_event = await follow(ledger, None)
    assert follower.started_at is not None
    assert from_the_first_event.started_at is None
    assert digest(again) == digest(whole) != digest(first)
    assert again.account("demo") == whole.account("demo")


@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.9, 0.999])
async def test_an_altered_state_is_refused_and_everything_is_read_again(
    ledger: LedgerWriter, path: Path, where: float
) -> None:
    ledger.open(1_000_000)
    await trade(ledger, 6)
    await follow(ledger, path)
    flip_a_bit(path, where)
    view, follower = await follow(ledger, path)
    whole, _ = await follow(ledger, None)
    assert follower.started_at is None
    assert digest(view) == digest(whole)


async def test_a_state_of_another_history_is_refused(ledger: LedgerWriter, path: Path, tmp_path: Path) -> None:
    ledger.open(1_000_000)
    await trade(ledger, 6)
    await follow(ledger, path)
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other = LedgerWriter(other_folder)
    other.open(2_000_000)
    await trade(other, 6)
    view, follower = await follow(other, path)
    whole, _ = await follow(other, None)
    assert follower.started_at is None
    assert digest(view) == digest(whole)
    other.journal.close()


async def test_a_state_of_another_version_of_the_view_is_refused(ledger: LedgerWriter, path: Path) -> None:
    ledger.open(1_000_000)
    await trade(ledger, 6)
    await follow(ledger, path)
    _, follower = await follow(ledger, path, name="ledger.2")
    assert follower.started_at is None


async def test_the_state_names_the_event_that_it_ends_with(ledger: LedgerWriter, path: Path) -> None:
    ledger.open(1_000_000)
    await trade(ledger, 6)
    await follow(ledger, path)
    snapshot = saved(path)
    events = [envelope for frame in ledger.journal.read(1) for envelope in frame.events]
    assert snapshot.event_hash == events[snapshot.seq - 1].hash


async def test_a_reader_that_waits_asks_the_writer_when_the_log_is_late(ledger: LedgerWriter) -> None:
    ledger.open(1_000_000)
    await trade(ledger, 3)
    view, follower = await follow(ledger, None, late=True)
    whole, _ = await follow(ledger, None)
    assert follower.refetches == 1
    assert digest(view) == digest(whole)


async def test_a_view_stops_at_an_event_type_that_it_does_not_know(ledger: LedgerWriter) -> None:
    ledger.open(1_000_000)
    ledger._add(OldAccountOpened(account="x", cash_cents=1, currency="USD"), 0)
    with pytest.raises(UnknownEventTypeError, match=r"alphamesh\.execution\.v0\.AccountOpened"):
        await follow(ledger, None)
