"""The memory of one book: a single record of fixed size, so that one pointer reaches everything.

Sizes are compile-time constants: every address is one pointer plus a constant, no kernel compiles
for a new size, and a snapshot is one copy. Memory that a book has not touched costs nothing, since
``np.zeros`` maps it lazily.

Four ladders hold the waiting orders, each a row of price levels with a bitmap over them:

BIDS, ASKS  resting orders
FALLING     triggers that fire when the price comes down to them (sell stops, buy if-touched)
RISING      triggers that fire when it comes up to them (buy stops, sell if-touched)

A level's *step* counts from the price that comes first: BIDS and FALLING run from the top of the
ladder down, ASKS and RISING from the bottom up. So "best" is the lowest step on every ladder, and
one search serves all four. ``ladder * PRICE_LEVELS + step`` is the number of the level's list.
Four more lists follow the ladders (MARKET_LIST of each side, HELD, FIRED).
"""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np

from execution_core.types import (
    COMMAND,
    MATCH_EVENT,
    NO_PRICE,
    OrderType,
    SelfTradePrevention,
    SessionPhase,
    TimeInForce,
)


def code(value: int) -> int:
    """A constant that kernels hand to one another.

    A NumPy integer, since Numba compiles a callee anew for every literal Python integer that it is
    called with, but once for all of these.
    """
    return cast(int, np.int64(value))


CAPACITY_BITS: Final = 14
CAPACITY: Final = 1 << CAPACITY_BITS  # slots for orders; slot 0 means "none"
LEVEL_BITS: Final = 18
PRICE_LEVELS: Final = 1 << LEVEL_BITS  # ticks that a ladder spans: 64 ** 3, a bitmap of three storeys
STEP_MASK: Final = PRICE_LEVELS - 1
ACCOUNTS: Final = 4096

MAX_PRICE: Final = 2**53
MAX_QUANTITY: Final = 2**40
MAX_POSITION: Final = 2**60
MAX_ICEBERGS: Final = 1024
# An iceberg shows at least one hundredth of its quantity, which bounds the fills of one command.
MAX_SLICES: Final = 100
# No command makes more events than this: an order ends at most once as taker and once as maker (two
# events each), triggers once and is closed once; a slice of an iceberg is one more fill.
EVENTS_PER_COMMAND: Final = 6 * CAPACITY + 2 * MAX_SLICES * MAX_ICEBERGS + 16
EVENTS: Final = 1 << 19

LADDERS: Final = 4
BIDS: Final = code(0)
ASKS: Final = code(1)
FALLING: Final = code(2)
RISING: Final = code(3)

MARKET_LIST: Final = code(LADDERS * PRICE_LEVELS)  # + 0 buys, + 1 sells: market orders in an auction call
HELD: Final = MARKET_LIST + 2  # AT_CLOSE orders before the closing auction
FIRED: Final = MARKET_LIST + 3  # triggered, about to act
LISTS: Final = LADDERS * PRICE_LEVELS + 4
UNPRICED: Final = code(NO_PRICE)

FOREVER: Final = 2**63 - 1
MAGIC: Final = 0x416C4D6573684231  # "AlMeshB1": the layout's name and version

BUY: Final = 1
SELL: Final = 2
MARKET: Final = int(OrderType.MARKET)
LIMIT: Final = int(OrderType.LIMIT)
STOP_MARKET: Final = int(OrderType.STOP_MARKET)
STOP_LIMIT: Final = int(OrderType.STOP_LIMIT)
MARKET_IF_TOUCHED: Final = int(OrderType.MARKET_IF_TOUCHED)
LIMIT_IF_TOUCHED: Final = int(OrderType.LIMIT_IF_TOUCHED)
TRAILING_STOP_MARKET: Final = int(OrderType.TRAILING_STOP_MARKET)
TRAILING_STOP_LIMIT: Final = int(OrderType.TRAILING_STOP_LIMIT)
ICEBERG: Final = int(OrderType.ICEBERG)
DAY: Final = int(TimeInForce.DAY)
IOC: Final = int(TimeInForce.IOC)
FOK: Final = int(TimeInForce.FOK)
GTD: Final = int(TimeInForce.GTD)
AT_OPEN: Final = int(TimeInForce.AT_OPEN)
AT_CLOSE: Final = int(TimeInForce.AT_CLOSE)
POST_ONLY: Final = 1
REDUCE_ONLY: Final = 2
OPENING_AUCTION: Final = int(SessionPhase.OPENING_AUCTION)
CONTINUOUS: Final = int(SessionPhase.CONTINUOUS)
CLOSING_AUCTION: Final = int(SessionPhase.CLOSING_AUCTION)
CLOSED: Final = int(SessionPhase.CLOSED)
INTRADAY_AUCTION: Final = int(SessionPhase.INTRADAY_AUCTION)
HALTED: Final = int(SessionPhase.HALTED)
CANCEL_NEWEST: Final = int(SelfTradePrevention.CANCEL_NEWEST)
CANCEL_OLDEST: Final = int(SelfTradePrevention.CANCEL_OLDEST)
CANCEL_BOTH: Final = int(SelfTradePrevention.CANCEL_BOTH)
DECREMENT: Final = int(SelfTradePrevention.DECREMENT_AND_CANCEL)

