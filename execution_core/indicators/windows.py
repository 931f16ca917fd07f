"""Kernels over a sliding window of `n` bars: sum, moments, weighted sum, extremes.

All use van Herk's two-pass method (van Herk 1992; Gil and Werman 1993): time is cut into blocks
of `n` bars, and a window is the tail of one block plus the head of the next, so

    window(t) = combine(tail of the previous block, head of this block).

Three operations a value whatever `n` is, and nothing is ever subtracted: no drift, no
cancellation, a constant series has a variance of exactly zero, and a NaN spoils exactly the
windows that contain it, which is the segment rule of ``panel.py``.
"""

from __future__ import annotations

import numpy as np

from execution_core.indicators.panel import Panel
from execution_core.jit import kernel

DEVIATION, VARIANCE, SCORE, BANDS = range(4)


@kernel
def blank(out: Panel, rows: int) -> None:
    """Set the first `rows` rows to NaN."""
    for t in range(min(rows, out.shape[0])):
        for j in range(out.shape[1]):
            out[t, j] = np.nan


@kernel
def rolling_sum(x: Panel, n: int, scale: float, out: Panel) -> None:
    """out[t] = scale * (x[t-n+1] + ... + x[t])."""
    bars, symbols = x.shape
    tail = np.zeros((n + 1, symbols))
    head = np.empty(symbols)
    blank(out, n - 1)
    for start in range(0, bars, n):
        stop = min(start + n, bars)
        head[:] = 0.0
        for t in range(start, stop):
            row, ahead, write = x[t], tail[t - start + 1], out[t]
            if start == 0 and t < n - 1:
                for j in range(symbols):
                    head[j] += row[j]
            else:
                for j in range(symbols):
                    total = head[j] + row[j]
                    head[j] = total
                    write[j] = (ahead[j] + total) * scale
        if stop < bars:
            for k in range(n - 1, 0, -1):
                row, write, ahead = x[start + k], tail[k], tail[k + 1]
                for j in range(symbols):
                    write[j] = ahead[j] + row[j]


@kernel
def rolling_ramp(x: Panel, n: int, scale: float, out: Panel) -> None:
    """out[t] = scale * sum over i = 1..n of i * x[t-n+i]: i = 1 is the oldest bar."""
    bars, symbols = x.shape
    # tail[k]: plain and weighted sums of a block's bars k..n-1, bar k+m weighing m.
    tail = np.zeros((n + 1, 2, symbols))
    head = np.empty((2, symbols))
    blank(out, n - 1)
    for start in range(0, bars, n):
        stop = min(start + n, bars)
        head[:] = 0.0
        for t in range(start, stop):
            k = t - start + 1  # bars in the head; the tail holds n - k
            plain, ramp = head[0], head[1]
            row, ahead, ahead_ramp, write = x[t], tail[k, 0], tail[k, 1], out[t]
            if start == 0 and k < n:
                for j in range(symbols):
                    plain[j] += row[j]
                    ramp[j] += k * row[j]
            else:
                # Weight of tail bar m (from 0) is m+1; of head bar i (from 1) is n - k + i.
                before = float(n - k)
                for j in range(symbols):
                    total = plain[j] + row[j]
                    weighted = ramp[j] + k * row[j]
                    plain[j] = total
                    ramp[j] = weighted
                    write[j] = scale * (ahead_ramp[j] + ahead[j] + weighted + before * total)
        if stop < bars:
            for k in range(n - 1, 0, -1):
                row = x[start + k]
                write, write_ramp = tail[k, 0], tail[k, 1]
                ahead, ahead_ramp = tail[k + 1, 0], tail[k + 1, 1]
                for j in range(symbols):
                    # Every bar behind the new first one moves up by one place.
                    write_ramp[j] = ahead_ramp[j] + ahead[j]
                    write[j] = ahead[j] + row[j]


@kernel
def rolling_moments(
    x: Panel, n: int, kind: int, share: float, width: float, out: Panel, mid: Panel, low: Panel
) -> None:
    """Write a figure of the window's mean m and of its sum of squares about it, s.

    kind DEVIATION  out = sqrt(share * s)
         VARIANCE   out = share * s
         SCORE      out = (x - m) / sqrt(share * s), NaN when s is zero
         BANDS      out, mid, low = m + w, m, m - w with w = width * sqrt(share * s)

    `mid` and `low` are untouched except by BANDS. Head and tail grow by Welford's update and
    are joined by Chan, Golub and LeVeque (1983).
    """
    bars, symbols = x.shape
    tail = np.zeros((n + 1, 2, symbols))
    head = np.zeros((4, symbols))
    level, spread, mean, squares = head[0], head[1], head[2], head[3]
    blank(out, n - 1)
    if kind == BANDS:
        blank(mid, n - 1)
        blank(low, n - 1)
    for start in range(0, bars, n):
        stop = min(start + n, bars)
        head[:] = 0.0
        for t in range(start, stop):
            k = t - start + 1
            grow = 1.0 / k
            lean = (n - k) / n
            both = lean * k
            row = x[t]
            ahead, ahead_spread = tail[k, 0], tail[k, 1]
            for j in range(symbols):
                step = row[j] - level[j]
                here = level[j] + step * grow
                around = spread[j] + step * (row[j] - here)
                level[j] = here
                spread[j] = around
                gap = ahead[j] - here
                mean[j] = here + gap * lean
                squares[j] = share * (around + ahead_spread[j] + gap * gap * both)
            if start > 0 or k == n:
                write = out[t]
                if kind == DEVIATION:
                    for j in range(symbols):
                        write[j] = np.sqrt(squares[j])
                elif kind == VARIANCE:
                    for j in range(symbols):
                        write[j] = squares[j]
                elif kind == SCORE:
                    for j in range(symbols):
                        score = (row[j] - mean[j]) / np.sqrt(squares[j])
                        write[j] = score if squares[j] > 0.0 else np.nan
                else:
                    middle, under = mid[t], low[t]
                    for j in range(symbols):
                        half = width * np.sqrt(squares[j])
                        write[j] = mean[j] + half
                        middle[j] = mean[j]
                        under[j] = mean[j] - half
        if stop < bars:
            for k in range(n - 1, 0, -1):
                row = x[start + k]
                write, write_spread = tail[k, 0], tail[k, 1]
                ahead, ahead_spread = tail[k + 1, 0], tail[k + 1, 1]
                grow = 1.0 / (n - k)
                for j in range(symbols):
                    step = row[j] - ahead[j]
                    here = ahead[j] + step * grow
                    write[j] = here
                    write_spread[j] = ahead_spread[j] + step * (row[j] - here)


