"""What companies had filed by a moment, as GetFacts answers it. Pure.

The table of a company holds, of each number, the newest version that was filed, for the periods of its last years. It
changes when the company files something or its share is split, so a cut makes only the tables that differ from those of
the cut before, and hashes the list of all their hashes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit.facts import Fact
from python_services.kit.facts_table import NOTHING, hash_of, hashes_in
from python_services.kit.ids import content_id

from .universe import Splits

Ints = NDArray[np.int64]
Step = tuple[int, int, float]  # a split: row of the instrument, close of its day, new shares for one old

# Three years and a quarter: two changes from year to year, the last of them of a year that ended nine months ago.
REACH_DAYS = 1_190
ANSWER_BYTES = 16 * 1024 * 1024
_KEPT, _UNIVERSES = 4, 8
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, kw_only=True)
class FactsCut:
    """A table for each instrument of a snapshot, and its hash; no bytes and NOTHING where nothing was filed.

    company_sha256: the hashes, one after the other. sha256: the hash of that, hex.
    """

    tables: tuple[bytes, ...]
    hashes: tuple[bytes, ...]
    company_sha256: bytes
    sha256: str

    def lacking(self, held_sha256: bytes) -> list[bytes]:
        """Tables with none of these hashes: all of them, or the first ones, up to ANSWER_BYTES and one at least."""
        held = {*hashes_in(held_sha256), NOTHING}
        found: list[bytes] = []
        size = 0
        for table, hash_ in zip(self.tables, self.hashes, strict=True):
            if hash_ in held:
                continue
            size += len(table)
            if found and size > ANSWER_BYTES:
                break
            held.add(hash_)
            found.append(table)
        return found


class CompanyFacts:
    """Every fact of the listed instruments, as columns: ascending by instrument, number and filing."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        columns = zip(*facts, strict=True) if facts else iter([()] * len(Fact._fields))
        names, tags, months, ends, values, known, forms, accessions = map(list, columns)
        instrument, self._names = _coded(names)
        tag, self.tags = _coded(tags)
        filing, self.filings = _coded(list(zip(known, accessions, forms, strict=True)))
        end = np.array([day.toordinal() - _EPOCH for day in ends], dtype=np.int64)
        order = np.lexsort((filing, end, _ints(months), tag, instrument))
        self.tag, self.filing, self.end = tag[order], filing[order], end[order]
        self.months, self.value, self.known = (_ints(column)[order] for column in (months, values, known))
        of_number = (instrument[order], self.tag, self.months, self.end)
        differs = np.logical_or.reduce([column[1:] != column[:-1] for column in of_number])
        self.number = np.append(0, np.cumsum(differs))  # the same for all versions of a number
        starts = np.searchsorted(of_number[0], np.arange(len(self._names) + 1)).tolist()
        self._rows = {name: slice(*starts[i : i + 2]) for i, name in enumerate(self._names)}
        self._universes: OrderedDict[tuple[str, ...], _Universe] = OrderedDict()

    def __len__(self) -> int:
        return len(self.value)

    def rows(self, instrument_id: str) -> slice:
        """Where the facts of an instrument are."""
        return self._rows.get(instrument_id, slice(0, 0))

    def cut(self, instrument_ids: tuple[str, ...], as_of_ns: int, splits: Splits) -> FactsCut | None:
        """What was filed about some instruments; None when nothing was. `splits`: those known at as_of."""
        universe = self._universes.get(instrument_ids)
        if universe is None:
            universe = self._universes[instrument_ids] = _Universe(self, instrument_ids)
        self._universes.move_to_end(instrument_ids)
        while len(self._universes) > _UNIVERSES:
            self._universes.popitem(last=False)
        return universe.cut(as_of_ns, splits)

    def table(self, rows: slice, as_of_ns: int, steps: Iterable[Step]) -> bytes:
        """The table of the company whose facts these are; no bytes where nothing is visible. `steps`: oldest first."""
        visible = rows.start + np.flatnonzero(self.known[rows] <= as_of_ns)
        if not len(visible):
            return b""
        # Versions of a number stand in the order of their filing: the last visible one of each counts.
        number = self.number[visible]
        newest = visible[np.append(number[1:] != number[:-1], True)]
        end = self.end[newest]
        kept = newest[end >= end.max() - REACH_DAYS]
        # Only names that occur: those of later filings are not known yet.
        tag, months = self.tag[kept], self.months[kept]
        start = np.append(0, 1 + np.flatnonzero((tag[1:] != tag[:-1]) | (months[1:] != months[:-1])))
        tags, series_tag = np.unique(tag[start], return_inverse=True)
        filings, filing = np.unique(self.filing[kept], return_inverse=True)
        table = marketdata_pb2.FactsTable(
            tag_names=[self.tags[code] for code in tags.tolist()],
            series_tag=series_tag.tolist(),
            series_months=months[start].tolist(),
            series_start=start.tolist(),
            end=self.end[kept].tolist(),
            value=self.value[kept].tolist(),
            filing=filing.tolist(),
        )
        for code in filings.tolist():
            known_at_ns, accession, form = self.filings[code]
            ratio = 1.0
            for _, close_ns, step in steps:
                ratio *= step if known_at_ns < close_ns else 1.0
            table.filings.add(accession=accession, form=form, known_at_ns=known_at_ns, split_ratio=ratio)
        return table.SerializeToString(deterministic=True)


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A cut, and what it was made of: the moments visible of each instrument, and the splits known."""

    moments: Ints
    steps: tuple[Step, ...]
    cut: FactsCut


class _Universe:
    """Cuts of the facts of the same instruments."""

    def __init__(self, facts: CompanyFacts, instrument_ids: tuple[str, ...]) -> None:
        self._facts = facts
        self._rows = [facts.rows(name) for name in instrument_ids]
        moments = [np.unique(facts.known[rows]) for rows in self._rows]
        instrument = np.repeat(np.arange(len(moments)), [len(each) for each in moments])
        order = np.argsort(np.concatenate(moments), kind="stable")
        self._moment_ns, self._instrument = np.concatenate(moments)[order], instrument[order]
        self._kept: OrderedDict[Hashable, _Made] = OrderedDict()

    def cut(self, as_of_ns: int, splits: Splits) -> FactsCut | None:
        """See CompanyFacts.cut."""
        visible = int(np.searchsorted(self._moment_ns, as_of_ns, side="right"))
        if not visible:
            return None
        # With as many moments visible, and the same splits, all tables are the same.
        key = visible, *(part.tobytes() for part in (splits.close_ns, splits.row, splits.ratio))
        made = self._kept.get(key)
        if made is None:
            newest = next(reversed(self._kept.values()), None)
            made = self._kept[key] = self._make(as_of_ns, visible, splits, newest)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return made.cut

    def _make(self, as_of_ns: int, visible: int, splits: Splits, like: _Made | None) -> _Made:
        moments = np.bincount(self._instrument[:visible], minlength=len(self._rows))
        steps = tuple(zip(splits.row.tolist(), splits.close_ns.tolist(), splits.ratio.tolist(), strict=True))
        if like is None:
            other = set(range(len(self._rows)))
            tables, hashes = [b""] * len(self._rows), [NOTHING] * len(self._rows)
        else:
            other = set(np.flatnonzero(moments != like.moments).tolist())
            other |= {step[0] for step in set(steps) ^ set(like.steps)}
            tables, hashes = list(like.cut.tables), list(like.cut.hashes)
        for i in other:
            tables[i] = self._facts.table(self._rows[i], as_of_ns, [step for step in steps if step[0] == i])
            hashes[i] = hash_of(tables[i]) if tables[i] else NOTHING
        listed = b"".join(hashes)
        cut = FactsCut(tables=tuple(tables), hashes=tuple(hashes), company_sha256=listed, sha256=content_id(listed))
        return _Made(moments=moments, steps=steps, cut=cut)


def _ints(values: list[Any]) -> Ints:
    return np.array(values, dtype=np.int64)


def _coded(values: list[Any]) -> tuple[Ints, list[Any]]:
    """Of each value the position among the distinct ones, and these, ascending."""
    distinct = sorted(set(values))
    place = {value: code for code, value in enumerate(distinct)}
    return _ints([place[value] for value in values]), distinct
