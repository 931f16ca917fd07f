"""What a model learns to predict, from adjusted closes. Bars x instruments, oldest bar first, NaN where none is.

Every label of bar t is made from bars t to t + horizon, so it is known when bar t + horizon closes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BARRIER_WIDTH = 1.0  # of the triple barrier, in standard deviations of a return over the horizon
TRAILING = 20  # bars of the trailing standard deviation that sets the barriers and is the naive forecast


def forward_return(close: Floats, horizon: int) -> Floats:
    """close[t + horizon] / close[t] - 1; NaN at the last `horizon` bars."""
    found = np.full_like(close, np.nan)
    if horizon < len(close):
        found[:-horizon] = close[horizon:] / close[:-horizon] - 1.0
    return found


def cross_sectional_rank(close: Floats, horizon: int) -> Floats:
    """Rank of the forward return among the instruments of the bar, 0 (worst) to 1; equal ones share their mean."""
    ahead = forward_return(close, horizon)
    count = np.isfinite(ahead).sum(axis=1, keepdims=True)
    below = (ahead[:, None, :] < ahead[:, :, None]).sum(axis=2)
    equal = (ahead[:, None, :] == ahead[:, :, None]).sum(axis=2) - 1
    rank = (below + equal / 2.0) / np.maximum(count - 1, 1)
    return np.where(np.isfinite(ahead) & (count > 1), rank, np.nan)


def forward_variance(close: Floats, horizon: int) -> Floats:
    """Sum of the squared returns of the next `horizon` bars: the realised variance of the return over the horizon."""
    squared = np.full_like(close, np.nan)
    squared[1:] = (close[1:] / close[:-1] - 1.0) ** 2
    found = np.full_like(close, np.nan)
    if horizon < len(close):
        windows = np.lib.stride_tricks.sliding_window_view(squared[1:], horizon, axis=0)
        found[:-horizon] = windows.sum(axis=-1)
    return found


def trailing_variance(close: Floats, horizon: int, bars: int = TRAILING) -> Floats:
    """The naive forecast of `forward_variance`: mean square of the last `bars` returns, times the horizon."""
    squared = np.full_like(close, np.nan)
    squared[1:] = (close[1:] / close[:-1] - 1.0) ** 2
    found = np.full_like(close, np.nan)
    if bars < len(close):
        found[bars:] = np.lib.stride_tricks.sliding_window_view(squared[1:], bars, axis=0).mean(axis=-1) * horizon
    return found


def triple_barrier(close: Floats, horizon: int) -> Floats:
    """1 where the upper barrier is met first, -1 for the lower, else the sign of the return at the horizon.

    Barriers lie BARRIER_WIDTH trailing standard deviations of the horizon's return away. Source: López de Prado 2018,
    chapter 3.
    """
    width = BARRIER_WIDTH * np.sqrt(trailing_variance(close, horizon))
    found = np.full_like(close, np.nan)
    for ahead in range(1, horizon + 1):
        if ahead >= len(close):
            break
        move = close[ahead:] / close[:-ahead] - 1.0
        met = np.isnan(found[:-ahead]) & (np.abs(move) >= width[:-ahead])
        found[:-ahead][met] = np.sign(move[met])
    end = forward_return(close, horizon)
    open_still = np.isnan(found)
    found[open_still] = np.sign(end[open_still])
    return np.where(np.isfinite(end) & np.isfinite(width), found, np.nan)


def is_up(kind: str, close: Floats, horizon: int) -> Floats:
    """1 for up, 0 for not, NaN where there is no label. Kinds as in the contract. Raises ValueError for another."""
    if kind == "FORWARD_RETURN":
        value, middle = forward_return(close, horizon), 0.0
    elif kind == "CROSS_SECTIONAL_RANK":
        value, middle = cross_sectional_rank(close, horizon), 0.5
    elif kind == "TRIPLE_BARRIER":
        value, middle = triple_barrier(close, horizon), 0.0
    else:
        raise ValueError(
            f"{kind} says nothing of a direction; use FORWARD_RETURN, CROSS_SECTIONAL_RANK, TRIPLE_BARRIER"
        )
    return np.where(np.isfinite(value), (value > middle).astype(np.float64), np.nan)
