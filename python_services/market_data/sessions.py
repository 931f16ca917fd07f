"""Trading days as moments: a day is an integer, days since 1970-01-01, until its session makes it UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
from numpy.typing import NDArray

from .instruments import NANO, Session

_EPOCH = date(1970, 1, 1)


def day_name(day: int) -> str:
    """ISO date."""
    return (_EPOCH + timedelta(days=int(day))).isoformat()


def session_times(days: NDArray[np.int64], session: Session) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(open, close) of each day in Unix nanoseconds UTC, right on both sides of a change to summer time."""
    zone = session.zone()
    opens, closes = time.fromisoformat(session.open), time.fromisoformat(session.close)
    dates = [_EPOCH + timedelta(days=day) for day in days.tolist()]

    def moments(at: time) -> NDArray[np.int64]:
        seconds = [int(datetime.combine(day, at, tzinfo=zone).timestamp()) for day in dates]
        return np.array(seconds, dtype=np.int64) * NANO

    return moments(opens), moments(closes)


def describe(ts_ns: int) -> str:
    """A moment as ISO text in UTC."""
    return datetime.fromtimestamp(ts_ns // NANO, UTC).isoformat().replace("+00:00", "Z")
