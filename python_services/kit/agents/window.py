"""The bars that agents look at, and which instruments they may speak about at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from execution_core.indicators import latest

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

NANO = 1_000_000_000
# A long weekend, and a day more: an older newest bar says nothing about today.
STALE_AFTER_NS = 5 * 86_400 * NANO
EWMA_DECAY, EWMA_SEED = 0.94, 20
SAMPLE = 60
ATR_BARS = 14


@dataclass(frozen=True)
class Window:
    """Bars x instruments, C-contiguous, oldest first, adjusted; NaN where there is no bar."""

    as_of_ns: int
    ts_event_ns: NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    @cached_property
    def present(self) -> latest.Presence:
        """Bars of each instrument: in a row up to the newest, in all, and where its newest is.

        Closes say it: a snapshot's bar has all four prices or none.
        """
        return latest.presence(self.close)

    @property
    def run(self) -> NDArray[np.int64]:
        """Bars of each instrument up to and with the newest one, without a gap."""
        return self.present.run

    @cached_property
    def log_close(self) -> Floats:
        """Natural logarithm of the close."""
        return np.log(self.close)

    @cached_property
    def returns(self) -> Floats:
        """Log returns; the first row is NaN."""
        returns = np.empty_like(self.close)
        returns[0] = np.nan
        np.subtract(self.log_close[1:], self.log_close[:-1], out=returns[1:])
        return returns

    @cached_property
    def _sums(self) -> dict[tuple[int, int], tuple[Floats, Floats]]:
        return {}

    def return_sums(self, first: int, last: int, columns: Mask | None = None) -> tuple[Floats, Floats]:
        """Sum of each column of `returns[first:last]`, and of its squares: of all columns, or of those asked for."""
        if columns is not None and not columns.all():
            return latest.sums(np.ascontiguousarray(self.returns[first:last][:, columns]))
        found = self._sums.get((first, last))
        if found is None:
            found = self._sums[first, last] = latest.sums(self.returns[first:last])
        return found

    @cached_property
    def daily_volatility(self) -> Floats:
        """RiskMetrics volatility for the next bar, one per instrument."""
        return latest.ewma_volatility(self.log_close, EWMA_DECAY, EWMA_SEED)

    @cached_property
    def sample_volatility(self) -> Floats:
        """Standard deviation of the last 60 returns: the yardstick of the test statistics."""
        return latest.stdev(self.log_close, SAMPLE)

    @cached_property
    def true_range(self) -> Floats:
        """Average true range of 14 bars (Wilder 1978), in the price's unit: the yardstick of single bars."""
        high, low, close = (x[-SAMPLE - 1 :] for x in (self.high, self.low, self.close))
        return latest.atr(high, low, close, ATR_BARS)


def eligible(window: Window, minimum_bars: int) -> Mask:
    """Instruments with a fresh, unbroken run of at least `minimum_bars` bars."""
    fresh = window.as_of_ns - int(window.ts_event_ns[-1]) <= STALE_AFTER_NS
    return (window.run >= minimum_bars) & fresh


def made_up() -> Window:
    """Bars of two instruments that never traded: what kernels are loaded with before the first request."""
    bars = 70
    path = 100.0 * np.exp(0.01 * np.sin(np.arange(2 * bars, dtype=np.float64).reshape(bars, 2)).cumsum(axis=0))
    times = np.arange(1, bars + 1, dtype=np.int64)
    return Window(int(times[-1]), times, path, path * 1.01, path * 0.99, path * 1.001, np.full_like(path, 1e6))
