"""Adjustment for splits and dividends, point in time.

The source gives adj_close, a close scaled by every action up to the day the file was made. Only the
*steps* of adj_close / close from one bar to the next are used: a step is known at the close of its own
bar, so a cut at as_of needs, and can be influenced by, nothing after as_of. A later action rescales
all of adj_close and leaves every step as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_services.kit.convert import decimal

from .findings import Finding, Kind
from .reading import Rows

Floats = NDArray[np.float64]

_PLACES = 9
_NOISE = 1e-8
_DIVIDEND = 2e-4
_SPLIT_TOLERANCE = 1e-4
_LARGEST_DIVIDEND = 0.05
_SUSPECT_TOLERANCE = 0.02
# New shares for old ones. A stock dividend below 5:4 cannot be told from a cash dividend.
_FORWARD = (
    1.25,
    4 / 3,
    1.5,
    5 / 3,
    2.0,
    2.5,
    *map(float, range(3, 11)),
    12.0,
    15.0,
    20.0,
    25.0,
    30.0,
    40.0,
    50.0,
    100.0,
)
_RATIOS = np.array(sorted([*_FORWARD, *(1.0 / ratio for ratio in _FORWARD)]))
# For jumps that adj_close does not explain only the common ratios are told apart from a bad day.
_SUSPECT = np.array([2.0, 3.0, 4.0, 5.0, 10.0, 0.5, 1 / 3, 0.25, 0.2, 0.1])


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Per row: by how much the adjustment factor grows at this bar, and the part of it that is a split.

    Both are 1 where nothing happened and on the first bar of an instrument.
    """

    total: Floats
    split: Floats


def steps(rows: Rows) -> Steps:
    """Steps of rows ordered by instrument and day."""
    total = np.ones(len(rows))
    factor = rows.adj_close / (rows.close / 1e9)
    following = np.flatnonzero(np.diff(rows.instrument) == 0) + 1
    # Rounding makes the step the same whatever later actions have scaled adj_close by.
    total[following] = np.round(factor[following] / factor[following - 1], _PLACES)
    total[np.abs(total - 1.0) <= _NOISE] = 1.0
    split = np.ones(len(rows))
    large = np.flatnonzero(np.abs(np.log(total)) > np.log(1.2))
    nearest = _nearest(total[large], _RATIOS)
    rest = total[large] / nearest
    exact = np.abs(rest - 1.0) <= _SPLIT_TOLERANCE
    with_dividend = (rest > 1.0) & (rest < 1.0 + _LARGEST_DIVIDEND) & (np.abs(np.log(nearest)) > np.log(1.45))
    split[large] = np.where(exact | with_dividend, nearest, 1.0)
    total[large[exact]] = nearest[exact]
    return Steps(total=total, split=split)


def findings(rows: Rows, found: Steps, names: tuple[str, ...]) -> Iterator[Finding]:
    """Splits and dividends that were adjusted for, and jumps that look like a split nobody adjusted for."""
    dividend = found.total / found.split
    for i in np.flatnonzero((found.split != 1.0) | (np.abs(dividend - 1.0) > _DIVIDEND)).tolist():
        before, after = decimal(int(rows.close[i - 1])), decimal(int(rows.close[i]))
        closes = f"close {before} then {after}, adj_close {rows.adj_close[i - 1]:.6g} then {rows.adj_close[i]:.6g}"
        common = {"instrument_id": names[rows.instrument[i]], "day": int(rows.day[i])}
        if found.split[i] != 1.0:
            yield Finding(
                kind=Kind.SPLIT,
                action="Earlier prices and volumes in snapshots are adjusted; bars and marks stay as traded.",
                detail=f"{_ratio(found.split[i])}: {closes}",
                **common,
            )
        if abs(dividend[i] - 1.0) > _DIVIDEND:
            yield Finding(
                kind=Kind.DIVIDEND,
                action="Earlier prices in snapshots are adjusted; bars, marks and volumes stay as traded.",
                detail=f"factor {dividend[i]:.6f}: {closes}",
                **common,
            )
    yield from _suspected(rows, found, names)


def _suspected(rows: Rows, found: Steps, names: tuple[str, ...]) -> Iterator[Finding]:
    jump = np.ones(len(rows))
    following = np.flatnonzero(np.diff(rows.instrument) == 0) + 1
    jump[following] = rows.close[following - 1] / rows.open[following]
    large = np.flatnonzero((np.abs(np.log(jump)) > np.log(1.9)) & (found.split == 1.0))
    nearest = _nearest(jump[large], _SUSPECT)
    near = np.abs(jump[large] / nearest - 1.0) <= _SUSPECT_TOLERANCE
    for i, ratio in zip(large[near].tolist(), nearest[near].tolist(), strict=True):
        yield Finding(
            instrument_id=names[rows.instrument[i]],
            day=int(rows.day[i]),
            kind=Kind.SPLIT,
            action="Not adjusted, only suspected: adj_close jumps as well. Correct adj_close if it was a split.",
            detail=f"about {_ratio(ratio)}: close {decimal(int(rows.close[i - 1]))} "
            f"then open {decimal(int(rows.open[i]))}",
        )


def _nearest(values: Floats, choices: Floats) -> Floats:
    distance = np.abs(np.log(values)[:, None] - np.log(choices)[None, :])
    picked: Floats = choices[np.argmin(distance, axis=1)]
    return picked


def _ratio(value: float) -> str:
    for old in range(1, 101):
        new = value * old
        if abs(new - round(new)) < 1e-6:
            return f"{round(new)}:{old}"
    return f"{value:.6f}:1"
