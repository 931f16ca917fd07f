"""The session of `make run`: cycles over both transports, with 4 and with 500 instruments, and the start-up.

Through the sidecars, as it runs by default, with the same processes without sidecars beside it.

Every turn runs whole sessions through the command line and reads the report, so the figures are the ones that a
user gets. The 500 instruments are synthetic (benchmarks/synthetic_universe.py); the 4 are the demo year.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks import synthetic_universe
from benchmarks.runner import Case
from mesh.topology import DEFAULT_PATH

ALPHAMESH = Path(sys.executable).with_name("alphamesh")
WITHOUT = "without sidecars"
LARGE = 500
LARGE_DAYS = 400  # from 2008-01-02 on; the session is in 2009
STEPS = (
    "advance_market", "snapshot", "sync_market", "forecast", "aggregate", "portfolio", "risk", "record", "submit",
)  # fmt: skip

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
                self._reports.append(self._run(len(self._reports)))
            return read(self._reports[turn])

        return measure

    def _run(self, number: int) -> Report:
        run = self._folder / f"{'-'.join(self._arguments[:1]).strip('-')}-{len(self._arguments)}-{number}"
        report = run.with_suffix(".json")
        command = [str(ALPHAMESH), "session", *self._arguments, "--data-dir", str(run), "--report", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
        content: Report = json.loads(report.read_text())
        return content


def cases() -> list[Case]:
    """Rows for both transports and both universes."""
    # Kept until the process ends: the sessions' data lies in it.
    keep = tempfile.TemporaryDirectory(prefix="alphamesh-bench-")
    folder = Path(keep.name)
    _KEEP.append(keep)
    bars, facts = folder / "universe" / "bars.parquet", folder / "universe" / "instruments.yaml"
    universe = ",".join(synthetic_universe.names(LARGE))
    large = (
        "--data", str(bars), "--instruments-file", str(facts), "--instruments", universe,
        "--start", "2009-03-02", "--end", "2009-05-29",
    )  # fmt: skip
    rows: list[Case] = []
    for transport, label, goal in (("--local", "local", 5), ("--up", "processes", 25)):
        small = Sessions(folder, transport)
        bare = (
            Sessions(folder, transport, "--topology", str(_without_sidecars(folder))) if transport == "--up" else None
        )
        rows += _cycle_rows(small, f"{label}, 4 instruments", f"ours <= {goal}", bare)
        rows += [
            Case(name=f"{step} p50, {label}, 4 instruments", unit="ms", ours=small.figure(step, _step(step, "p50")))
            for step in STEPS
        ]
        if transport == "--up":
            whole_year = small.figure("year", lambda report: report["cycles"] / _rate(report))
            rows.append(Case(name="252 cycles, processes, 4 instruments", unit="s", ours=whole_year, goal="ours <= 30"))
            rows += _startup_rows(small, bare)
        if not bars.exists():
            synthetic_universe.write(bars.parent, instruments=LARGE, days=LARGE_DAYS, seed=7)
        rows += _cycle_rows(Sessions(folder, transport, *large), f"{label}, {LARGE} instruments", None)
    return rows


_KEEP: list[tempfile.TemporaryDirectory[str]] = []


def _without_sidecars(folder: Path) -> Path:
    path = folder / "without_sidecars.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(DEFAULT_PATH.read_text()), "mesh": {"sidecars": False}}))
    return path


def _cycle_rows(sessions: Sessions, label: str, goal: str | None, bare: Sessions | None = None) -> list[Case]:
    return [
        Case(
            name=f"cycle p50, {label}",
            unit="ms",
            ours=sessions.figure("p50", _step("cycle", "p50")),
            peer=bare.figure("p50", _step("cycle", "p50")) if bare else None,
            peer_name=WITHOUT if bare else None,
            goal=goal,
        ),
        Case(name=f"cycle p99, {label}", unit="ms", ours=sessions.figure("p99", _step("cycle", "p99"))),
        Case(name=f"cycles, {label}", unit="1/s", ours=sessions.figure("rate", _rate), better="higher"),
    ]


def _startup_rows(sessions: Sessions, bare: Sessions | None) -> list[Case]:
    parts = (
        "nats",
        "market_data",
        "technical_agent",
        "fundamental_agent",
        "venue",
        "execution",
        "portfolio",
        "risk",
        "coordinator",
        "outside",
    )

    def reader(part: str) -> Callable[[Report], float]:
        return lambda report: float(report["startup_ms"][part])

    total = Case(
        name="start of all",
        unit="ms",
        ours=sessions.figure("start", reader("total")),
        peer=bare.figure("start", reader("total")) if bare else None,
        peer_name=WITHOUT if bare else None,
    )
    return [
        *(
            Case(name=f"start of {part}", unit="ms", ours=sessions.figure(f"start-{part}", reader(part)))
            for part in parts
        ),
        total,
    ]


def _step(step: str, quantile: str) -> Callable[[Report], float]:
    return lambda report: float(report["latency_ms"][step][quantile])


def _rate(report: Report) -> float:
    return float(report["session"]["cycles_per_second"])
