"""The demo session, run once over each transport through the command line, as a person would."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ALPHAMESH = str(Path(sys.executable).with_name("alphamesh"))


@dataclass(frozen=True)
class Run:
    """A session that was run: where its data is, and what its report says."""

    data_dir: Path
    report: dict[str, Any]
    output: str


def alphamesh(*arguments: str | Path, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """Runs the command line."""
    command = [ALPHAMESH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def run_session(folder: Path, *arguments: str) -> Run:
    """Runs one session in `folder`."""
    data_dir, report = folder / "run", folder / "report.json"
    done = alphamesh("session", *arguments, "--data-dir", data_dir, "--report", report)
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(data_dir=data_dir, report=json.loads(report.read_text()), output=done.stdout)


@pytest.fixture(scope="session")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demo year over the local transport."""
    return run_session(tmp_path_factory.mktemp("local"), "--local")


@pytest.fixture(scope="session")
def process_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demo year over processes, sockets and a JetStream server."""
    return run_session(tmp_path_factory.mktemp("mesh"), "--up")
