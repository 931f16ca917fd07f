"""Time. Trading logic reads `MarketClock` only; wall time is for deadlines and log lines."""

from __future__ import annotations

import time


class ClockError(RuntimeError):
    """Market time is not known yet, or it went backwards."""


class MarketClock:
    """The session's clock: market time, moved by market data and by replayed events, never by itself."""

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        """Market time, Unix nanoseconds UTC. Raises ClockError before the first `advance`."""
        if self._now_ns == 0:
            raise ClockError("market time is not known yet; advance the clock with the first event or snapshot")
        return self._now_ns

    def advance(self, to_ns: int) -> None:
        """Moves to `to_ns`. Raises ClockError when that is earlier than now."""
        if to_ns < self._now_ns:
            raise ClockError(f"market time cannot go back from {self._now_ns} to {to_ns}; send times in order")
        self._now_ns = to_ns


class RealClock:
    """Wall time for a live venue: the same interface, driven by the machine's clock."""

    def now_ns(self) -> int:
        """Unix nanoseconds UTC."""
        return time.time_ns()

    def advance(self, to_ns: int) -> None:
        """Real time moves by itself."""
