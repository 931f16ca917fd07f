"""The gate's state: one block of int64 words, cut into tables of records.

One block, because a call from Python pays 45 ns for every array that it passes and next to nothing
for an address; because a snapshot is one copy; and because everything the ledger has to compare
after a replay lies in one place. Kernels receive the block's address and reach its records through
memory.py; Python sees the same records as array views.

The block holds, in this order (record counts in ``ACCOUNT``'s capacity fields):

    account       1 x ACCOUNT
    instruments   capacity_instruments x INSTRUMENT
    sectors       capacity_sectors x SECTOR
    reservations  capacity_reservations + 2 x RESERVATION: slot 0, and one for an exchange
    free          capacity_reservations + 1 x int64, a stack of free slots
    recent        capacity_recent x RECENT, a ring of the last orders
    seen          capacity_seen x int32, hash table of places in `recent` by id: an index, not state

Units: ticks, lots, nano units of the account's currency, nanoseconds. Ratios in basis points (bps,
1e-4) or parts per million (ppm).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from execution_core.errors import InvalidArrayError

Array = np.ndarray[Any, Any]

# Every amount of money in the state lies within +-MONEY_MAX, so a sum of three cannot overflow.
MONEY_MAX: Final = 2**61 - 1
# What a product becomes that does not fit: above every limit, so the rules deny it.
SATURATED: Final = 2**61
# Ticks, so that a price times 20,000 (collar arithmetic, in basis points) fits into 63 bits.
PRICE_MAX: Final = 2**48 - 1
LOTS_MAX: Final = 2**48 - 1
TIME_MAX: Final = 2**62

WORD: Final = 8
CACHE_LINE: Final = 64

ACCOUNT: Final = np.dtype(
    [
        (name, np.int64)
        for name in (
            # capacities
            "capacity_instruments",
            "capacity_sectors",
            "capacity_reservations",
            "capacity_recent",
            "capacity_seen",
            # where the tables begin, bytes from the block's start
            "at_instruments",
            "at_sectors",
            "at_reservations",
            "at_free",
            "at_recent",
            "at_seen",
            # status
            "trading_state",
            "caught_up",
            "reconciling",
            # policy, as pushed by the risk service
            "policy_version",
            "policy_ts_ns",
            "policy_max_age_ns",
            "price_max_age_ns",
            "collar_bps",
            "stale_price_reductions",
            "gross_limit",
            "net_limit",
            "sector_limit",
            "concentration_limit",
            "leverage_limit_bps",
            "daily_loss_limit",
            "drawdown_limit",
            "var_budget",
            "var_use",
            "cash_buffer",
            "margin_long_bps",
            "margin_short_bps",
            "burst_orders",
            "burst_window_ns",
            "rate_orders",
            "rate_window_ns",
            "max_open_orders",
            "fee_per_order",
            # money
            "cash",
            "day_start_equity",
            "peak_equity",
            # sums over instruments, in worst-case terms (see exposure.py); kept, never recounted
            "position_value",
            "gross",
            "net_long",
            "net_short",  # positive where shorts outweigh
            "margin",
            "var_open",
            # sums over reservations
            "reserved_cash",
            "reserved_cost",
            "open_orders",
            # bookkeeping
            "free_top",
            "recent_head",
            "recent_tail",
            "spare_1",
            "spare_2",
            "spare_3",
        )
    ],
    align=True,
)

# The account's fields about the block itself: a block of other capacities has others.
PLACES: Final = tuple(name for name in ACCOUNT.names or () if name.startswith(("capacity_", "at_")))

# A price that nothing can cross: no bid is as low, no ask as high. Negative for bids.
FAR: Final = 2**62

# One side of an instrument: index 0 buys and longs, 1 sells and shorts.
SIDE: Final = np.dtype(
    [
        ("open", np.int64),  # reserved lots
        ("margin_unit", np.int64),  # money per worst-case lot
        ("own", np.int64),  # no own order rests at a better price, FAR for none; see exposure.quote
        ("best", np.int64),  # the market's best price, FAR for unknown
        ("reach_limit", np.int64),  # lots that this side may reach: 0 where shorts are not allowed
    ],
    align=True,
)

INSTRUMENT: Final = np.dtype(
    [
        ("position", np.int64),
        ("worst", np.int64),  # worst-case lots, see exposure.py; these three follow from the rest
        ("margin", np.int64),  # money
        ("risk", np.int64),  # worst-case lots that var_use does not cover
        ("unit", np.int64),  # mark * tick_value: money per lot
        ("mark", np.int64),  # ticks, 0: no price yet
        ("mark_ts_ns", np.int64),
        ("tick_value", np.int64),  # money per tick and lot; 0: the index is not set up
        ("denials", np.int64),  # bits of the reasons that deny every order: restricted, closed
        ("order_types", np.int64),  # bit 1 << OrderType
        ("sector", np.int64),
        ("fee_ppm", np.int64),
        ("fee_per_lot", np.int64),
        ("var_unit", np.int64),  # money per lot of new risk
        ("min_lots", np.int64),
        ("max_lots", np.int64),
        ("min_notional", np.int64),
        ("max_notional", np.int64),
        ("position_limit", np.int64),
        ("quick_lots", np.int64),  # up to here no product overflows, see rules.py
        ("var_base", np.int64),  # position when the risk service last measured var_use
        ("first", np.int64),  # slot of the newest reservation, 0 for none
        ("sides", SIDE, (2,)),
        # for recomputing the units
        ("var_ppm", np.int64),
        ("margin_long_bps", np.int64),
        ("margin_short_bps", np.int64),
        ("spare", np.int64, (5,)),
    ],
    align=True,
)

SECTOR: Final = np.dtype([("gross", np.int64), ("limit", np.int64)], align=True)

# `generation` counts how often the slot was freed; everything else is zero while it is free. Slot 0
# is nobody's: lists are linked through it without asking whether they are empty.
RESERVATION: Final = np.dtype(
    [
        (name, np.int64)
        for name in (
            "generation",
            "instrument",
            "side",
            "lots",
            "cash_unit",
            "cost_unit",
            "fixed",  # of the cost, and of a buy's cash
            "price",  # where it rests in the market, 0 while it does not
            "next",  # slots of the same instrument's other reservations, 0 for none
            "previous",
        )
    ],
    align=True,
)

RECENT: Final = np.dtype([("ts_ns", np.int64), ("client_order_hash", np.int64)], align=True)

# Numba knows a dtype, but not its size.
ACCOUNT_BYTES: Final = ACCOUNT.itemsize
INSTRUMENT_BYTES: Final = INSTRUMENT.itemsize
SIDE_BYTES: Final = SIDE.itemsize
SIDES_AT: Final = INSTRUMENT.fields["sides"][1]  # type: ignore[index]
SECTOR_BYTES: Final = SECTOR.itemsize
RESERVATION_BYTES: Final = RESERVATION.itemsize
RECENT_BYTES: Final = RECENT.itemsize
SEEN_BYTES: Final = 4

# Cells of the hash table per order in the ring: sparse, so that nearly every search ends where it starts.
SEEN_PER_RECENT: Final = 8

# A reservation's handle is ``generation << SLOT_BITS | slot``, so a stale handle is recognised.
SLOT_BITS: Final = 20
SLOT_MASK: Final = 2**SLOT_BITS - 1


class State(NamedTuple):
    """The block's tables as NumPy views, for Python."""

    account: Array
    instruments: Array
    sectors: Array
    reservations: Array
    free: Array
    recent: Array
    seen: Array


