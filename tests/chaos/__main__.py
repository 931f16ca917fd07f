"""The long form: ``python -m tests.chaos --rounds 200 --json out.json``.

Every part by itself: ``--only rounds cluster``. Exit code 1 when a promise was not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mesh import tables

from .disks import cannot_mount
from .ledger_check import BrokenError
from .parts import PARTS, Part, proposers
from .system import ChaosError

COUNTED = ("rounds", "cluster", "proposers")  # parts with a step for each of their count


def main() -> int:
    """Runs the parts, draws the table, writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("CHAOS_ROUNDS", "60")), help="of each part")
    parser.add_argument("--cluster-rounds", type=int, help="kills of a leader; default: a quarter of --rounds")
    parser.add_argument("--kills", type=int, default=100, help="of the ledger under the proposers")
    parser.add_argument("--reservations", type=int, default=1_000_000, help="rows that the proposers have judged")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    chosen = parser.parse_args()
    began = time.monotonic()
    found: list[Part] = []
    for name in chosen.only:
        count = chosen.rounds
        part = PARTS[name]
        if name == "cluster":
            count = chosen.cluster_rounds or max(chosen.rounds // 4, 2)
        if name == "proposers":
            count, part = chosen.kills, partial(proposers, reservations=chosen.reservations)
        with _Progress(name, count) as progress:
            try:
                found += asyncio.run(part(count, chosen.seed, progress.step))
            except (BrokenError, ChaosError, ExceptionGroup) as error:
                found.append(Part(name=name, rounds=progress.done, problems=[_text(error)]))
    _draw(found, time.monotonic() - began)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(_report(found, chosen, time.monotonic() - began), indent=2) + "\n")
    return 1 if any(part.problems for part in found) else 0


class _Progress:
    """A bar on a terminal, a line a step when piped."""

    def __init__(self, name: str, count: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.done, self._name = 0, name
        self._bar = None
        if tables.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=tables.console)
            self._task = self._bar.add_task(name, total=count if name in COUNTED else None)

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, what: str) -> None:
        """One round is over."""
        self.done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, description=f"{self._name}: {what}")
        else:
            print(f"{self._name} {self.done}: {what}", flush=True)


def _draw(found: list[Part], seconds: float) -> None:
    shown = tables.table("chaos", "part", "rounds", "found", "", numbers=frozenset({"rounds"}))
    for part in found:
        figures = ", ".join(f"{key} {_shown(value)}" for key, value in part.figures.items() if key != "each")
        verdict = "[red]BROKEN[/red]" if part.problems else "[yellow]skipped[/yellow]" if part.skipped else "kept"
        shown.add_row(part.name, str(part.rounds), part.skipped or "\n".join([figures, *part.problems]), verdict)
    tables.console.print(shown)
    print(f"{seconds:.0f} s")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_shown(one)}" for key, one in value.items()) + ")"
    if isinstance(value, list):
        return " ".join(_shown(one) for one in value)
    return value[:16] if isinstance(value, str) and len(value) == 64 else str(value)


def _report(found: list[Part], chosen: argparse.Namespace, seconds: float) -> dict[str, Any]:
    return {
        "command": " ".join(["python -m tests.chaos", *sys.argv[1:]]),
        "rounds": chosen.rounds,
        "seed": chosen.seed,
        "seconds": round(seconds, 1),
        "kept": not any(part.problems for part in found),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "mounts": cannot_mount() or "yes"},
        "parts": [asdict(part) for part in found],
    }


def _text(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_text(one) for one in error.exceptions)
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
