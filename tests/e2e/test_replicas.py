"""A session whose agents are several processes, or become so on the way, decides what one process decides."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mesh import topology

from .conftest import ALPHAMESH, Run, alphamesh, run_session
from .test_recovery import RANGE


@pytest.fixture(scope="module")
def quiet_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same session, undisturbed, over the local transport."""
    return run_session(tmp_path_factory.mktemp("quiet"), "--local", *RANGE)


@pytest.mark.chaos  # long
def test_three_replicas_of_the_agents_decide_what_one_decides(tmp_path: Path, quiet_run: Run) -> None:
    three = tmp_path / "topology.yaml"
    text = topology.DEFAULT_PATH.read_text()
    assert "\n    replicas: 1" in text
    three.write_text(text.replace("\n    replicas: 1", "\n    replicas: 3"))
    run = run_session(tmp_path, "--up", *RANGE, "--topology", str(three))
    assert set(run.report["services"]) >= {"technical_agent", "technical_agent-2", "technical_agent-3"}
    assert run.report["final_event_hash"] == quiet_run.report["final_event_hash"]


@pytest.mark.chaos  # long; tests/integration/mesh/test_replicas.py and test_load.py are the short form
def test_replicas_that_come_and_go_during_a_session_change_no_decision(tmp_path: Path, local_run: Run) -> None:
    data_dir, report = tmp_path / "run", tmp_path / "report.json"
    assert alphamesh("up", "--detach", "--data-dir", data_dir).returncode == 0
    try:
        command = [ALPHAMESH, "session", "--data-dir", str(data_dir), "--report", str(report)]
        with (tmp_path / "session.log").open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        replicas, changes = "technical_agent", 0
        while process.poll() is None:
            scaled = alphamesh("scale", "technical_agent", "2", "--data-dir", data_dir)
            assert scaled.returncode == 0, scaled.stderr
            drained = alphamesh("drain", replicas, "--data-dir", data_dir)
            assert drained.returncode == 0, drained.stderr
            replicas = "technical_agent-2" if replicas == "technical_agent" else "technical_agent"
            changes += 1
        assert process.returncode == 0, (tmp_path / "session.log").read_text()
    finally:
        alphamesh("down", "--data-dir", data_dir)
    assert changes > 0
    content = json.loads(report.read_text())
    assert content["missing_agents"] == {}
    assert content["final_event_hash"] == local_run.report["final_event_hash"]
