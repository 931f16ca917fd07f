"""Bring your own agent: made by the command, tested by its own test and the kit, registered by one entry, traded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ALPHAMESH


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """In a folder of the user's own, from which Python imports."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)


def test_from_nothing_to_trading(tmp_path: Path) -> None:
    made = run(tmp_path, ALPHAMESH, "agent", "new", "gap_agent")
    assert made.returncode == 0, made.stderr
    tested = run(tmp_path, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "gap_agent")
    assert tested.returncode == 0, tested.stdout
    conforms = run(tmp_path, ALPHAMESH, "conformance", "--module", "gap_agent", "--deadline", "5")
    assert conforms.returncode == 0, conforms.stdout + conforms.stderr
    shown = made.stdout.partition("my_topology.yaml:\n\n")[2].partition("\nand trade")[0]
    (tmp_path / "my_topology.yaml").write_text(shown)
    traded = run(
        tmp_path, ALPHAMESH, "session", "--up", "--topology", "my_topology.yaml", "--start", "2010-01-04",
        "--end", "2010-02-26", "--report", "report.json", "--data-dir", str(tmp_path / "run"),
    )  # fmt: skip
    assert traded.returncode == 0, traded.stdout + traded.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["session"]["state"] == "SUCCEEDED"
    assert report["signals_by_agent"]["gap_agent.momentum"] > 0
    assert "gap_agent" in report["services"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("Gap", "use lower-case letters"), ("class", "use lower-case letters"), ("nats", "cannot be a service")],
)
def test_names_that_cannot_be(tmp_path: Path, name: str, says: str) -> None:
    done = run(tmp_path, ALPHAMESH, "agent", "new", name)
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = run(tmp_path, ALPHAMESH, "agent", "new", "mine")
    assert done.returncode == 1
    assert "exists already" in done.stderr
