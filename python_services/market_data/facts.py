"""What companies had filed by a moment, as GetFacts answers it. Pure.

An answer holds, of each number, the newest version that was filed, for the periods of the last years of each company.
It changes when something is filed or a share is split, not from bar to bar, so the last few answers are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from python_services.kit import facts_table
from python_services.kit.facts import Fact
from python_services.kit.ids import content_id

from .universe import Splits

Ints = NDArray[np.int64]

# Three years and a quarter: two changes from year to year, the last of them of a year that ended nine months ago.
REACH_DAYS = 1_190
_KEPT, _UNIVERSES = 4, 8
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class FactsCut:
    """An answer of GetFacts, and its hash."""

    sha256: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class _Universe:
    """Facts of some instruments: rows of the table, ascending by instrument, number and filing; `known`: sorted."""

    rows: Ints
    instrument: Ints
    number: Ints
    known: Ints


class CompanyFacts:
    """Every fact of the listed instruments, as columns."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        ordered = sorted(facts, key=lambda f: (f.instrument_id, f.tag, f.months, f.end, f.known_at_ns, f.accession))
        numbers: dict[tuple[str, str, int, date], int] = {}
        self._number = np.array([numbers.setdefault(fact[:4], len(numbers)) for fact in ordered], dtype=np.int64)
        self._columns: dict[str, Ints] = {
            "months": np.array([fact.months for fact in ordered], dtype=np.int64),
            "end": np.array([(fact.end - _EPOCH).days for fact in ordered], dtype=np.int32),
            "value": np.array([fact.value for fact in ordered], dtype=np.int64),
            "known_at_ns": np.array([fact.known_at_ns for fact in ordered], dtype=np.int64),
        }
        self._texts: dict[str, tuple[Ints, list[str]]] = {}
        for name in facts_table.TEXTS:
            values = [getattr(fact, name) for fact in ordered]
            distinct = sorted(set(values))
            place = {text: code for code, text in enumerate(distinct)}
            self._texts[name] = np.array([place[value] for value in values], dtype=np.int64), distinct
        self._rows: dict[str, Ints] = {}
        ids = np.array([fact.instrument_id for fact in ordered], dtype=object)
        for name in sorted(set(ids.tolist())):
            self._rows[name] = np.flatnonzero(ids == name)
        self._universes: OrderedDict[tuple[str, ...], _Universe] = OrderedDict()
        self._kept: OrderedDict[tuple[tuple[str, ...], int, bytes], FactsCut] = OrderedDict()

    def __len__(self) -> int:
        return len(self._number)

    def cut(self, instrument_ids: tuple[str, ...], as_of_ns: int, splits: Splits) -> FactsCut | None:
        """What was filed about some instruments; None when nothing was. `splits`: those known at as_of."""
        universe = self._universe(instrument_ids)
        filed = int(np.searchsorted(universe.known, as_of_ns, side="right"))
        if not filed:
            return None
        key = instrument_ids, filed, b"".join(part.tobytes() for part in (splits.close_ns, splits.row, splits.ratio))
        found = self._kept.get(key)
        if found is None:
            content = self._content(universe, as_of_ns, splits)
            found = self._kept[key] = FactsCut(sha256=content_id(content), content=content)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def _universe(self, instrument_ids: tuple[str, ...]) -> _Universe:
        universe = self._universes.get(instrument_ids)
        if universe is None:
            none: Ints = np.empty(0, dtype=np.int64)
            parts = [self._rows.get(name, none) for name in instrument_ids]
            rows = np.concatenate(parts)
            universe = self._universes[instrument_ids] = _Universe(
                rows=rows,
                instrument=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
                number=self._number[rows],
                known=np.sort(self._columns["known_at_ns"][rows]),
            )
        self._universes.move_to_end(instrument_ids)
        while len(self._universes) > _UNIVERSES:
            self._universes.popitem(last=False)
        return universe

    def _content(self, universe: _Universe, as_of_ns: int, splits: Splits) -> bytes:
        visible = np.flatnonzero(self._columns["known_at_ns"][universe.rows] <= as_of_ns)
        # Versions of a number stand in the order of their filing: the last visible one of each counts.
        number = universe.number[visible]
        newest = visible[np.append(number[1:] != number[:-1], True)]
        instrument = universe.instrument[newest]
        end = self._columns["end"][universe.rows[newest]]
        first = np.flatnonzero(np.append(True, instrument[1:] != instrument[:-1]))
        last_end = np.repeat(np.maximum.reduceat(end, first), np.diff(np.append(first, len(end))))
        kept = end >= last_end - REACH_DAYS
        rows, instrument = universe.rows[newest[kept]], instrument[kept]
        columns = {name: values[rows] for name, values in self._columns.items()}
        ratio = np.ones(len(rows))
        for row, close_ns, step in zip(splits.row.tolist(), splits.close_ns, splits.ratio, strict=True):
            its = slice(*np.searchsorted(instrument, (row, row + 1)))
            ratio[its] *= np.where(columns["known_at_ns"][its] < close_ns, step, 1.0)
        texts = {}
        for name, (codes, distinct) in self._texts.items():
            # Only names that occur: those of later filings are not known yet.
            occurs = np.zeros(len(distinct), dtype=np.bool_)
            occurs[codes[rows]] = True
            place = np.cumsum(occurs, dtype=np.int32) - 1
            texts[name] = place[codes[rows]], tuple(distinct[code] for code in np.flatnonzero(occurs).tolist())
        return facts_table.encode({**columns, "instrument_index": instrument, "split_ratio": ratio}, texts)
