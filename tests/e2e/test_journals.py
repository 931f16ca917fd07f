"""Journals on servers that the system starts itself: the same decisions, also when a server is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.servers import missing

from .conftest import Run, alphamesh, run_session
from .test_recovery import RANGE, alive, pids_of, start, wait_for_cycles

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def quiet_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same session, undisturbed, over the local transport, its journals in files."""
    return run_session(tmp_path_factory.mktemp("quiet"), "--local", *RANGE)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that the user of PostgreSQL's server can enter."""
    with tempfile.TemporaryDirectory(prefix="am-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def killed_run(folder: Path) -> Run:
    """A session on three NATS servers and PostgreSQL, which was killed in the middle; the system is down."""
    data_dir, report = folder / "run", folder / "report.json"
    process = start(data_dir, "--nats-cluster", "3", "--journal", "postgres", "--report", str(report))
    wait_for_cycles(data_dir, process)
    os.kill(pids_of(data_dir)["postgres"], signal.SIGKILL)
    assert process.wait(timeout=200) == 0, data_dir.with_suffix(".log").read_text()
    return Run(
        data_dir=data_dir, report=json.loads(report.read_text()), output=data_dir.with_suffix(".log").read_text()
    )


def test_a_killed_postgres_changes_nothing(killed_run: Run, quiet_run: Run) -> None:
    assert killed_run.report["final_event_hash"] == quiet_run.report["final_event_hash"]
    assert killed_run.report["pnl"] == quiet_run.report["pnl"]
    restarts = {name: facts["restarts"] for name, facts in killed_run.report["services"].items()}
    assert restarts.pop("postgres") == 1
    assert not any(restarts.values()), "services wait for a server that restarts"
    assert not list((killed_run.data_dir / "data").glob("*/journal.db"))
    status = json.loads(alphamesh("status", "--json", "--data-dir", killed_run.data_dir).stdout)
    assert {facts["state"] for facts in status["processes"].values()} == {"STOPPED"}
    assert not (killed_run.data_dir / "postgres" / "data" / "postmaster.pid").exists(), "PostgreSQL was not stopped"


@pytest.mark.chaos  # long
def test_a_stopped_run_is_read_from_a_copy_of_its_server(killed_run: Run, quiet_run: Run, tmp_path: Path) -> None:
    """Each command that reads a run reads this one, and what it says is what it says of journals in files."""
    before = files_of(killed_run.data_dir / "postgres")

    def both(*arguments: str) -> list[str]:
        done = [alphamesh(*arguments, "--data-dir", run.data_dir) for run in (killed_run, quiet_run)]
        assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
        return [each.stdout for each in done]

    for arguments in (
        ("decisions", "--json"),
        ("explain", "--last", "--json"),
        ("log", "export", "-", "--stream", "execution"),
    ):
        ours, theirs = both(*arguments)
        assert ours == theirs
        assert len(ours) > 100
    views = alphamesh("verify", "--json", "--data-dir", killed_run.data_dir)
    assert json.loads(views.stdout)["same"], views.stderr
    verified = json.loads(alphamesh("log", "verify", "--json", "--data-dir", killed_run.data_dir).stdout)
    assert {row["journal"] for row in verified["streams"]} == {"intact"}
    assert all(row["events"] for row in verified["streams"])
    archive = tmp_path / "session.tar.gz"
    assert alphamesh("archive", archive, "--data-dir", killed_run.data_dir).returncode == 0
    for recording in (killed_run.data_dir, archive):
        replayed = alphamesh("replay", recording, "--json")
        assert replayed.returncode == 0, replayed.stderr
        assert json.loads(replayed.stdout)["equal"]
    assert files_of(killed_run.data_dir / "postgres") == before, "looking changed something"


def files_of(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_killed_system_leaves_no_postgres_and_starts_again(folder: Path) -> None:
    data_dir = folder / "killed"
    arguments = ("up", "--detach", "--journal", "postgres", "--data-dir", data_dir)
    assert alphamesh(*arguments).returncode == 0
    pids = pids_of(data_dir)
    os.kill(json.loads((data_dir / "supervisor.json").read_text())["pid"], signal.SIGKILL)
    give_up = time.monotonic() + 10
    while any(alive(pid) for pid in pids.values()):
        assert time.monotonic() < give_up, "a process outlived its supervisor"
        time.sleep(0.05)
    again = alphamesh(*arguments)
    assert again.returncode == 0, again.stderr
    assert pids_of(data_dir)["postgres"] != pids["postgres"]
    assert alphamesh("down", "--data-dir", data_dir).returncode == 0


@pytest.mark.parametrize("journal", ["postgres", pytest.param("nats", marks=pytest.mark.chaos)])
def test_a_run_stays_with_its_journals(folder: Path, journal: str) -> None:
    data_dir = folder / f"up-{journal}"
    arguments = ("up", "--detach", "--data-dir", data_dir)
    started = alphamesh(*arguments, "--journal", journal)
    assert started.returncode == 0, started.stderr
    try:
        assert alphamesh("status", "--data-dir", data_dir).returncode == 0
    finally:
        assert alphamesh("down", "--data-dir", data_dir).returncode == 0
    read = alphamesh("log", "grep", "DatasetLoaded", "--json", "--data-dir", data_dir)
    assert json.loads(read.stdout)["stream"] == "market_data", read.stderr
    refused = alphamesh(*arguments)
    assert refused.returncode == 1
    assert f"are not sqlite but {journal}, where they must stay; say so with --journal" in refused.stderr
    assert alphamesh(*arguments, "--journal", journal).returncode == 0
    assert alphamesh("down", "--data-dir", data_dir).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--up", "--journal", "oracle://x"),
            "unknown journal 'oracle://x'; use sqlite, postgres, nats, postgresql://",
        ),
        (("--up", "--journal", "postgresql://$AM_NO_SUCH"), "$AM_NO_SUCH is not set; set the environment variable"),
        (("--local", "--journal", "postgres"), "give --up instead of --local"),
        (("--journal", "nats"), "--journal takes effect when services start"),
    ],
)
def test_a_journal_that_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    refused = alphamesh("session", *arguments, "--data-dir", tmp_path / "run")
    assert refused.returncode == 1
    assert says in refused.stderr
    assert not (tmp_path / "run").exists()
