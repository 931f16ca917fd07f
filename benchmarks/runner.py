"""One runner for every benchmark: ours and a peer, interleaved, medians, a table and JSON.

A part is a module benchmarks/<part>.py with `def cases() -> list[Case]`. Each measure returns one number in the
case's unit. A goal is a comparison such as "ours <= 50" or "ratio >= 2.5"; the ratio says how many times better
ours is, so it is peer/ours where lower is better and ours/peer where higher is.
"""

from __future__ import annotations

import argparse
import importlib
import json
import operator
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

Measure = Callable[[], float]

PIPED_WIDTH = 180
FOLDER = Path(__file__).resolve().parent
NOT_PARTS = frozenset({"__init__", "__main__", "runner", "sessions", "synthetic_facts", "synthetic_universe"})
GOAL = re.compile(r"^(ours|ratio)\s*(<=|>=|<|>)\s*(\d+(?:\.\d+)?(?:e-?\d+)?)$")
COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
EXAMPLES = """examples:
  python -m benchmarks                         every part
  python -m benchmarks gate journal            two parts
  python -m benchmarks gate --json gate.json   also write the rows and the machine's facts
  python -m benchmarks --markdown docs/benchmarks.md   write the table for people to read
  python -m benchmarks --list                  the parts and their cases, without measuring
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to measure. `ours` and `peer` each do one run and return its number in `unit`.

    Raises ValueError for a goal that cannot be judged.
    """

    name: str
    unit: str
    ours: Measure
    peer: Measure | None = None
    peer_name: str | None = None
    goal: str | None = None
    better: Literal["lower", "higher"] = "lower"

    def __post_init__(self) -> None:
        if self.goal is None:
            return
        parsed = GOAL.match(self.goal)
        if parsed is None:
            raise ValueError(f"{self.name}: goal {self.goal!r} is not like 'ours <= 50' or 'ratio >= 2.5'")
        if parsed[1] == "ratio" and self.peer is None:
            raise ValueError(f"{self.name}: goal {self.goal!r} needs a peer")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one case; `error` is set, and the numbers are not, when it raised."""

    part: str
    name: str
    unit: str
    better: str
    ours: float | None = None
    peer: float | None = None
    peer_name: str | None = None
    ratio: float | None = None
    goal: str | None = None
    met: bool | None = None
    error: str | None = None


def measure(part: str, case: Case, repeat: int) -> Row:
    """Warm both sides up once, then take `repeat` turns of ours and peer, so that drift meets both alike."""
    ours: list[float] = []
    peer: list[float] = []
    for turn in range(repeat + 1):
        ours.append(float(case.ours()))
        if case.peer is not None:
            peer.append(float(case.peer()))
        if turn == 0:
            ours.clear()
            peer.clear()
    our_median = statistics.median(ours)
    peer_median = statistics.median(peer) if peer else None
    ratio = times_better(our_median, peer_median, case.better)
    return Row(
        part=part,
        name=case.name,
        unit=case.unit,
        better=case.better,
        ours=our_median,
        peer=peer_median,
        peer_name=case.peer_name,
        ratio=ratio,
        goal=case.goal,
        met=goal_met(case.goal, our_median, ratio),
    )


def times_better(ours: float, peer: float | None, better: str) -> float | None:
    """How many times better ours is than the peer; None without a peer or with a zero below the line."""
    if peer is None:
        return None
    above, below = (peer, ours) if better == "lower" else (ours, peer)
    return above / below if below else None


def goal_met(goal: str | None, ours: float, ratio: float | None) -> bool | None:
    """Whether the goal holds; None when there is none, False when its ratio could not be formed."""
    parsed = GOAL.match(goal) if goal else None
    if parsed is None:
        return None
    value = ours if parsed[1] == "ours" else ratio
    return value is not None and COMPARE[parsed[2]](value, float(parsed[3]))


def parts() -> list[str]:
    """The names of the parts: the modules beside this one."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in NOT_PARTS)


def load(part: str) -> list[Case]:
    """The cases of one part; building them may start what they measure."""
    cases: list[Case] = importlib.import_module(f"benchmarks.{part}").cases()
    return cases


def run(chosen: Sequence[str], repeat: int, console: Console) -> list[Row]:
    """Measure every case of the chosen parts; a case that raises becomes a row with its error."""
    rows: list[Row] = []
    for part in chosen:
        try:
            cases = load(part)
        except Exception as error:
            rows.append(Row(part=part, name="(loading)", unit="", better="", error=describe(error)))
            continue
        for number, case in enumerate(cases, start=1):
            with console.status(f"{part} {number}/{len(cases)}: {case.name}"):
                rows.append(measure_or_report(part, case, repeat))
            if not console.is_terminal:
                print(f"{part} {number}/{len(cases)}: {case.name}", file=sys.stderr, flush=True)
    return rows


