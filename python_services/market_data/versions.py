"""Versions of bars that came in: append-only columns with two times, and which of them are known at a moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .reading import EXACT

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Index = NDArray[np.intp]

STEPS = ("step", "split_step")


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Columns, one entry per version. Prices and volume in nano units.

    `stream`: number of the source; `row`: of the instrument in the data set; `step`, `split_step`: 0 where the version
    says nothing about them.
    """

    stream: Ints
    row: Ints
    ts_event_ns: Ints
    known_at_ns: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    step: Floats
    split_step: Floats

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: NDArray[Any]) -> Versions:
        """The versions at `index`, or those where a mask is true."""
        return Versions(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def values(self, index: int) -> tuple[float, ...]:
        """What one version says, without its keys: equal for a repetition."""
        return tuple(getattr(self, name)[index].item() for name in (*EXACT, *STEPS))

    @staticmethod
    def joined(*parts: Versions) -> Versions:
        """All of them, in this order."""
        return Versions(
            **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Versions)}
        )

    @staticmethod
    def of(columns: Mapping[str, Any]) -> Versions:
        """From sequences by column name."""
        made: dict[str, Any] = {
            field.name: np.array(columns[field.name], dtype=np.float64 if field.name in STEPS else np.int64)
            for field in fields(Versions)
        }
        return Versions(**made)


NOTHING = Versions.of({field.name: () for field in fields(Versions)})


@dataclass(frozen=True, kw_only=True)
class Known:
    """The version in force of each bar at a moment; `step` and `split_step` are NaN where no version states one."""

    row: Ints
    ts_event_ns: Ints
    newest: Versions
    step: Floats
    split_step: Floats


class VersionLog:
    """All versions in order of arrival. The order has no influence on what is known at a moment.

    A bar is an instrument and a close; two versions of it that became known at one moment would have no
    order, so the caller lets no such pair in: see `find`.
    """

    def __init__(self) -> None:
        self._columns = NOTHING
        self._arrived: list[Versions] = []
        self._bars_arrived: list[int] = []
        self._count = 0
        self._bar_of: Index = np.empty(0, dtype=np.intp)
        self._bars: dict[tuple[int, int], int] = {}
        self._at: dict[tuple[int, int], int] = {}  # (bar, known_at_ns) -> version
        self._by_known: Index = np.empty(0, dtype=np.intp)
        self._known: Ints = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self._count

    def append(self, versions: Versions) -> None:
        """Adds versions that are not held yet."""
        keys = zip(versions.row.tolist(), versions.ts_event_ns.tolist(), versions.known_at_ns.tolist(), strict=True)
        for row, ts_event_ns, known_at_ns in keys:
            bar = self._bars.setdefault((row, ts_event_ns), len(self._bars))
            self._at[bar, known_at_ns] = self._count
            self._bars_arrived.append(bar)
            self._count += 1
        self._arrived.append(versions)

    def find(self, row: int, ts_event_ns: int, known_at_ns: int) -> tuple[float, ...] | None:
        """What the version with these keys says; None when there is none."""
        bar = self._bars.get((row, ts_event_ns))
        version = None if bar is None else self._at.get((bar, known_at_ns))
        return None if version is None else self._all().values(version)

    def of(self, rows: Ints, known_at_ns: int) -> Versions:
        """Every version of `rows` known at a moment, in the order in which they became known."""
        columns, seen = self._all(), self.indices(known_at_ns)
        return columns.take(seen[np.isin(columns.row[seen], rows)])

    def count(self, known_at_ns: int) -> int:
        """How many versions are known at a moment."""
        self._all()
        return int(np.searchsorted(self._known, known_at_ns, side="right"))

    def indices(self, known_at_ns: int) -> Index:
        """Positions of the versions known at a moment, in the order in which they became known."""
        self._all()
        return self._by_known[: np.searchsorted(self._known, known_at_ns, side="right")]

    def by_stream(self, rows: Ints, known_at_ns: int) -> Ints:
        """Number of versions of `rows` known at a moment, by stream number."""
        columns, seen = self._all(), self.indices(known_at_ns)
        return np.bincount(columns.stream[seen[np.isin(columns.row[seen], rows)]])

    def known(self, rows: Ints, known_at_ns: int) -> Known:
        """The bars of `rows` that have versions, and what is in force of them."""
        columns = self._all()
        seen = self.indices(known_at_ns)
        seen = seen[np.isin(columns.row[seen], rows)]
        bar_of = self._bar_of
        # Ascending in known time: of repeated positions the last assignment stands.
        newest = np.full(len(self._bars), -1, dtype=np.intp)
        newest[bar_of[seen]] = seen
        bars = np.flatnonzero(newest >= 0)

        def stated(column: Floats) -> Floats:
            values = np.full(len(self._bars), np.nan)
            with_value = seen[column[seen] > 0.0]
            values[bar_of[with_value]] = column[with_value]
            return values[bars]

        chosen = columns.take(newest[bars])
        return Known(
            row=chosen.row,
            ts_event_ns=chosen.ts_event_ns,
            newest=chosen,
            step=stated(columns.step),
            split_step=stated(columns.split_step),
        )

    def _all(self) -> Versions:
        if self._arrived:
            self._columns = Versions.joined(self._columns, *self._arrived)
            self._arrived = []
            self._bar_of = np.concatenate([self._bar_of, np.array(self._bars_arrived, dtype=np.intp)])
            self._bars_arrived = []
            self._by_known = np.argsort(self._columns.known_at_ns, kind="stable")
            self._known = self._columns.known_at_ns[self._by_known]
        return self._columns
