"""Kill -9 in the middle of a real session, and a disk that is full: nothing lost, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.chaos.session import RANGE as RANGE_OF_CHAOS
from tests.chaos.session import interrupted

from .conftest import ALPHAMESH, Run, alphamesh, run_session

# Long enough to be killed in the middle, short enough for many rounds.
RANGE = ("--start", "2009-07-01", "--end", "2009-11-30")


@pytest.fixture(scope="module")
def quiet_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same session, undisturbed, over the local transport."""
    return run_session(tmp_path_factory.mktemp("quiet"), "--local", *RANGE)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The session of tests/chaos, undisturbed."""
    return run_session(tmp_path_factory.mktemp("short"), "--local", *RANGE_OF_CHAOS)


def start(data_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    """A session in a process group of its own, its output in `data_dir.log`."""
    command = [ALPHAMESH, "session", "--up", "--data-dir", str(data_dir), *RANGE, *arguments]
    with data_dir.with_suffix(".log").open("w") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, text=True, start_new_session=True)


def wait_for_cycles(data_dir: Path, process: subprocess.Popen[str], limit_s: float = 60) -> None:
    """Returns once some cycles are done and before all are."""
    give_up = time.monotonic() + limit_s
    log = data_dir.with_suffix(".log")
    while "cycle" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.02)


def pids_of(data_dir: Path) -> dict[str, int]:
    """Running processes of a system, by name."""
    done = alphamesh("status", "--data-dir", data_dir, "--json")
    state = json.loads(done.stdout)
    processes = state.get("processes", state)
    return {name: facts["pid"] for name, facts in processes.items() if isinstance(facts, dict) and facts.get("pid")}


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# The others take as long each: `make chaos` and `alphamesh drill kill` have them.
OTHERS = ("market_data", "technical_agent", "portfolio", "risk", "audit", "nats")


@pytest.mark.parametrize(
    "victim", ["venue", "execution", "coordinator", *(pytest.param(name, marks=pytest.mark.chaos) for name in OTHERS)]
)
def test_a_killed_service_changes_nothing(tmp_path: Path, quiet_run: Run, victim: str) -> None:
    """The supervisor starts it again, the cycle in progress is repeated, and the hashes are those of a quiet run."""
    data_dir, report = tmp_path / "run", tmp_path / "report.json"
    process = start(data_dir, "--report", str(report))
    wait_for_cycles(data_dir, process)
    os.kill(pids_of(data_dir)[victim], signal.SIGKILL)
    assert process.wait(timeout=100) == 0, data_dir.with_suffix(".log").read_text()
    content = json.loads(report.read_text())
    assert content["final_event_hash"] == quiet_run.report["final_event_hash"]
    assert content["services"][victim]["restarts"] >= 1


def test_a_hung_agent_stops_no_cycle(tmp_path: Path, quiet_run: Run) -> None:
    """Decisions go on without it, and say so; the agents that are left make the quorum."""
    data_dir, report = tmp_path / "run", tmp_path / "report.json"
    process = start(data_dir, "--report", str(report))
    wait_for_cycles(data_dir, process)
    agent = pids_of(data_dir)["technical_agent"]
    os.kill(agent, signal.SIGSTOP)
    time.sleep(4)
    os.kill(agent, signal.SIGCONT)
    assert process.wait(timeout=100) == 0, data_dir.with_suffix(".log").read_text()
    content = json.loads(report.read_text())
    assert content["cycles"] == quiet_run.report["cycles"]
    missed = content["missing_agents"]["technical_agent"]
    assert 1 <= missed < content["cycles"]
    assert "HOLD_NO_QUORUM" not in content["decisions_by_outcome"]


def test_a_killed_system_goes_on_where_it_was(tmp_path: Path, quiet_run: Run) -> None:
    data_dir, report = tmp_path / "run", tmp_path / "report.json"
    process = start(data_dir)
    wait_for_cycles(data_dir, process)
    pids = pids_of(data_dir)
    assert len(pids) >= 8
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    give_up = time.monotonic() + 10
    while any(alive(pid) for pid in pids.values()):
        assert time.monotonic() < give_up, "a process outlived its supervisor"
        time.sleep(0.05)
    done = alphamesh("session", "--up", "--data-dir", data_dir, *RANGE, "--report", report)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text())["final_event_hash"] == quiet_run.report["final_event_hash"]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.chaos)])
def test_a_system_killed_at_a_random_cycle_ends_with_the_same_hash(tmp_path: Path, short_run: Run, seed: int) -> None:
    """Two rounds of what `make chaos` does many times."""
    found = interrupted(tmp_path, seed=seed)
    assert 1 <= found.killed_at[0] < found.report["cycles"]
    assert found.final_event_hash == short_run.report["final_event_hash"]
    assert found.report["trades"] == short_run.report["trades"]


def test_a_full_disk_is_one_message_and_the_session_goes_on_when_there_is_room(tmp_path: Path, quiet_run: Run) -> None:
    """A limit on the size of files stands in for the full disk: the write fails the same way."""
    data_dir, report = tmp_path / "run", tmp_path / "report.json"
    assert alphamesh("up", "--detach", "--data-dir", data_dir).returncode == 0  # models are larger than the limit
    assert alphamesh("down", "--data-dir", data_dir).returncode == 0
    command = f'ulimit -f 700; exec "{ALPHAMESH}" session --local --data-dir "{data_dir}" {" ".join(RANGE)}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode not in (0, 130)
    assert "journal.db" in done.stderr
    assert "disk" in done.stderr
    assert "Traceback" not in done.stderr
    done = alphamesh("session", "--local", "--data-dir", data_dir, *RANGE, "--report", report)
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["final_event_hash"] == quiet_run.report["final_event_hash"]


def test_two_systems_cannot_share_a_data_directory(tmp_path: Path) -> None:
    data_dir = tmp_path / "run"
    process = start(data_dir)
    try:
        wait_for_cycles(data_dir, process)
        second = alphamesh("session", "--local", "--data-dir", data_dir)
        assert second.returncode == 1
        assert str(process.pid) in second.stderr
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=30)
    assert process.returncode == 130
