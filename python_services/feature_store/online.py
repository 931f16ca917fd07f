"""The newest values of one feature set in memory, for inference: an array, refreshed when bars come in. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import historical, logic
from .bars import Bars, Ints
from .definitions import Floats
from .historical import Rows
from .logic import Computable


class Online:
    """Rows of the instruments that were asked for, each as of the newest moment of its bars."""

    def __init__(self, features: Sequence[Computable]) -> None:
        self.features = tuple(features)
        self._longest = logic.longest(self.features)
        self._row: dict[str, int] = {}
        self._bars: list[Bars | None] = []
        self._values: Floats = np.empty((0, len(self.features)))
        self._event: Ints = np.empty(0, dtype=np.int64)
        self._known: Ints = np.empty(0, dtype=np.int64)
        self._moment: Ints = np.empty(0, dtype=np.int64)
        self._generation = -1
        self._maximum_age = np.array([feature.maximum_age_ns for feature in self.features], dtype=np.int64)
        self._youngest_limit = int(self._maximum_age.min())

    def read(
        self, instrument_ids: Sequence[str], known_at_ns: int, get: Callable[[str], Bars], generation: int
    ) -> tuple[Rows, int]:
        """Rows as of `known_at_ns`, and how many of their values are absent because they are stale.

        get: bars of an instrument, as of `generation`. A cut before an instrument's newest moment is computed as a
        past one is.
        """
        if generation != self._generation or any(name not in self._row for name in instrument_ids):
            self._refresh(instrument_ids, get)
            self._generation = generation
        index = np.array([self._row[name] for name in instrument_ids], dtype=np.intp)
        if not (self._moment[index] <= known_at_ns).all():
            return self._past([get(name) for name in instrument_ids], known_at_ns)
        found = Rows(values=self._values[index], event_ns=self._event[index], known_ns=self._known[index])
        if known_at_ns - int(found.event_ns.min()) <= self._youngest_limit:
            return found, 0
        return found.fresh(self.features, np.full(len(index), known_at_ns, dtype=np.int64))

    def _past(self, bars: Sequence[Bars], known_at_ns: int) -> tuple[Rows, int]:
        cuts = np.full(1, known_at_ns, dtype=np.int64)
        parts = [historical.at_moments(self.features, each, cuts) for each in bars]
        found = Rows(
            values=np.concatenate([part.values for part in parts]),
            event_ns=np.concatenate([part.event_ns for part in parts]),
            known_ns=np.concatenate([part.known_ns for part in parts]),
        )
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
        for name, row in self._row.items():
            bars = get(name)
            if bars is self._bars[row] or not len(bars):
                continue
            self._bars[row] = bars
            newest = bars.moments[-1:]
            made = historical.at_moments(self.features, bars, newest)
            self._values[row], self._moment[row] = made.values[0], newest[0]
            self._event[row], self._known[row] = made.event_ns[0], made.known_ns[0]
