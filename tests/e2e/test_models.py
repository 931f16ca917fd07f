"""Models in the running system: the learned agent asks the real Triton, and only it suffers when Triton is killed."""

from __future__ import annotations

import json
from pathlib import Path

from alphamesh.decision.v1 import decision_pb2
from alphamesh.decision.v1 import events_pb2 as decisions
from mesh.recording import journalled

from .conftest import Run, alphamesh

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
        signal = learned(decision)
        assert signal is not None
        assert signal.model_version == "daily_direction:1"
        assert not signal.HasField("degraded")
    assert process_run.report["signals_by_agent"][LEARNED] > 900  # four instruments, a year


def test_a_killed_triton_degrades_only_who_needs_it_and_comes_back(tmp_path: Path) -> None:
    done = alphamesh("drill", "kill-models", "--seed", "5", "--keep", tmp_path, "--json")
    assert done.stdout, done.stderr
    [one] = json.loads(done.stdout)["rounds"]
    assert (done.returncode, one["broken"], one["restarts"]) == (0, [], 1)
    [run] = [path for path in tmp_path.iterdir() if path.is_dir()]
    found = made(run)
    signals = {decision.cycle: learned(decision) for decision in found}
    degraded = {
        cycle: signal for cycle, signal in signals.items() if signal is not None and signal.HasField("degraded")
    }
    assert degraded, "it was struck in the middle of the session"
    assert min(degraded) >= one["struck_at"]
    assert max(degraded) < len(found), "it did not come back"
    for signal in degraded.values():
        assert "daily_direction:1 did not answer" in signal.degraded
        assert not signal.instrument_index
    for decision in found:
        assert not any(other.HasField("degraded") for other in decision.signals if other.agent_id != LEARNED)
        assert {missing.service for missing in decision.missing} <= {"learned_agent"}