# What every order needs: one cache line.
#   id          sequence of acceptance << CAPACITY_BITS | slot; 0: the slot is free
#   leaves      lots that can trade now; an iceberg's shown slice
#   hidden      an iceberg's reserve
#   quantity    the total, filled lots included
#   next        in its list; of a free slot: the next free one
#   list        the list that it is in, or will rest in while it is matched
ORDER: Final = np.dtype(
    [
        ("id", np.int64),
        ("leaves", np.int64),
        ("hidden", np.int64),
        ("quantity", np.int64),
        ("client_tag", np.int64),
        ("next", np.uint32),
        ("previous", np.uint32),
        ("list", np.uint32),
        ("account", np.int32),
        ("side", np.uint8),
        ("type", np.uint8),
        ("time_in_force", np.uint8),
        ("flags", np.uint8),
        ("self_trade", np.uint8),
    ],
    align=True,
)

# What only conditional, iceberg, GTD and AT_CLOSE orders need.
TERMS: Final = np.dtype(
    [
        ("price", np.int64),
        ("expire_time_ns", np.int64),
        ("display", np.int64),
        ("trailing_offset", np.int64),
        ("limit_offset", np.int64),
        ("heap_position", np.int64),
        ("trail_next", np.int64),
        ("trail_previous", np.int64),
    ],
    align=True,
)

QUEUE: Final = np.dtype([("head", np.uint32), ("tail", np.uint32)])

STATE_FIELDS: Final[list[Any]] = [
    ("magic", np.int64),
    ("now", np.int64),
    ("sequence", np.int64),
    ("trade_id", np.int64),
    ("phase", np.int64),
    ("base", np.int64),  # the lowest price of the ladders
    ("lower", np.int64),  # price band, inclusive
    ("upper", np.int64),
    ("last", np.int64),  # last trade's price or NO_PRICE
    ("reference", np.int64),
    ("free", np.int64),
    ("high_water", np.int64),  # slots from here on were never used
    ("live", np.int64),
    ("icebergs", np.int64),
    ("pending", np.int64),  # orders on RISING and FALLING
    ("next_expiry", np.int64),
    ("heap_size", np.int64),
    ("best", np.int64, (LADDERS,)),
    ("top", np.int64, (LADDERS,)),
    ("trail_head", np.int64, (2,)),
    ("trail_tail", np.int64, (2,)),
    ("trail_mark", np.int64, (2,)),  # no trailing order of the side has seen a worse extreme than this
    ("middle", np.int64, (LADDERS * PRICE_LEVELS >> 12,)),
    ("low", np.int64, (LADDERS * PRICE_LEVELS >> 6,)),
    ("positions", np.int64, (ACCOUNTS,)),
    ("orders", ORDER, (CAPACITY,)),
    ("terms", TERMS, (CAPACITY,)),
    ("heap", np.int64, (CAPACITY,)),
    ("lists", QUEUE, (LISTS,)),
]
STATE: Final = np.dtype(STATE_FIELDS, align=True)
# The inbox of single calls and the outbox of events are not state: a snapshot leaves them out.
BOOK: Final = np.dtype(
    [*STATE_FIELDS, ("inbox", COMMAND), ("event_count", np.int64), ("events", MATCH_EVENT, (EVENTS,))], align=True
)
STATE_BYTES: Final = int(BOOK.fields["inbox"][1]) if BOOK.fields else 0