def power_of_two(minimum: int) -> int:
    """The smallest power of two that is >= minimum."""
    return 1 << max(minimum - 1, 0).bit_length()


def table_sizes(instruments: int, sectors: int, reservations: int, ring: int) -> tuple[tuple[np.dtype[Any], int], ...]:
    """(dtype, records) of each table in its place in the block."""
    word = np.dtype(np.int64)
    return (
        (ACCOUNT, 1),
        (INSTRUMENT, instruments),
        (SECTOR, sectors),
        (RESERVATION, reservations + 2),
        (word, reservations + 1),
        (RECENT, ring),
        (np.dtype(np.int32), SEEN_PER_RECENT * ring),
    )


def allocate(instruments: int, sectors: int, reservations: int, recent: int) -> tuple[Array, State]:
    """A zeroed block on a cache line, and its tables.

    `recent` is how many past orders are remembered at least. The ring has room for one batch on
    top of that, so that a batch can be undone without having overwritten anything.
    """
    ring = power_of_two(recent + reservations)
    tables = table_sizes(instruments, sectors, reservations, ring)
    words = sum(dtype.itemsize * records for dtype, records in tables) // WORD
    raw = np.zeros(words + CACHE_LINE // WORD, np.int64)
    skip = -raw.ctypes.data % CACHE_LINE // WORD
    block = raw[skip : skip + words]
    views, starts, start = [], [], 0
    for dtype, records in tables:
        size = dtype.itemsize * records // WORD
        views.append(block[start : start + size].view(dtype))
        starts.append(start * WORD)
        start += size
    state = State(*views)
    state.instruments["sides"]["own"] = state.instruments["sides"]["best"] = (-FAR, FAR)
    account = state.account[0]
    for name, view, at in zip(State._fields[1:], views[1:], starts[1:], strict=True):
        account[f"at_{name}"] = at
        if name not in ("free", "reservations"):
            account[f"capacity_{name}"] = len(view)
    account["capacity_reservations"] = reservations
    account["free_top"] = len(state.free)
    state.free[:] = np.arange(len(state.free), 0, -1)
    return block, state


def copy_of(snapshot: Array) -> tuple[Array, State]:
    """A block of its own with a snapshot's content. InvalidArrayError if the sizes do not agree."""
    head = np.ascontiguousarray(snapshot[: ACCOUNT.itemsize // WORD]).view(ACCOUNT)[0]
    names = ("instruments", "sectors", "reservations", "recent")
    instruments, sectors, reservations, ring = (int(head[f"capacity_{name}"]) for name in names)
    if min(instruments, sectors, reservations, ring - reservations) > 0 and ring == power_of_two(ring):
        tables = table_sizes(instruments, sectors, reservations, ring)
        if sum(dtype.itemsize * records for dtype, records in tables) == snapshot.nbytes:
            block, state = allocate(instruments, sectors, reservations, ring - reservations)
            places = all(state.account[name][0] == head[name] for name in PLACES)
            block[:] = snapshot
            inside = (state.instruments["sector"] >= 0) & (state.instruments["sector"] < sectors)
            if places and inside.all():
                return block, state
    raise InvalidArrayError("snapshot", "is no gate's state", "pass what snapshot() returned")
