"""How far long work is: a bar on a terminal, a line now and then when piped."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from alphamesh.decision.v1 import decision_pb2
from python_services.kit.convert import NANO, money_e9

from . import tables
from .session import day_of

if TYPE_CHECKING:
    from rich.progress import Progress

_LINES = 10


class Bar:
    """A context manager. `text` is rich's: "{task.fields[day]}" shows what `update` is given as `day`."""

    def __init__(self, title: str, text: str, *, quiet: bool = False, **fields: Any) -> None:
        self._bar: Progress | None = None
        if not tables.console.is_terminal or quiet:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn(text), TimeElapsedColumn())
        self._bar = Progress(*columns, console=tables.console)
        self._task = self._bar.add_task(title, total=None, **fields)

    def __enter__(self) -> Bar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, completed: float, total: float | None, **fields: Any) -> bool:
        """Whether there is a bar; without one the caller prints what matters."""
        if self._bar is None:
            return False
        self._bar.update(self._task, completed=completed, total=total, **fields)
        return True


class ProgressView:
    """A context manager; `show` is called with each cycle."""

    def __init__(self) -> None:
        self._bar = Bar("cycles", "{task.fields[day]}  equity {task.fields[equity]}", day="", equity="")
        self._shown = 0

    def __enter__(self) -> ProgressView:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def show(self, cycle: decision_pb2.CycleProgress, session: decision_pb2.Session) -> None:
        """One cycle has ended."""
        total, day, equity = session.cycles_total, day_of(cycle.as_of_ns), f"{money_e9(cycle.equity) / NANO:,.2f}"
        if self._bar.update(cycle.seq, total, day=day, equity=equity):
            return
        part = cycle.seq * _LINES // max(total, 1)
        if part > self._shown or cycle.seq == total:
            self._shown = part
            print(f"cycle {cycle.seq}/{total}  {day}  equity {equity}", flush=True)
