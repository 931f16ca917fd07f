"""Read a recording of Binance USD-M streams into feed arrays.

A line is ``<receive time ns> <raw JSON>``, as hftbacktest's collector writes it. The recording used
here comes from hftbacktest's repository (examples/usdm, MIT licence).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from execution_core.types import FEED_EVENT, FeedKind, Side

Records = NDArray[np.void]

RECORDING = Path(__file__).resolve().parent / "data" / "binance_usdm_btcusdt_20240808.gz"
BTCUSDT_TICK, BTCUSDT_LOT = Decimal("0.1"), Decimal("0.001")

_MILLISECOND = 1_000_000


def _steps(text: str, increment: Decimal) -> int:
    """`text` as a whole number of increments; refuses what is not."""
    steps = Decimal(text) / increment
    if steps != int(steps):
        raise ValueError(f"{text} is not a multiple of {increment}")
    return int(steps)


def rows(lines: Iterable[bytes], tick: Decimal, lot: Decimal, quotes: bool) -> Iterator[tuple[int, ...]]:
    """Rows of ``FEED_EVENT`` in the order of the lines. Trades that are no market trades are left out."""
    for line in lines:
        received, _, raw = line.partition(b" ")
        message: dict[str, Any] = json.loads(raw)
        data = message.get("data", message)
        times = int(data["T"]) * _MILLISECOND, int(received)
        if "lastUpdateId" in data:
            for side, levels in ((Side.BUY, data["bids"]), (Side.SELL, data["asks"])):
                yield *times, _steps(levels[-1][0], tick), 0, FeedKind.CLEAR, side
                for price, size in levels:
                    yield *times, _steps(price, tick), _steps(size, lot), FeedKind.DEPTH, side
        elif data["e"] == "depthUpdate":
            for side, levels in ((Side.BUY, data["b"]), (Side.SELL, data["a"])):
                for price, size in levels:
                    yield *times, _steps(price, tick), _steps(size, lot), FeedKind.DEPTH, side
        elif data["e"] == "trade" and data["X"] == "MARKET":
            aggressor = Side.SELL if data["m"] else Side.BUY
            yield *times, _steps(data["p"], tick), _steps(data["q"], lot), FeedKind.TRADE, aggressor
        elif data["e"] == "bookTicker" and quotes:
            yield *times, _steps(data["b"], tick), _steps(data["B"], lot), FeedKind.QUOTE, Side.BUY
            yield *times, _steps(data["a"], tick), _steps(data["A"], lot), FeedKind.QUOTE, Side.SELL


def align_clocks(feed: Records, base_latency_ns: int = 0) -> Records:
    """Move the receiver's clock so that the fastest message took `base_latency_ns`, if any came too early."""
    least = int((feed["ts_init_ns"] - feed["ts_event_ns"]).min())
    aligned = feed.copy()
    if least < 0:
        aligned["ts_init_ns"] += base_latency_ns - least
    return aligned


def load(path: Path = RECORDING, *, quotes: bool = False, base_latency_ns: int = 0) -> Records:
    """The recording as ``FEED_EVENT`` (n,), clocks aligned."""
    with gzip.open(path, "rb") as lines:
        feed = np.array(list(rows(lines, BTCUSDT_TICK, BTCUSDT_LOT, quotes)), FEED_EVENT)
    return align_clocks(feed, base_latency_ns)
