"""The session of `make run`: cycles over both transports, with 4 and with 500 instruments, and the start-up.

Through the sidecars, as it runs by default, with the same processes without sidecars beside it.

Every turn runs whole sessions through the command line and reads the report, so the figures are the ones that a
user gets. The 500 instruments are synthetic (benchmarks/synthetic_universe.py); the 4 are the demo year.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks import synthetic_universe
from benchmarks.runner import Case
from benchmarks.sessions import STEPS, Report, Sessions, rate, step
from mesh.topology import DEFAULT_PATH

WITHOUT = "without sidecars"
LARGE = 500
LARGE_DAYS = 400  # from 2008-01-02 on; the session is in 2009


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
            Case(name=f"{name} p50, {label}, 4 instruments", unit="ms", ours=small.figure(name, step(name, "p50")))
            for name in STEPS
        ]
        if transport == "--up":
            whole_year = small.figure("year", lambda report: report["cycles"] / rate(report))
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
            ours=sessions.figure("p50", step("cycle", "p50")),
            peer=bare.figure("p50", step("cycle", "p50")) if bare else None,
            peer_name=WITHOUT if bare else None,
            goal=goal,
        ),
        Case(name=f"cycle p99, {label}", unit="ms", ours=sessions.figure("p99", step("cycle", "p99"))),
        Case(name=f"cycles, {label}", unit="1/s", ours=sessions.figure("rate", rate), better="higher"),
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
