"""Whole sessions through the command line, and the figures of their reports: what a user gets."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ALPHAMESH = Path(sys.executable).with_name("alphamesh")
STEPS = (
    "advance_market", "snapshot", "sync_market", "forecast", "aggregate", "portfolio", "risk", "record", "submit",
)  # fmt: skip
_NUMBERS = itertools.count()

Report = dict[str, Any]


class Sessions:
    """Runs of one kind of session: the n-th reading of any figure is of the n-th run."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder = folder
        self._arguments = arguments
        self._reports: list[Report] = []
        self._read: dict[str, int] = {}

    def figure(self, name: str, read: Callable[[Report], float]) -> Callable[[], float]:
        """A measure that reads one figure of the next run it has not read yet."""

        def measure() -> float:
            turn = self._read.get(name, 0)
            self._read[name] = turn + 1
            while len(self._reports) <= turn:
                self._reports.append(self._run())
            return read(self._reports[turn])

        return measure

    def _run(self) -> Report:
        run = self._folder / f"run-{next(_NUMBERS)}"
        report = run.with_suffix(".json")
        self.trade(run, report)
        content: Report = json.loads(report.read_text())
        return content

    def trade(self, run: Path, report: Path) -> None:
        """One session."""
        alphamesh("session", *self._arguments, "--data-dir", str(run), "--report", str(report))


def alphamesh(*arguments: str) -> str:
    """Runs the command line; what it printed. Raises RuntimeError."""
    command = [str(ALPHAMESH), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def step(name: str, quantile: str) -> Callable[[Report], float]:
    """Reads the latency of a step, in ms."""
    return lambda report: float(report["latency_ms"][name][quantile])


def rate(report: Report) -> float:
    """Cycles a second."""
    return float(report["session"]["cycles_per_second"])
