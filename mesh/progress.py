"""How far a session is: a bar on a terminal, a line now and then when piped."""

from __future__ import annotations

from types import TracebackType

from alphamesh.decision.v1 import decision_pb2
from python_services.kit.convert import NANO, money_e9

from . import tables
from .session import day_of

_LINES = 10


class ProgressView:
    """A context manager; `show` is called with each cycle."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = None
        if tables.console.is_terminal:
            self._bar = Progress(
                TextColumn("cycles"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[day]}  equity {task.fields[equity]}"),
                TimeElapsedColumn(),
                console=tables.console,
            )
            self._task = self._bar.add_task("session", total=None, day="", equity="")
        self._shown = 0

    def __enter__(self) -> ProgressView:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, cycle: decision_pb2.CycleProgress, session: decision_pb2.Session) -> None:
        """One cycle has ended."""
        total, day, equity = session.cycles_total, day_of(cycle.as_of_ns), f"{money_e9(cycle.equity) / NANO:,.2f}"
        if self._bar is not None:
            self._bar.update(self._task, completed=cycle.seq, total=total, day=day, equity=equity)
            return
        part = cycle.seq * _LINES // max(total, 1)
        if part > self._shown or cycle.seq == total:
            self._shown = part
            print(f"cycle {cycle.seq}/{total}  {day}  equity {equity}", flush=True)
