"""Everything known about bars, as of any moment: the data set, and the versions that came in after it.

A bar has two times: its close (event time) and when it became known (known time). Bars of the data set are known at
their close. What is known at a moment is, for each bar, the version with the latest known time up to that moment.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset
from .reading import EXACT
from .versions import VersionLog, Versions

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
S = TypeVar("S", bound=np.generic)

FOREVER_NS = 2**63 - 1
_UNIVERSES = 8


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Bars of some instruments as known at one moment. Matrices are instruments x days; exact values in nano units.

    `loaded`: where the data set has a bar, whatever came in since.
    """

    open_ns: Ints
    close_ns: Ints
    present: Mask
    loaded: Mask
    known_at_ns: Ints
    exact: dict[str, Ints]
    step: Floats
    split_step: Floats


class History:
    """The data set, and the versions of all streams that came in."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._rows = {spec.instrument_id: row for row, spec in enumerate(dataset.instruments)}
        self._universes: OrderedDict[tuple[str, ...], Ints] = OrderedDict()
        self._log = VersionLog()
        self._streams: dict[str, int] = {}
        self._held: Counter[str] = Counter()
        self._on_time: dict[int, set[int]] = {}
        self._open_ns: dict[int, int] = {}
        present = dataset.present
        days, self._step_rows = np.nonzero(((dataset.step != 1.0) & present).T)
        self._step_ns = dataset.close_ns[days]
        self._steps_in: set[int] = set()  # of which a version that came in states one, of whatever day
        held, newest = present.any(axis=1), present.shape[1] - 1 - np.argmax(present[:, ::-1], axis=1)
        self.first_ns = np.where(held, dataset.close_ns[np.argmax(present, axis=1)], 0)
        self.last_ns = np.where(held, dataset.close_ns[newest], 0)
        self.newest_ns = int(dataset.close_ns[-1])

    def __len__(self) -> int:
        """Versions that came in."""
        return len(self._log)

    def row(self, instrument_id: str) -> int:
        """Row of an instrument; -1 for an unknown one."""
        return self._rows.get(instrument_id, -1)

    def rows(self, instrument_ids: Sequence[str]) -> Ints:
        """Rows of instruments, as `row`. Kept for the last few universes: a session asks for the same one every day."""
        names = tuple(instrument_ids)
        found = self._universes.get(names)
        if found is None:
            found = self._universes[names] = np.array([self.row(name) for name in names], dtype=np.int64)
            found.flags.writeable = False
        self._universes.move_to_end(names)
        while len(self._universes) > _UNIVERSES:
            self._universes.popitem(last=False)
        return found

    def held(self, stream: str) -> int:
        """Versions that came in from a stream."""
        return self._held[stream]

    def stream(self, name: str) -> int:
        """Number of a stream, for `Versions.stream`; a new one gets the next."""
        return self._streams.setdefault(name, len(self._streams))

    def said(self, row: int, ts_event_ns: int, known_at_ns: int) -> tuple[float, ...] | None:
        """What the version with these keys says (`Versions.values`); None when there is none."""
        found = self._log.find(row, ts_event_ns, known_at_ns)
        if found is not None or known_at_ns != ts_event_ns:
            return found
        day = int(np.searchsorted(self.dataset.close_ns, ts_event_ns))
        if day == len(self.dataset.close_ns) or self.dataset.close_ns[day] != ts_event_ns:
            return None
        if not self.dataset.present[row, day]:
            return None
        # A loaded bar states its steps, so a version without them says the same.
        return (*(self.dataset.bars[name][row, day].item() for name in EXACT), 0.0, 0.0)

    def append(self, stream: str, versions: Versions, open_ns: Sequence[int]) -> None:
        """Takes in versions that are not held yet; `open_ns`: opens of their sessions."""
        self._log.append(versions)
        self._held[stream] += len(versions)
        self.newest_ns = max([self.newest_ns, *versions.known_at_ns.tolist()])
        self._open_ns.update(zip(versions.ts_event_ns.tolist(), open_ns, strict=True))
        for row, ts in zip(versions.row.tolist(), versions.ts_event_ns.tolist(), strict=True):
            self.first_ns[row] = min(self.first_ns[row] or ts, ts)
            self.last_ns[row] = max(self.last_ns[row], ts)
        self._steps_in.update(versions.row[(versions.step != 0.0) & (versions.step != 1.0)].tolist())
        on_time = versions.take(versions.known_at_ns == versions.ts_event_ns)
        for row, ts in zip(on_time.row.tolist(), on_time.ts_event_ns.tolist(), strict=True):
            self._on_time.setdefault(row, set()).add(ts)

    def versions_known(self, known_at_ns: int) -> int:
        """How many versions that came in are known at a moment."""
        return self._log.count(known_at_ns) if len(self._log) else 0

    def read_from(self, rows: Ints, known_at_ns: int) -> dict[str, int]:
        """Versions of `rows` known at a moment, by stream; streams without any are left out."""
        if not self.versions_known(known_at_ns):
            return {}
        counts = dict(enumerate(self._log.by_stream(rows, known_at_ns).tolist()))
        return {name: counts[number] for name, number in self._streams.items() if counts.get(number)}

    def trading_days(self, rows: Ints) -> Ints:
        """Closes of the days of which a bar of `rows` was known by its close, ascending."""
        loaded = self.dataset.close_ns[self.dataset.present[rows].any(axis=0)]
        extra = set().union(*(self._on_time.get(row, ()) for row in rows.tolist())) if self._on_time else set()
        return np.union1d(loaded, np.array(sorted(extra), dtype=np.int64)) if extra else loaded

    def acting(self, rows: Ints, after_ns: int, until_ns: int) -> Ints:
        """Those of `rows`, ascending, that can have a step other than 1 at a bar with after < close <= until.

        All that have one are among them. Costs what it finds: a step is rare.
        """
        first, last = np.searchsorted(self._step_ns, (after_ns, until_ns), side="right")
        found = set(self._step_rows[first:last].tolist()) | self._steps_in
        return np.array(sorted(found.intersection(rows.tolist())), dtype=np.int64)

    def bars(self, rows: Ints, known_at_ns: int, after_ns: int = -FOREVER_NS, until_ns: int = FOREVER_NS) -> Bars:
        """Bars with after < close <= until. Days are those on which one of `rows` has a bar.

        Of the data set all days in the range are there; what of them is known at `known_at_ns` follows from their
        closes.
        """
        data = self.dataset
        first, last = np.searchsorted(data.close_ns, (after_ns, until_ns), side="right")
        days = first + np.flatnonzero(data.present[rows, first:last].any(axis=0))
        at = np.ix_(rows, days)
        loaded = data.present[at]
        found = Bars(
            open_ns=data.open_ns[days],
            close_ns=data.close_ns[days],
            present=loaded,
            loaded=loaded,
            known_at_ns=np.broadcast_to(data.close_ns[days], loaded.shape),
            exact={name: values[at] for name, values in data.bars.items()},
            step=data.step[at],
            split_step=data.split_step[at],
        )
        return self._overlaid(found, rows, known_at_ns, after_ns, until_ns) if len(self._log) else found

    def versions(self, rows: Ints, known_at_ns: int, after_ns: int, until_ns: int) -> tuple[Versions, Ints]:
        """Every version known at a moment of the bars with after < close <= until, and their opens.

        Ascending by close, row, known time. Steps are those in force with the version: 1 where none was ever stated.
        """
        data = self.dataset
        first, last = np.searchsorted(data.close_ns, (after_ns, min(until_ns, known_at_ns)), side="right")
        place, days = np.nonzero(data.present[rows, first:last])
        days += first
        at = (rows[place], days)
        loaded = Versions(
            stream=np.full(len(days), -1),
            row=at[0],
            ts_event_ns=data.close_ns[days],
            known_at_ns=data.close_ns[days],
            step=data.step[at],
            split_step=data.split_step[at],
            **{name: values[at] for name, values in data.bars.items()},
        )
        late = self._log.of(rows, known_at_ns)
        late = late.take((late.ts_event_ns > after_ns) & (late.ts_event_ns <= until_ns))
        found = Versions.joined(loaded, late)
        found = found.take(np.lexsort((found.known_at_ns, found.row, found.ts_event_ns)))
        for column in (found.step, found.split_step):
            for i in np.flatnonzero(column == 0.0).tolist():  # says nothing: as in the version before
                same = i and (found.row[i - 1], found.ts_event_ns[i - 1]) == (found.row[i], found.ts_event_ns[i])
                column[i] = column[i - 1] if same else 1.0
        opens = dict(zip(data.close_ns.tolist(), data.open_ns.tolist(), strict=True)) if len(late) else {}
        if not opens:
            return found, data.open_ns[np.searchsorted(data.close_ns, found.ts_event_ns)]
        opens |= self._open_ns
        return found, np.array([opens[close] for close in found.ts_event_ns.tolist()], dtype=np.int64)

    def _overlaid(self, found: Bars, rows: Ints, known_at_ns: int, after_ns: int, until_ns: int) -> Bars:
        known = self._log.known(rows, known_at_ns)
        inside = (known.ts_event_ns > after_ns) & (known.ts_event_ns <= until_ns)
        if not inside.any():
            return found
        events = known.ts_event_ns[inside]
        close_ns = np.union1d(found.close_ns, events)
        place = np.searchsorted(close_ns, found.close_ns)

        def spread(values: NDArray[S], empty: float) -> NDArray[S]:
            wider: NDArray[S] = np.full((len(rows), len(close_ns)), empty, dtype=values.dtype)
            wider[:, place] = values
            return wider

        order = np.argsort(rows)
        at = (order[np.searchsorted(rows, known.row[inside], sorter=order)], np.searchsorted(close_ns, events))
        new = known.newest.take(inside)
        present, known_at = spread(found.present, False), spread(found.known_at_ns, 0)
        present[at], known_at[at] = True, new.known_at_ns
        exact = {name: spread(values, 0) for name, values in found.exact.items()}
        for name in EXACT:
            exact[name][at] = getattr(new, name)
        step, split_step = spread(found.step, 1.0), spread(found.split_step, 1.0)
        for matrix, stated in ((step, known.step[inside]), (split_step, known.split_step[inside])):
            matrix[at] = np.where(np.isnan(stated), matrix[at], stated)
        open_ns = np.array([self._open_ns.get(close, 0) for close in close_ns.tolist()], dtype=np.int64)
        open_ns[place] = found.open_ns
        return Bars(
            open_ns=open_ns,
            close_ns=close_ns,
            present=present,
            loaded=spread(found.loaded, False),
            known_at_ns=known_at,
            exact=exact,
            step=step,
            split_step=split_step,
        )
