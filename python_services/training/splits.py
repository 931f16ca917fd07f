"""Splits in time without leaks: combinatorial purged cross-validation with an embargo, and walk-forward.

Rows are placed by the index of their bar; several instruments share one. The label of bar t covers bars t to
t + horizon. A row is purged when its label overlaps that of a tested row; the embargo takes `embargo` bars more after
each tested group, because returns are autocorrelated. Source: López de Prado 2018, chapters 7 and 12.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows to train on and to test on. `purged`: rows in neither, taken out by purging and embargo."""

    test_groups: tuple[int, ...]
    train: Ints
    test: Ints
    purged: int


def group_bounds(bars: int, groups: int) -> list[tuple[int, int]]:
    """First and last bar of each group, in time order; sizes differ by one at most."""
    edges = np.linspace(0, bars, groups + 1).round().astype(int)
    return [(int(first), int(after) - 1) for first, after in pairwise(edges)]


def count(groups: int, test_groups: int) -> int:
    """How many splits there are."""
    return comb(groups, test_groups)


def combinatorial(bar: Ints, bars: int, groups: int, test_groups: int, horizon: int, embargo: int) -> Iterator[Split]:
    """Every choice of `test_groups` out of `groups`, in lexical order. bar: bar index of each row, 0 to bars - 1."""
    bounds = group_bounds(bars, groups)
    for chosen in combinations(range(groups), test_groups):
        tested, kept_out = np.zeros(bars, dtype=bool), np.zeros(bars, dtype=bool)
        for group in chosen:
            first, last = bounds[group]
            tested[first : last + 1] = True
            kept_out[max(first - horizon, 0) : last + horizon + embargo + 1] = True
        train = np.flatnonzero(~kept_out[bar])
        test = np.flatnonzero(tested[bar])
        yield Split(test_groups=chosen, train=train, test=test, purged=len(bar) - len(train) - len(test))


def walk_forward(bar: Ints, bars: int, folds: int, first_train: int, horizon: int, embargo: int) -> Iterator[Split]:
    """`folds` tests in time order after `first_train` bars, each trained on all that was known well before it."""
    for number, (first, last) in enumerate(group_bounds(bars - first_train, folds)):
        start, end = first_train + first, first_train + last
        train = np.flatnonzero(bar < start - horizon - embargo)
        test = np.flatnonzero((bar >= start) & (bar <= end))
        earlier = int(np.count_nonzero(bar < start))
        yield Split(test_groups=(number,), train=train, test=test, purged=earlier - len(train))
