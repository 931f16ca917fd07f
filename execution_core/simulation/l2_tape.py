"""A recorded feed made ready for replay: checked, compact, and sorted by both clocks.

A simulation reads a recording twice: by the venue's clock (``ts_event_ns``), where orders meet it,
and by the trader's (``ts_init_ns``), where strategies see it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import CapacityError, InvalidArrayError, InvalidValueError
from execution_core.types import FEED_EVENT, FeedKind, Side

Records = NDArray[np.void]

# Codes of a row; + 1 for the sell side of the book, or a selling aggressor.
DEPTH, TRADE, QUOTE, CLEAR = 0, 2, 4, 6
BID, ASK, BUY_TRADE, SELL_TRADE = 0, 1, 2, 3

TAPE_ROW = np.dtype([("ts_ns", np.int64), ("lots", np.int64), ("tick", np.int32), ("code", np.int32)], align=True)

_MAX_TICKS = 2**25
_LIMIT = 2**53
_CODE = np.zeros(max(FeedKind) + 1, np.int32)
_CODE[[FeedKind.DEPTH, FeedKind.TRADE, FeedKind.QUOTE, FeedKind.CLEAR]] = DEPTH, TRADE, QUOTE, CLEAR


class Tape(NamedTuple):
    """Both clocks of one recording, ``TAPE_ROW`` each. Ticks are relative to `base`."""

    exchange: Records
    local: Records
    base: int
    ticks: int


def _sorted_rows(feed: Records, clock: NDArray[np.int64], base: int, ticks: int) -> Records:
    rows = np.empty(len(feed), TAPE_ROW)
    rows["ts_ns"] = clock
    rows["lots"] = feed["lots"]
    # Beyond the window a tick says only "further than every order".
    rows["tick"] = np.clip(feed["price"] - base, -1, ticks)
    rows["code"] = _CODE[feed["kind"]] + (feed["side"] == Side.SELL)
    outside = (rows["tick"] < 0) | (rows["tick"] == ticks)
    kept: Records = rows[~(outside & (rows["code"] < TRADE))]
    if (np.diff(kept["ts_ns"]) < 0).any():
        kept = kept[np.argsort(kept["ts_ns"], kind="stable")]
    return kept


def prepare(
    feed: Records,
    *,
    window: tuple[int, int] | None = None,
    feed_latency_ns: int | NDArray[np.int64] | None = None,
) -> Tape:
    """Check a recorded feed and sort it by both clocks.

    Parameters
    ----------
    feed
        ``FEED_EVENT`` (n,), in the order of reception; equal times keep that order.
    window
        Lowest and highest tick of the book kept; depth outside is dropped. All by default.
    feed_latency_ns
        None takes ``ts_init_ns`` from the recording. A number, or one for each row, puts the
        trader's clock that far behind the venue's.

    Raises
    ------
    InvalidArrayError, InvalidValueError
    CapacityError
        If the window holds more than 2**25 ticks.
    """
    if not isinstance(feed, np.ndarray) or feed.dtype != FEED_EVENT or feed.ndim != 1 or len(feed) == 0:
        raise InvalidArrayError("feed", "not a FEED_EVENT vector with rows", "use types.FEED_EVENT")
    kinds = np.isin(feed["kind"], list(FeedKind)) & np.isin(feed["side"], list(Side))
    if not kinds.all():
        raise InvalidValueError("feed", "unknown kind or side", "use FeedKind and Side")
    for name in ("price", "lots"):
        if (np.abs(feed[name]) >= _LIMIT).any():
            raise InvalidValueError(name, "beyond 2**53", "check ticks and lots")
    if (feed["lots"] < 0).any():
        raise InvalidValueError("lots", "negative", "give sizes")
    if (feed["ts_event_ns"] <= 0).any():
        raise InvalidValueError("ts_event_ns", "not positive", "give Unix nanoseconds")

    depth = feed["price"][feed["kind"] != FeedKind.TRADE]
    if window is None:
        if len(depth) == 0:
            raise InvalidValueError("feed", "no depth", "give a recording with a book")
        window = int(depth.min()), int(depth.max())
    base, ticks = window[0], window[1] - window[0] + 1
    if ticks < 1:
        raise InvalidValueError("window", "empty", "give lowest and highest tick")
    if ticks > _MAX_TICKS:
        raise CapacityError("window", f"{ticks} ticks, more than {_MAX_TICKS}", "give a narrower window")

    if feed_latency_ns is None:
        local = feed["ts_init_ns"]
    else:
        latency = np.asarray(feed_latency_ns)
        if latency.dtype.kind not in "iu" or latency.shape not in ((), (len(feed),)):
            raise InvalidArrayError("feed_latency_ns", "not one integer, or one for each row", "give nanoseconds")
        local = feed["ts_event_ns"] + latency.astype(np.int64)
    if (local < feed["ts_event_ns"]).any():
        raise InvalidValueError("ts_init_ns", "before ts_event_ns", "correct the recorder's clock first")
    return Tape(
        exchange=_sorted_rows(feed, feed["ts_event_ns"], base, ticks),
        local=_sorted_rows(feed, local, base, ticks),
        base=base,
        ticks=ticks,
    )
