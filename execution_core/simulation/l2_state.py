"""The arrays of a book simulation: orders, messages between trader and venue, and where it stands.

Sides are 0 for buy and 1 for sell; ticks are relative to the tape's window.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.jit import kernel

Records = NDArray[np.void]


# Open orders, and messages each way, at one time.
MAX_OPEN, IN_FLIGHT = 256, 1024

RISK_AVERSE, POWER, POWER_OF_TOTAL, POWER_OF_SHARE, LOG, LOG_OF_TOTAL = 0, 1, 2, 3, 4, 5

NEVER = 2**63 - 1
# Below the tick of a trade under the window (-1): the upper bound of no orders.
NOWHERE = -2
VENUE, KNOWN, TAKEN = 0, 1, 2

# An order. `state` and `leaves` are the venue's truth; `known_*` what the trader has heard of.
# `front` is the estimated lots ahead in the queue, `traded` those traded since the level changed.
ORDER = np.dtype(
    [
        ("front", np.float64),
        ("traded", np.float64),
        ("leaves", np.int64),
        ("known_leaves", np.int64),
        ("tick", np.int32),
        ("side", np.int8),
        ("type", np.int8),
        ("tif", np.int8),
        ("post_only", np.int8),
        ("state", np.int8),
        ("known_state", np.int8),
        ("cancel_pending", np.int8),
    ],
    align=True,
)

# A message between trader and venue. `lots` is what a response reports as filled.
MESSAGE = np.dtype(
    [
        ("ts_ns", np.int64),
        ("order", np.int64),
        ("lots", np.int64),
        ("leaves", np.int64),
        ("cancels", np.int8),
        ("state", np.int8),
    ],
    align=True,
)

# Where a simulation stands. Bounds are ticks; empty: low above high. The lists are inside it because
# each array that a compiled function receives costs it two atomic reference counts, 10 ns.
STATE = np.dtype(
    [
        ("now", np.int64),
        ("next_exchange", np.int64),
        ("next_local", np.int64),
        ("orders", np.int64),
        ("fills", np.int64),
        ("live_count", np.int64),
        ("open_count", np.int64),
        ("request_head", np.int64),
        ("request_tail", np.int64),
        ("response_head", np.int64),
        ("response_tail", np.int64),
        ("position", np.int64),
        # lowest and highest own buy, lowest and highest own sell
        ("own", np.int64, 4),
        # orders at the venue, and those that the trader believes open; by arrival
        ("live", np.int64, MAX_OPEN),
        ("open", np.int64, MAX_OPEN),
        ("requests", MESSAGE, IN_FLIGHT),
        ("responses", MESSAGE, IN_FLIGHT),
        ("taken_levels", np.int64),
        # best bid, best ask, how low bids and how high asks have been, and `_scan`'s fifth
        ("best", np.int64, 5),
        ("known", np.int64, 5),
    ],
    align=True,
)


class Venue(NamedTuple):
    """A simulation as plain arrays, so that compiled strategies can hold it. See ``l2.open_venue``.

    ``books[VENUE]`` is the book at the venue, ``books[KNOWN]`` as the trader knows it, and
    ``books[TAKEN]`` the lots that we took from the former; each (side, tick).
    """

    exchange: Records
    local: Records
    books: NDArray[np.int64]
    orders: Records
    fills: Records
    latency: Records
    state: Records
    base: int
    queue: int
    power: float
    lot_size: float
    partial: bool


@kernel
def latency_at(rows: Records, ts: int, back: bool) -> int:
    """Latency at `ts`, linear between rows and constant beyond them."""
    last = rows.shape[0] - 1
    if ts <= rows[0]["ts_ns"] or last == 0:
        return int(rows[0]["response_ns"] if back else rows[0]["entry_ns"])
    if ts >= rows[last]["ts_ns"]:
        return int(rows[last]["response_ns"] if back else rows[last]["entry_ns"])
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) >> 1
        if rows[middle]["ts_ns"] <= ts:
            low = middle
        else:
            high = middle
    a, b = rows[low], rows[high]
    start = a["response_ns"] if back else a["entry_ns"]
    rise = (b["response_ns"] if back else b["entry_ns"]) - start
    share = (ts - a["ts_ns"]) / (b["ts_ns"] - a["ts_ns"])
    return int(start + math.floor(rise * share))
