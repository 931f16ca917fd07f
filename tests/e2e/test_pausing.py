"""A person silences an agent while a session runs: from the next decision on it is recorded and weighs nothing."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from alphamesh.decision.v1 import events_pb2, roster_pb2
from mesh.recording import journalled

from .conftest import ALPHAMESH, alphamesh

AGENT = "technical.trend"
PATIENCE_S = 200.0

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def decided(tmp_path: Path) -> list[events_pb2.DecisionMade]:
    """The decisions of a year; the agent was paused in the middle of it, and resumed."""
    data_dir = tmp_path / "run"
    with subprocess.Popen([ALPHAMESH, "session", "--up", "--data-dir", str(data_dir)], stdout=subprocess.DEVNULL) as up:
        try:
            paused = said(data_dir, "pause", "--reason", "its data vendor is being replaced")
            assert paused["state"] == "PAUSED"
            again = alphamesh("agents", "pause", AGENT, "--reason", "twice", "--data-dir", data_dir)
            assert again.returncode == 1
            assert "is paused already: its data vendor is being replaced" in again.stderr
            (listed,) = [agent for agent in agents(data_dir) if agent["agent_id"] == AGENT]
            assert (listed["state"], listed["reason"]) == ("PAUSED", "its data vendor is being replaced")
            assert said(data_dir, "resume", "--reason", "the new vendor is in")["state"] == "ACTIVE"
            assert up.wait(PATIENCE_S) == 0
        finally:
            up.terminate()
    return [
        events_pb2.DecisionMade.FromString(event.payload)
        for event in journalled(data_dir / "data/coordinator/journal.db")
        if event.schema == events_pb2.DecisionMade.DESCRIPTOR.full_name
    ]


def agents(data_dir: Path) -> list[dict[str, Any]]:
    listed = alphamesh("agents", "list", "--data-dir", data_dir, "--json")
    found: list[dict[str, Any]] = json.loads(listed.stdout) if listed.returncode == 0 else []
    return found


def said(data_dir: Path, *arguments: str) -> dict[str, Any]:
    """What `alphamesh agents` answers, as soon as the session has seen the agent."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        done = alphamesh("agents", arguments[0], AGENT, *arguments[1:], "--data-dir", data_dir, "--json")
        if done.returncode == 0:
            answer: dict[str, Any] = json.loads(done.stdout)
            return answer
        assert time.monotonic() < give_up, done.stderr
        time.sleep(0.2)


def test_an_agent_is_paused_and_resumed_while_a_session_runs(decided: list[events_pb2.DecisionMade]) -> None:
    voices = [{voice.agent_id: voice for voice in made.decision.voices}[AGENT] for made in decided]
    states = [voice.state for voice in voices]
    silent = [row for row, state in enumerate(states) if state == roster_pb2.AgentState.AGENT_STATE_PAUSED]
    assert silent, "no decision fell between pausing and resuming"
    assert silent == list(range(silent[0], silent[-1] + 1)), "silent once, without a gap"
    assert silent[0] > 0
    assert silent[-1] < len(decided) - 1
    for row, (made, voice) in enumerate(zip(decided, voices, strict=True)):
        assert AGENT in {signal.agent_id for signal in made.decision.signals}, "it is recorded all the time"
        assert (voice.weight == 0.0) == (row in silent)
        if row in silent:
            assert AGENT not in made.decision.aggregate.agent_id
