"""drill: something breaks in the middle of a session, and the event log is judged."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson

from .. import tables
from ..drills import runner
from ..drills.faults import DRILLS, Drill
from ..drills.runner import Round
from ..errors import MeshError

_NUMBERS = frozenset({"rounds", "passed", "recovery p50 ms", "longest ms", "restarts", "orders", "fills"})


async def drill(names: Sequence[str], rounds: int, seed: int, only_list: bool, keep: Path | None, as_json: bool) -> int:
    """0 when every round kept every promise."""
    if only_list:
        _list(as_json)
        return 0
    chosen = [_known(name) for name in names] or list(DRILLS.values())
    done: list[Round] = []
    wanted = await runner.quiet()
    with tempfile.TemporaryDirectory(prefix="alphamesh-drill-") as scratch:
        folder = Path(scratch) if keep is None else keep
        for one in chosen:
            for number in range(seed, seed + rounds):
                done.append(await runner.play(one, number, folder / f"{one.name}-{number}", wanted))
                if not as_json:
                    _line(done[-1])
    if as_json:
        content = {"wanted_hash": wanted[0], "rounds": [asdict(one) for one in done]}
        print(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
    else:
        _table(chosen, done)
    return 0 if all(one.passed for one in done) else 1


def _known(name: str) -> Drill:
    if name not in DRILLS:
        raise MeshError(f"there is no drill {name!r}; there are {', '.join(DRILLS)}")
    return DRILLS[name]


def _list(as_json: bool) -> None:
    if as_json:
        rows = [{"name": one.name, "says": one.says, "victims": one.victims} for one in DRILLS.values()]
        print(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    shown = tables.table("", "drill", "what", "victims")
    for one in DRILLS.values():
        shown.add_row(one.name, one.says, ", ".join(one.victims))
    tables.console.print(shown)


def _line(one: Round) -> None:
    verdict = "[green]kept[/green]" if one.passed else "[red]BROKEN[/red]"
    text = f"{one.drill} of {one.victim}, seed {one.seed}, cycle {one.struck_at}: {verdict}, {one.recovery_ms:,.0f} ms"
    tables.console.print(text)
    for what in one.broken:
        tables.console.print(f"  {what}", markup=False)


def _table(chosen: Sequence[Drill], done: Sequence[Round]) -> None:
    shown = tables.table(
        "", "drill", "what", "rounds", "passed", "recovery p50 ms", "longest ms", "same hash", "orders", "fills",
        numbers=_NUMBERS,
    )  # fmt: skip
    for one in chosen:
        rows = [row for row in done if row.drill == one.name]
        times = [row.recovery_ms for row in rows]
        shown.add_row(
            one.name,
            one.says,
            str(len(rows)),
            str(sum(row.passed for row in rows)),
            f"{statistics.median(times):,.0f}",
            f"{max(times):,.0f}",
            f"{sum(row.same for row in rows)} of {len(rows)}",
            f"{sum(row.findings['orders'] for row in rows):,}",
            f"{sum(row.findings['fills'] for row in rows):,}",
        )
    tables.console.print(shown)
