"""The event log as a cluster of three: the same decisions, also when its leader is killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from python_services.kit.streams import connect
from python_services.kit.subjects import jetstream_name

from .conftest import Run, alphamesh, run_session
from .test_recovery import RANGE, pids_of, start, wait_for_cycles


@pytest.fixture(scope="module")
def quiet_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same session, undisturbed, over the local transport."""
    return run_session(tmp_path_factory.mktemp("quiet"), "--local", *RANGE)


def url(data_dir: Path) -> str:
    return str(json.loads((data_dir / "config" / "execution.json").read_text())["nats_url"])


async def leader(data_dir: Path) -> str:
    """The process that leads the ledger's stream."""
    client = await connect(url(data_dir), "test")
    info = await client.jetstream().stream_info(jetstream_name("execution"))
    await client.close()
    assert info.config.num_replicas == 3
    return info.cluster.leader.removeprefix("alphamesh-")


@pytest.mark.chaos  # long; tests/chaos kills a leader, too, and test_journals.py trades on three servers
def test_a_killed_leader_loses_nothing_and_the_session_goes_on(tmp_path: Path, quiet_run: Run) -> None:
    data_dir, report = tmp_path / "run", tmp_path / "report.json"
    process = start(data_dir, "--nats-cluster", "3", "--report", str(report))
    wait_for_cycles(data_dir, process)
    victim = asyncio.run(leader(data_dir))
    os.kill(pids_of(data_dir)[victim], signal.SIGKILL)
    assert process.wait(timeout=100) == 0, data_dir.with_suffix(".log").read_text()
    content = json.loads(report.read_text())
    assert content["final_event_hash"] == quiet_run.report["final_event_hash"]
    assert content["services"][victim]["restarts"] >= 1
    # Whatever the log has not got yet it gets after the next start. Then copies and journals agree, up and down.
    started = alphamesh("up", "--detach", "--nats-cluster", "3", "--data-dir", data_dir)
    assert started.returncode == 0, started.stderr
    try:
        wait_for_copies(data_dir)
    finally:
        alphamesh("down", "--data-dir", data_dir)
    wait_for_copies(data_dir)  # servers that have just been started on a copy may not have elected every leader yet
    streams = checked(data_dir)
    assert streams["coordinator"]["last_hash"] == content["final_event_hash"]


def checked(data_dir: Path) -> dict[str, dict[str, Any]]:
    """What `log verify` says of each stream; none of them is broken."""
    done = alphamesh("log", "verify", "--json", "--data-dir", data_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    return {row["stream"]: row for row in json.loads(done.stdout)["streams"]}


def wait_for_copies(data_dir: Path, limit_s: float = 30) -> None:
    """Returns when every copy is complete."""
    give_up = time.monotonic() + limit_s
    while {row["copy"] for row in checked(data_dir).values()} != {"intact"}:
        assert time.monotonic() < give_up, checked(data_dir)
        time.sleep(0.5)