@kernel
def rolling_line(x: Panel, n: int, slope: Panel, t_stat: Panel) -> None:
    """Least-squares slope on time over the window, and its t-statistic.

    Head and tail carry mean, squares about it, and sum (i - middle) x; joining two pieces moves
    each one's middle to the window's, which the piece's own mean pays for.
    """
    bars, symbols = x.shape
    tail = np.zeros((n + 1, 3, symbols))
    head = np.zeros((3, symbols))
    level, spread, cross = head[0], head[1], head[2]
    blank(slope, n - 1)
    blank(t_stat, n - 1)
    total = n * (n * n - 1.0) / 12.0
    each = 1.0 / total
    freedom = (n - 2.0) * total
    for start in range(0, bars, n):
        stop = min(start + n, bars)
        head[:] = 0.0
        for t in range(start, stop):
            k = t - start + 1
            grow = 1.0 / k
            both = (n - k) / n * k
            half = 0.5 * (k - 1)
            row = x[t]
            ahead, ahead_spread, ahead_cross = tail[k, 0], tail[k, 1], tail[k, 2]
            write, write_t = slope[t], t_stat[t]
            defined = start > 0 or k == n
            for j in range(symbols):
                step = row[j] - level[j]
                here = level[j] + step * grow
                # The piece's k - 1 old bars lie half a bar further from its new middle.
                over = cross[j] + step * half
                around = spread[j] + step * (row[j] - here)
                level[j] = here
                spread[j] = around
                cross[j] = over
                gap = here - ahead[j]
                squares = around + ahead_spread[j] + gap * gap * both
                # The two middles are n / 2 apart; (n - k) k / n each way of the mean's gap.
                joint = over + ahead_cross[j] + gap * (0.5 * n * both)
                b = joint * each
                left = squares - b * joint
                write[j] = b if defined else np.nan
                # Below rounding the points lie on a line: the t-statistic has no bound.
                write_t[j] = b * np.sqrt(freedom / left) if defined & (left > 1e-13 * squares) else np.nan
        if stop < bars:
            for k in range(n - 1, 0, -1):
                row = x[start + k]
                write, write_spread, write_cross = tail[k, 0], tail[k, 1], tail[k, 2]
                ahead, ahead_spread, ahead_cross = tail[k + 1, 0], tail[k + 1, 1], tail[k + 1, 2]
                count = n - k
                grow = 1.0 / count
                half = 0.5 * (count - 1)
                for j in range(symbols):
                    step = row[j] - ahead[j]
                    here = ahead[j] + step * grow
                    write[j] = here
                    write_spread[j] = ahead_spread[j] + step * (row[j] - here)
                    # A new first bar lies before the others: the same step with the other sign.
                    write_cross[j] = ahead_cross[j] - step * half


@kernel(forceinline=True)
def upper(a: float, b: float) -> float:
    """Maximum that keeps a NaN from either side."""
    return a if (a > b) | (a != a) else b


@kernel
def rolling_max(x: Panel, n: int, sign: float, out: Panel) -> None:
    """out[t] = sign * max(sign * x) over the window: sign 1 for the highest, -1 for the lowest."""
    bars, symbols = x.shape
    tail = np.full((n + 1, symbols), -np.inf)
    head = np.empty(symbols)
    blank(out, n - 1)
    for start in range(0, bars, n):
        stop = min(start + n, bars)
        head[:] = -np.inf
        for t in range(start, stop):
            row, ahead, write = x[t], tail[t - start + 1], out[t]
            if start == 0 and t < n - 1:
                for j in range(symbols):
                    head[j] = upper(sign * row[j], head[j])
            else:
                for j in range(symbols):
                    top = upper(sign * row[j], head[j])
                    head[j] = top
                    write[j] = sign * upper(ahead[j], top)
        if stop < bars:
            for k in range(n - 1, 0, -1):
                row, write, ahead = x[start + k], tail[k], tail[k + 1]
                for j in range(symbols):
                    write[j] = upper(sign * row[j], ahead[j])


def warm() -> None:
    """Compile every kernel of this module."""
    x = np.ones((4, 2))
    a, b = np.empty_like(x), np.empty_like(x)
    blank(a, 1)
    rolling_sum(x, 2, 0.5, a)
    rolling_ramp(x, 2, 0.5, a)
    rolling_moments(x, 2, DEVIATION, 0.5, 0.0, a, a, a)
    rolling_line(x, 3, a, b)
    rolling_max(x, 2, 1.0, a)