def measure_or_report(part: str, case: Case, repeat: int) -> Row:
    """`measure`, with any failure of the case as part of its row."""
    try:
        return measure(part, case, repeat)
    except Exception as error:
        return Row(
            part=part,
            name=case.name,
            unit=case.unit,
            better=case.better,
            peer_name=case.peer_name,
            goal=case.goal,
            error=describe(error),
        )


def describe(error: Exception) -> str:
    """An exception as one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def table(rows: Sequence[Row]) -> Table:
    """The rows as people read them."""
    shown = Table(title="Benchmarks: medians, ours against its peer", title_justify="left")
    for heading in ("part", "case"):
        shown.add_column(heading)
    for heading in ("ours", "peer", "times better"):
        shown.add_column(heading, justify="right")
    for heading in ("unit", "peer is", "goal"):
        shown.add_column(heading)
    for row in rows:
        verdict = {
            None: row.goal or "",
            True: f"[green]met[/] {row.goal}",
            False: f"[red]missed[/] {row.goal}",
        }
        last = f"[red]failed[/] {row.error}" if row.error else verdict[row.met]
        numbers = [number(row.ours), number(row.peer), number(row.ratio)]
        shown.add_row(row.part, row.name, *numbers, row.unit, row.peer_name or "", last)
    return shown


def markdown(rows: Sequence[Row], facts: dict[str, object], repeat: int) -> str:
    """The rows as a page, one table for each part."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench MARKDOWN=docs/benchmarks.md` after `make bench-peers`; do not edit. Each row is the",
        f"median of {repeat} turns, ours and its peer taking turns in one run, and both results are compared.",
        f"Machine: {facts['cpu']}, {facts['cpu_count']} CPUs; {facts['system']}; Python {facts['python']}; load",
        f"average at the end {facts['load_average']}.",
    ]
    for part in dict.fromkeys(row.part for row in rows):
        lines += ["", f"## {part}", "", "| case | ours | peer | times better | unit | peer is | goal |"]
        lines.append("|---|---:|---:|---:|---|---|---|")
        for row in (row for row in rows if row.part == part):
            verdict = {None: row.goal or "", True: f"met: {row.goal}", False: f"**missed**: {row.goal}"}[row.met]
            cells = (row.name, number(row.ours), number(row.peer), number(row.ratio), row.unit, row.peer_name or "")
            last = f"**failed**: {row.error}" if row.error else verdict
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in (*cells, last)) + " |")
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """Three significant digits or more, with thousands separated."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def machine() -> dict[str, object]:
    """The facts without which a measurement says nothing."""
    model = next(
        (line.partition(":")[2].strip() for line in cpu_lines() if line.startswith("model name")),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cpu_count": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def cpu_lines() -> list[str]:
    """Linux's description of the processor; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; a part that does not exist ends the program with the list of those that do."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure AlphaMesh against its peers. Exits 1 only if a case raised.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="a module of benchmarks/ (default: all)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows and the machine's facts")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="also write the table as a page")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="turns after the warm-up (default: 5)")
    parser.add_argument("--list", action="store_true", help="name the parts and their cases, then stop")
    chosen = parser.parse_args(argv)
    unknown = sorted(set(chosen.parts) - set(parts()))
    if unknown:
        parser.error(f"no part called {', '.join(unknown)}; there are: {', '.join(parts()) or 'none'}")
    if chosen.repeat < 1:
        parser.error("--repeat must be at least 1")
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen parts and return the exit code."""
    chosen = arguments(argv)
    names = chosen.parts or parts()
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    if chosen.list:
        for part in names:
            console.print(f"[bold]{part}[/]")
            for case in load(part):
                console.print(f"  {case.name} ({case.unit})" + (f", goal {case.goal}" if case.goal else ""))
        return 0
    rows = run(names, chosen.repeat, console)
    console.print(table(rows))
    facts = machine()
    if chosen.markdown:
        chosen.markdown.write_text(markdown(rows, facts, chosen.repeat))
        console.print(f"wrote {chosen.markdown}")
    if chosen.json:
        report = {"machine": facts, "repeat": chosen.repeat, "rows": [asdict(row) for row in rows]}
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
        console.print(f"wrote {chosen.json}")
    return 1 if any(row.error for row in rows) else 0
