"""Rows at many cuts: each as it would have been served online at its own time. Pure, but for the store of past rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from . import logic
from .bars import At, Bars, Ints
from .definitions import Floats
from .joins import asof_positions
from .logic import Computable

CHUNK = 2048  # cuts in one window: about 20 MB

Stored = Callable[[str, Bars, Ints], tuple[Ints, Floats]]


class TooEarlyError(ValueError):
    """Nothing was known of an instrument at a cut."""

    def __init__(self, instrument_id: str, cut_ns: int, first_ns: int) -> None:
        super().__init__(f"nothing was known of {instrument_id} at {cut_ns}")
        self.instrument_id = instrument_id
        self.cut_ns = cut_ns
        self.first_ns = first_ns


@dataclass(frozen=True, kw_only=True)
class Rows:
    """values: rows x features, NaN where there is none; times of the newest bar that each row was computed from."""

    values: Floats
    event_ns: Ints
    known_ns: Ints

    @staticmethod
    def joined(parts: Sequence[Rows]) -> Rows:
        """All of them, in this order."""
        return Rows(
            values=np.concatenate([part.values for part in parts]),
            event_ns=np.concatenate([part.event_ns for part in parts]),
            known_ns=np.concatenate([part.known_ns for part in parts]),
        )

    def fresh(self, features: Sequence[Computable], now_ns: Ints) -> tuple[Rows, int]:
        """The rows without values that are older than their feature's maximum age, and how many those are."""
        ages = np.array([feature.maximum_age_ns for feature in features], dtype=np.int64)
        if (now_ns - self.event_ns).max(initial=0) <= ages.min():
            return self, 0
        stale = (now_ns - self.event_ns)[:, None] > ages
        stale &= ~np.isnan(self.values)
        count = int(np.count_nonzero(stale))
        if not count:
            return self, 0
        return Rows(values=np.where(stale, np.nan, self.values), event_ns=self.event_ns, known_ns=self.known_ns), count


def at_moments(features: Sequence[Computable], bars: Bars, cuts: Ints) -> Rows:
    """Rows of one instrument at any cuts, computed."""
    return at_many(features, [(bars, cuts)])


def at_many(features: Sequence[Computable], asked: Iterable[tuple[Bars, Ints]]) -> Rows:
    """Rows of instruments at any cuts, computed together: one instrument's cuts after the other's."""
    length = logic.longest(features)
    parts: list[Rows] = []
    waiting: list[At] = []
    for bars, cuts in asked:
        for start in range(0, len(cuts), CHUNK):
            waiting.append(bars.at(cuts[start : start + CHUNK], length))
            if sum(len(at.held) for at in waiting) >= CHUNK:
                parts.append(_computed(features, waiting))
                waiting = []
    if waiting or not parts:
        parts.append(_computed(features, waiting))
    return parts[0] if len(parts) == 1 else Rows.joined(parts)


def _computed(features: Sequence[Computable], parts: list[At]) -> Rows:
    if not parts:
        nothing = np.empty(0, dtype=np.int64)
        return Rows(values=np.empty((0, len(features))), event_ns=nothing, known_ns=nothing)
    at = parts[0] if len(parts) == 1 else At.joined(parts)
    return Rows(values=logic.compute(features, at.window, at.held), event_ns=at.event_ns, known_ns=at.known_ns)


def rows(
    features: Sequence[Computable],
    market: Mapping[str, Bars],
    instrument_ids: Sequence[str],
    cuts: Ints,
    stored: Stored | None = None,
) -> Rows:
    """One row for each (instrument, cut). Raises TooEarlyError.

    Values can change only when something became known, so each row is joined to the newest moment by its cut, and each
    moment is looked up in `stored`, or computed, once. `stored(instrument, bars, moments)` answers with the positions
    of the moments that it has, and their values.
    """
    names = sorted(set(instrument_ids))
    number = {name: i for i, name in enumerate(names)}
    keys = np.array([number[name] for name in instrument_ids], dtype=np.int64)
    all_moments = [market[name].moments for name in names]
    offsets = np.concatenate([[0], np.cumsum([len(moments) for moments in all_moments])]).astype(np.int64)
    positions = asof_positions(keys, cuts, offsets, np.concatenate(all_moments))
    if len(positions) and positions.min() < 0:
        row = int(np.argmin(positions))
        moments = all_moments[int(keys[row])]
        raise TooEarlyError(instrument_ids[row], int(cuts[row]), int(moments[0]) if len(moments) else 0)
    needed, place = np.unique(positions, return_inverse=True)
    bounds = np.searchsorted(needed, offsets)
    values = np.empty((len(needed), len(features)))
    event_ns, known_ns = np.empty(len(needed), dtype=np.int64), np.empty(len(needed), dtype=np.int64)
    missing: list[tuple[Bars, Ints]] = []
    absent: list[Ints] = []
    for i, name in enumerate(names):
        part = slice(int(bounds[i]), int(bounds[i + 1]))
        moments = all_moments[i][needed[part] - offsets[i]]
        bars = market[name]
        left = np.arange(len(moments))
        if stored is not None:
            found, held = stored(name, bars, moments)
            if len(found):
                values[part][found] = held
                at = bars.at(moments[found], 1)
                event_ns[part][found], known_ns[part][found] = at.event_ns, at.known_ns
                left = np.setdiff1d(left, found, assume_unique=True)
        if len(left):
            missing.append((bars, moments[left]))
            absent.append(left + part.start)
    if missing:
        made, at_rows = at_many(features, missing), np.concatenate(absent)
        values[at_rows], event_ns[at_rows], known_ns[at_rows] = made.values, made.event_ns, made.known_ns
    return Rows(values=values[place], event_ns=event_ns[place], known_ns=known_ns[place])
