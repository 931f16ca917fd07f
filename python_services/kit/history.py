"""Returns from the closes of a snapshot, with what history there is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def usable_returns(close: Floats, minimum: int) -> tuple[NDArray[np.intp], Floats]:
    """(columns, returns): simple returns of the columns with at least `minimum` of them.

    close: bars x instruments, adjusted, oldest first, NaN where there is no bar. All columns share one
    window, which starts where the youngest of them does; inside it a gap carries the last close
    forward. Columns that never move are left out: they have no risk to estimate.
    returns: observations x columns.
    """
    bars = close.shape[0]
    known = np.isfinite(close)
    if known.size and known.all() and bars > max(minimum, 1):  # nearly always
        columns, window = np.arange(close.shape[1]), close
    else:
        first = np.where(known.any(axis=0), known.argmax(axis=0), bars)
        columns = np.flatnonzero(bars - 1 - first >= max(minimum, 1))
        if not columns.size:
            return columns, np.empty((0, 0))
        rows = np.where(known[:, columns], np.arange(bars)[:, None], 0)
        filled = np.take_along_axis(close[:, columns], np.maximum.accumulate(rows, axis=0), axis=0)
        window = filled[int(first[columns].max()) :]
    returns: Floats = window[1:] / window[:-1]
    returns -= 1.0
    moving = returns.max(axis=0) > returns.min(axis=0)
    if moving.all():
        return columns, returns
    return columns[moving], np.ascontiguousarray(returns[:, moving])
