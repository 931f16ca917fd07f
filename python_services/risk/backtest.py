"""Did the forecasts hold? Value at risk at each valuation against what the positions then made. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from execution_core.risk import backtest as core
from python_services.kit.snapshots import Snapshot

from .analysis import Tail
from .holdings import columns

Vector = NDArray[np.float64]
LikelihoodTest: TypeAlias = core.Test


@dataclass(frozen=True, kw_only=True)
class Day:
    """One forecast and its outcome: `tails` made at `forecast_ns`, gain (share of equity) until `realized_ns`."""

    forecast_ns: int
    realized_ns: int
    gain: float
    tails: tuple[Tail, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One method at one level over all days. Tests are None when there are too few days."""

    tail: Tail  # of the first day: method, variant and level
    forecasts: Vector
    exceptions: int
    expected: float
    coverage: LikelihoodTest | None
    independence: LikelihoodTest | None
    conditional: LikelihoodTest | None
    zone: int


def gain(names: tuple[str, ...], weights: Vector, since_ns: int, after: Snapshot) -> float | None:
    """What `weights` made from the last bar at or before `since_ns` to the last bar of `after`.

    By adjusted closes of the later snapshot, so a split is no loss; None when a price is missing.
    """
    close = columns(after.close, after, names)
    bars = int(np.searchsorted(after.ts_event_ns, since_ns, side="right"))
    before, later = _last(close[:bars]), _last(close)
    if not (np.isfinite(before).all() and np.isfinite(later).all()):
        return None
    return float(weights @ (later / before - 1.0))


def _last(close: NDArray[np.float64]) -> Vector:
    """The last known close of each column; NaN where there is none."""
    found: Vector = np.full(close.shape[1], np.nan)
    for row in close:
        np.copyto(found, row, where=np.isfinite(row))
    return found


def results(days: Sequence[Day]) -> list[Result]:
    """The tests of every method and level; each day has the same ones, in the same order."""
    if not days:
        return []
    losses = -np.array([day.gain for day in days])
    found: list[Result] = []
    for i, first in enumerate(days[0].tails):
        forecasts = np.array([day.tails[i].var for day in days], dtype=np.float64)
        hits = core.exceptions(losses, forecasts)
        independence, conditional = (None, None) if hits.size < 2 else core.christoffersen(hits, first.level)
        found.append(
            Result(
                tail=first,
                forecasts=forecasts,
                exceptions=int(hits.sum()),
                expected=hits.size * (1.0 - first.level),
                coverage=core.kupiec(hits, first.level),
                independence=independence,
                conditional=conditional,
                zone=int(core.traffic_light(hits, first.level).zone),
            )
        )
    return found
