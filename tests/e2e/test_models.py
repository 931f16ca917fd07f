"""Models in the running system: the learned agent asks the real Triton, and only it suffers when Triton is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from alphamesh.decision.v1 import decision_pb2
from alphamesh.decision.v1 import events_pb2 as decisions
from mesh.recording import journalled
from mesh.rundir import RunDir

from .conftest import Run

LEARNED = "learned.direction"


def made(folder: Path) -> list[decision_pb2.Decision]:
    """The decisions of a run, oldest first."""
    wanted = decisions.DecisionMade.DESCRIPTOR.full_name
    return [
        decisions.DecisionMade.FromString(event.payload).decision
        for event in journalled(folder / "data" / "coordinator" / "journal.db")
        if event.schema == wanted
    ]


def learned(decision: decision_pb2.Decision) -> decision_pb2.Signal | None:
    return next((found for found in decision.signals if found.agent_id == LEARNED), None)


def test_every_forecast_of_the_learned_agent_names_its_model(process_run: Run) -> None:
    found = made(process_run.data_dir)
    assert len(found) == process_run.report["cycles"]
    for decision in found:
        forecast = learned(decision)
        assert forecast is not None
        assert forecast.model_version == "daily_direction:1"
        assert not forecast.HasField("degraded")
    assert process_run.report["signals_by_agent"][LEARNED] > 900  # four instruments, a year


def test_a_killed_triton_degrades_only_who_needs_it_and_comes_back(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    command = [sys.executable, "-m", "mesh.cli", "session", "--up", "--data-dir", str(run.path), "--end", "2010-01-31"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as session:
        while run.state().get("state") != "RUNNING":
            assert session.poll() is None, session.stdout and session.stdout.read()
            time.sleep(0.05)
        time.sleep(1.0)  # some decisions with it
        os.kill(run.state()["processes"]["triton"]["pid"], signal.SIGKILL)
        said, _ = session.communicate(timeout=100)
    assert session.returncode == 0, said
    found = made(run.path)
    signals = {decision.cycle: learned(decision) for decision in found}
    degraded = {
        cycle: signal for cycle, signal in signals.items() if signal is not None and signal.HasField("degraded")
    }
    assert degraded, "it was struck in the middle of the session"
    assert max(degraded) < len(found), "it did not come back"
    for one in degraded.values():
        assert "daily_direction:1 did not answer" in one.degraded
        assert not one.instrument_index
    for decision in found:
        assert not any(other.HasField("degraded") for other in decision.signals if other.agent_id != LEARNED)
        assert {missing.service for missing in decision.missing} <= {"learned_agent"}
