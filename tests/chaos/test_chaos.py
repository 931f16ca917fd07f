"""The short form of `make chaos`: every kind of fault once, and everything judged as in the long form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import disks, scenarios
from .cluster import KillLeader
from .faults import Fault, Freeze, Kill
from .proposers import PROPOSERS, Proposers
from .rounds import BINDING, Rounds
from .system import Mesh

SEED = 7
NO_DISK = disks.cannot_mount()
needs_disk = pytest.mark.skipif(bool(NO_DISK), reason=NO_DISK)


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    made = Mesh()
    yield made
    made.close()


async def judged(mesh: Mesh, *faults: Fault) -> Rounds:
    """A round for each fault; none of them broke a promise."""
    mesh.up()
    work = Rounds(mesh, seed=SEED, seconds=0.8)
    await work.open()
    for number, fault in enumerate(faults):
        result = await work.round(number, fault)
        assert result.problems == []
        assert result.acknowledged == result.repeated > 0
        assert result.steps > 0
    await work.close()
    return work


async def test_kills_and_freezes_lose_nothing_and_break_no_limit(mesh: Mesh) -> None:
    work = await judged(
        mesh, Kill(("execution",)), Kill(("nats",)), Kill(("execution", "nats")), Freeze("execution"), Freeze("nats")
    )
    # The limits did bind, or nothing was shown.
    assert work.books.denied > 0
    assert work.books.cut > 0
    assert all(0.9 < work.books.utilisation[what] <= 1 for what in BINDING), work.books.utilisation


async def test_many_proposers_fill_every_limit_to_the_lot_and_break_none(mesh: Mesh) -> None:
    mesh.up()
    work = Proposers(mesh, seed=SEED)
    await work.open()
    for number in range(3):
        found = await work.round(number, 20_000)  # in all about twice each of the proposers' moods
        assert found.problems == []
        assert found.unanswered >= PROPOSERS  # all of them waited when it was killed
        assert found.repeated > 1_000
    assert await work.judge_the_whole() > 3_000  # raises for a limit that was not reached to the lot
    assert work.books.above == 0
    assert work.books.rows >= 60_000
    assert work.books.cut > 0
    await work.close()


async def test_a_killed_leader_of_three_event_logs_stops_no_ledger(mesh: Mesh) -> None:
    mesh.servers = 3
    fault = KillLeader()
    await judged(mesh, fault)
    assert len(fault.unavailable_ms) == 1


async def test_damage_is_found_and_a_second_writer_is_refused(mesh: Mesh) -> None:
    await scenarios.make_run(mesh, SEED)
    assert (await scenarios.second_writer(mesh))["refused"] == 3
    found = scenarios.damaged_journal(mesh, 60, SEED)
    # Most of the 30 files without a write-ahead log; of the 30 as killed few, when the log still repeats the file.
    assert found["refused"] > 20
    assert found["refused"] + found["harmless"] == 60
    assert (await scenarios.damaged_copies(mesh, 1, SEED))["rebuilt"] == 1


@needs_disk
async def test_a_power_cut_takes_nothing_that_was_acknowledged() -> None:
    found = await scenarios.power_cuts(3, SEED)
    assert found["journal"]["acknowledged"] > 100
    assert found["nats"]["acknowledged"] > 20


@needs_disk
async def test_a_full_disk_ends_the_ledger_before_it_answers(tmp_path: Path) -> None:
    found = await scenarios.full_disk(tmp_path / "disk", SEED)
    assert found["kept"] == found["acknowledged"] > 0


async def test_clocks_that_jump_change_no_decision(tmp_path: Path) -> None:
    clocks = (await scenarios.jumping_clocks(tmp_path))["clocks"]
    assert len({value for value in clocks.values() if not value.startswith("skipped")}) == 1
