"""The newest values of one feature set in memory, for inference: an array, refreshed when bars come in. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from . import historical
from .bars import Bars, Ints
from .definitions import Floats
from .historical import Rows
from .logic import Computable

UNIVERSES = 64  # lists of instruments whose rows are kept


class Online:
    """Rows of the instruments that were asked for, each as of the newest moment of its bars."""

    def __init__(self, features: Sequence[Computable]) -> None:
        self.features = tuple(features)
        self._row: dict[str, int] = {}
        self._bars: list[Bars | None] = []
        self._values: Floats = np.empty((0, len(self.features)))
        self._event: Ints = np.empty(0, dtype=np.int64)
        self._known: Ints = np.empty(0, dtype=np.int64)
        self._moment: Ints = np.empty(0, dtype=np.int64)
        self._generation = -1
        self._index: dict[tuple[str, ...], NDArray[np.intp]] = {}
        self._maximum_age = np.array([feature.maximum_age_ns for feature in self.features], dtype=np.int64)
        self._youngest_limit = int(self._maximum_age.min())

    def read(
        self, instrument_ids: Sequence[str], known_at_ns: int, get: Callable[[str], Bars], generation: int
    ) -> tuple[Rows, int]:
        """Rows as of `known_at_ns`, and how many of their values are absent because they are stale.

        get: bars of an instrument, as of `generation`. A cut before an instrument's newest moment is computed as a
        past one is.
        """
        asked = tuple(instrument_ids)
        index = self._index.get(asked)
        if index is None or generation != self._generation:
            self._refresh(asked, get)
            self._generation = generation
            if len(self._index) >= UNIVERSES:
                self._index.clear()
            index = self._index[asked] = np.array([self._row[name] for name in asked], dtype=np.intp)
        if not (self._moment[index] <= known_at_ns).all():
            return self._past([get(name) for name in instrument_ids], known_at_ns)
        found = Rows(values=self._values[index], event_ns=self._event[index], known_ns=self._known[index])
        if known_at_ns - int(found.event_ns.min(initial=known_at_ns)) <= self._youngest_limit:
            return found, 0
        return found.fresh(self.features, np.full(len(index), known_at_ns, dtype=np.int64))

    def _past(self, bars: Sequence[Bars], known_at_ns: int) -> tuple[Rows, int]:
        cuts = np.full(1, known_at_ns, dtype=np.int64)
        found = historical.at_many(self.features, [(each, cuts) for each in bars])
        return found.fresh(self.features, np.full(len(bars), known_at_ns, dtype=np.int64))

    def _refresh(self, instrument_ids: Sequence[str], get: Callable[[str], Bars]) -> None:
        for name in instrument_ids:
            if name not in self._row:
                self._row[name] = len(self._bars)
                self._bars.append(None)
        more = len(self._bars) - len(self._values)
        if more:
            self._values = np.concatenate([self._values, np.full((more, len(self.features)), np.nan)])
            empty = np.zeros(more, dtype=np.int64)
            self._event, self._known, self._moment = (
                np.concatenate([column, empty]) for column in (self._event, self._known, self._moment)
            )
        changed: list[tuple[int, Bars]] = []
        for name, row in self._row.items():
            bars = get(name)
            if bars is not self._bars[row] and len(bars):
                self._bars[row] = bars
                changed.append((row, bars))
        if changed:
            made = historical.at_many(self.features, [(bars, bars.moments[-1:]) for _, bars in changed])
            rows = [row for row, _ in changed]
            self._values[rows], self._event[rows], self._known[rows] = made.values, made.event_ns, made.known_ns
            self._moment[rows] = [bars.moments[-1] for _, bars in changed]
