"""Whether numbers come from another distribution than before: PSI, Kolmogorov-Smirnov, ADWIN. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]
Table: TypeAlias = NDArray[np.float64]
BINS = 10
BY_CHANCE = 0.01


@dataclass(frozen=True)
class Bins:
    """For each column of a table: parts of the line that hold equal shares of its numbers.

    edges: columns x inner edges, infinite past the last one; sizes: parts of each column; shares: columns x parts.
    """

    edges: Table
    sizes: NDArray[np.int64]
    shares: Table

    @classmethod
    def of(cls, reference: Table, bins: int = BINS) -> Bins:
        """Those of `reference`, rows x columns."""
        found = [
            np.unique(column) for column in np.quantile(reference, np.linspace(0.0, 1.0, bins + 1)[1:-1], axis=0).T
        ]
        edges = np.full((len(found), bins - 1), np.inf)
        for row, inner in zip(edges, found, strict=True):
            row[: len(inner)] = inner
        sizes = np.array([len(inner) + 1 for inner in found])
        return cls(edges, sizes, _shares(edges, sizes, reference))

    def psi(self, current: Table) -> Vector:
        """Population stability index of each column of `current` (rows x columns) against the reference."""
        found = _shares(self.edges, self.sizes, current)
        terms = (found - self.shares) * np.log(found / self.shares)
        terms[np.arange(terms.shape[1]) >= self.sizes[:, None]] = 0.0
        return np.asarray(terms.sum(axis=1))


def _shares(edges: Table, sizes: NDArray[np.int64], values: Table) -> Table:
    """Half an observation is added to each part, so that an empty one has a finite logarithm."""
    columns = np.sort(values.T, axis=1)
    below = [column.searchsorted(inner) for column, inner in zip(columns, edges, strict=True)]
    counts = np.diff(np.array(below), axis=1, prepend=0, append=len(values))
    return np.asarray((counts + 0.5) / (len(values) + 0.5 * sizes[:, None]))


def psi_limit(base: float, reference: int, current: int, bins: int) -> float:
    """The larger of `base` and what chance alone passes once in a hundred times at these sizes.

    Without drift PSI / (1/n + 1/m) is chi-squared with bins - 1 degrees of freedom (Yurdakul and Naranjo 2020).
    """
    return max(base, _passed_by_chance(bins) * (1.0 / reference + 1.0 / current))


@cache
def _passed_by_chance(bins: int) -> float:
    from scipy.special import chdtri

    return float(chdtri(max(bins - 1, 1), BY_CHANCE))


def kolmogorov_smirnov(reference: Vector, current: Vector) -> tuple[float, float]:
    """(largest distance of the two distribution functions, asymptotic probability of it by chance)."""
    from scipy.special import kolmogorov

    first, second = np.sort(reference), np.sort(current)
    points = np.concatenate([first, second])
    distance = float(
        np.abs(
            np.searchsorted(first, points, side="right") / first.size
            - np.searchsorted(second, points, side="right") / second.size
        ).max()
    )
    effective = math.sqrt(first.size * second.size / (first.size + second.size))
    return distance, float(kolmogorov(effective * distance))


@dataclass(kw_only=True)
class Adwin:
    """Adaptive windowing (Bifet and Gavalda, SDM 2007, ADWIN2) over values in [0, 1].

    The window is kept as buckets of doubling size, `PER_ROW` of each, so memory and time are logarithmic. Where two
    parts of it have means that differ beyond chance, the older part is dropped; `delta` bounds false alarms.
    """

    delta: float = 0.002
    rows: list[deque[tuple[float, float]]] = field(default_factory=lambda: [deque()])  # (sum, squared deviations)
    count: int = 0
    total: float = 0.0
    seen: int = 0

    PER_ROW = 5
    EVERY = 32  # values between two looks
    SHORTEST = 5  # values of a part

    @property
    def mean(self) -> float:
        """Of the window."""
        return self.total / self.count if self.count else 0.0

    def extend(self, values: Sequence[float]) -> list[tuple[float, float]]:
        """Takes values; (mean before, mean now) for each time that the window was cut because of a change."""
        changes = []
        start = 0
        while start < len(values):
            part = values[start : start + self.EVERY - self.seen % self.EVERY]  # up to the next look
            start += len(part)
            self.rows[0].extend([(value, 0.0) for value in part])
            self.count += len(part)
            self.seen += len(part)
            for value in part:
                self.total += value
            self._compress()
            if self.seen % self.EVERY == 0 and self.count > 2 * self.SHORTEST and (change := self._cut()) is not None:
                changes.append(change)
        return changes

    def _compress(self) -> None:
        """Merges oldest buckets: as many as if every value had come alone."""
        for level, row in enumerate(self.rows):
            if len(row) <= self.PER_ROW:
                return
            if level + 1 == len(self.rows):
                self.rows.append(deque())
            size, above = 1 << level, self.rows[level + 1]
            while len(row) > self.PER_ROW:
                (sum_a, squares_a), (sum_b, squares_b) = row.popleft(), row.popleft()
                gap = (sum_a - sum_b) / size
                above.append((sum_a + sum_b, squares_a + squares_b + gap * gap * size / 2.0))

    def _buckets(self) -> list[tuple[int, int, float, float]]:
        """(level, size, sum, squared deviations), oldest first."""
        return [
            (level, 1 << level, total, squares)
            for level in range(len(self.rows) - 1, -1, -1)
            for total, squares in self.rows[level]
        ]

    def _cut(self) -> tuple[float, float] | None:
        change = None
        while (found := self._split()) is not None:
            change = (found if change is None else change[0]), 0.0
            level, size, total, _ = self._buckets()[0]
            self.rows[level].popleft()
            while len(self.rows) > 1 and not self.rows[-1]:
                self.rows.pop()
            self.count -= size
            self.total -= total
        return None if change is None else (change[0], self.mean)

    def _split(self) -> float | None:
        """Mean of the older part at the first split whose parts differ beyond chance."""
        buckets, mean, count, total = self._buckets(), self.mean, self.count, self.total
        spread = 0.0
        for _, size, part, squares in buckets:
            gap = part / size - mean
            spread += squares + size * (gap * gap)
        spread /= count
        confidence = math.log(2.0 * math.log(count) / self.delta)
        shortest, sqrt = self.SHORTEST, math.sqrt
        older, older_sum = 0, 0.0
        for _, size, part, _ in buckets[:-1]:
            older, older_sum = older + size, older_sum + part
            newer = count - older
            if older < shortest or newer < shortest:
                continue
            inverse = 1.0 / older + 1.0 / newer
            bound = sqrt(2.0 * inverse * spread * confidence) + 2.0 / 3.0 * inverse * confidence
            if abs(older_sum / older - (total - older_sum) / newer) > bound:
                return older_sum / older
        return None
