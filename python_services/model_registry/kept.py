"""A number for each row of the latest questions: answers that wait for their outcome, losses to be compared. Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np

from .observations import Floats, Rows


class Kept:
    """Rows are ascending. Past `limit` rows in all, the question that came first is forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._questions: OrderedDict[str, tuple[Rows, Floats]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Rows."""
        return self._count

    def __repr__(self) -> str:
        """By content: states are compared by what they print."""
        digest = hashlib.sha256()
        for key, (rows, values) in self._questions.items():
            digest.update(key.encode() + rows.tobytes() + values.tobytes())
        return f"Kept({self._count}, {digest.hexdigest()})"

    def put(self, key: str, rows: Rows, values: Floats) -> None:
        """Takes one value for each row; a row that is there gets the new one."""
        left, old = self._without(key, rows)
        if len(left):
            rows, values = np.concatenate([left, rows]), np.concatenate([old, values])
            order = np.argsort(rows)
            rows, values = rows[order], values[order]
        self._set(key, rows, values)
        while self._count > self._limit:
            self._count -= len(self._questions.popitem(last=False)[1][0])

    def get(self, key: str, rows: Rows) -> Floats:
        """The value of each row; NaN where there is none."""
        known, values = self._questions.get(key, _NOTHING)
        if np.array_equal(known, rows):
            return values
        found = np.full(len(rows), np.nan)
        _, there, here = np.intersect1d(known, rows, assume_unique=True, return_indices=True)
        found[here] = values[there]
        return found

    def pop(self, key: str, rows: Rows) -> Floats:
        """As `get`, and what was found is forgotten."""
        found = self.get(key, rows)
        if key in self._questions:
            self._set(key, *self._without(key, rows))
        return found

    def _without(self, key: str, rows: Rows) -> tuple[Rows, Floats]:
        known, values = self._questions.get(key, _NOTHING)
        if np.array_equal(known, rows):
            return _NOTHING
        left = ~np.isin(known, rows, assume_unique=True)
        return known[left], values[left]

    def _set(self, key: str, rows: Rows, values: Floats) -> None:
        self._count += len(rows) - len(self._questions.get(key, _NOTHING)[0])
        if len(rows):
            self._questions[key] = rows, values
        else:
            self._questions.pop(key, None)


_NOTHING: tuple[Rows, Floats] = np.empty(0, dtype=np.int64), np.empty(0)
