"""How reservations, fills and prices move the exposure, and the sums that the rules compare.

Worst case
----------
Open orders may fill in any order and to any part. With position P, open buys B and open sells S (lots)
an instrument can end up anywhere from P - S to P + B, so it is judged by the worse end:

    long = max(P + B, 0)      short = max(S - P, 0)      worst = max(long, short)
    margin = max(long * long margin, short * short margin)
    risk = max(long - max(base, 0), short - max(-base, 0))    beyond the position that var_use covers

and the account by the sums over its instruments:

    gross      worst * unit         net_long   (P + B) * unit        margin     margin
    value      P * unit             net_short  (S - P) * unit        var_open   risk * var_unit

A fill within its reservation raises none of them but `value`, and neither does a release. So
what the gate approved can only shrink, whatever the agents and the venue do next.

The sums are integers and move by exact differences, so they cannot drift; ``recount`` proves it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from execution_core.gate.layout import FAR, LOTS_MAX, MONEY_MAX, SLOT_BITS, SLOT_MASK
from execution_core.gate.memory import (
    account_of,
    aside,
    divide,
    free_of,
    inline,
    instrument_of,
    instruments_of,
    money,
    recent_of,
    reservation_of,
    sector_of,
    seen_of,
    side_of,
)
from execution_core.gate.rules import BPS, BUY, SELL, home, if_buy, share_up, towards


class Share(NamedTuple):
    """One instrument's part of the account's sums."""

    value: int
    gross: int
    net_long: int
    net_short: int
    margin: int
    var_open: int


@inline
def share(i: Any, buys: int, sells: int) -> Share:
    """The instrument's part of the sums. Only `gross`, `margin` and `var_open` saturate; where they do
    not, the others cannot overflow: each is at most `gross` in size."""
    return Share(
        i.position * i.unit,
        money(i.worst, i.unit),
        (i.position + buys) * i.unit,
        (sells - i.position) * i.unit,
        i.margin,
        money(i.risk, i.var_unit),
    )


@inline
def set_worst(i: Any, long: Any, short: Any) -> None:
    """The instrument's worst case, from its position and its two sides."""
    longest = max(i.position + long.open, 0)
    shortest = max(short.open - i.position, 0)
    i.worst = max(longest, shortest)
    i.margin = max(money(longest, long.margin_unit), money(shortest, short.margin_unit))
    i.risk = max(longest - max(i.var_base, 0), shortest - max(-i.var_base, 0), 0)


@inline
def carry(block: int, i: Any, old: Share, new: Share) -> bool:
    """Move the account's and the sector's sums by one instrument's change. False, and nothing moved,
    if that would take them out of their range."""
    a = account_of(block)
    gross = a.gross + (new.gross - old.gross)
    margin = a.margin + (new.margin - old.margin)
    var_open = a.var_open + (new.var_open - old.var_open)
    if max(gross, margin, var_open) > MONEY_MAX or abs(i.position) > LOTS_MAX:
        return False
    a.gross = gross
    a.margin = margin
    a.var_open = var_open
    a.position_value += new.value - old.value
    a.net_long += new.net_long - old.net_long
    a.net_short += new.net_short - old.net_short
    sector_of(block, i.sector).gross += new.gross - old.gross
    return True


@aside
def set_units(block: int, index: int) -> bool:
    """Money per lot from mark, tick value and rates. False (the row is then unusable) if out of range."""
    a = account_of(block)
    i = instrument_of(block, index)
    long = side_of(block, index, BUY)
    short = side_of(block, index, SELL)
    i.unit = money(i.mark, i.tick_value)
    long.margin_unit = margin_unit(i.unit, max(a.margin_long_bps, i.margin_long_bps))
    short.margin_unit = margin_unit(i.unit, max(a.margin_short_bps, i.margin_short_bps))
    i.var_unit = share_up(i.unit, i.var_ppm)
    # The quick gear prices a lot at no more than twice the mark, plus as much again in fees.
    dearest = max(money(i.unit, 4) + i.fee_per_lot, long.margin_unit, short.margin_unit, 1)
    i.quick_lots = min(divide(MONEY_MAX, dearest), LOTS_MAX)
    return bool(max(i.unit, long.margin_unit, short.margin_unit) <= MONEY_MAX)


@inline
def margin_unit(unit: int, bps: int) -> int:
    """unit * bps / 10,000 rounded up, saturating."""
    whole = divide(unit, BPS)
    return int(money(whole, bps) + divide((unit - whole * BPS) * bps + BPS - 1, BPS))


@aside
def recount(block: int) -> bool:
    """Work out every unit, worst case and sum from positions, open orders, prices and rates. False if
    one leaves its range (the state is then unusable: restore a copy)."""
    a = account_of(block)
    a.position_value = a.gross = a.net_long = a.net_short = a.margin = a.var_open = 0
    for k in range(a.capacity_sectors):
        sector_of(block, k).gross = 0
    nothing = Share(0, 0, 0, 0, 0, 0)
    for k in range(a.capacity_instruments):
        i = instrument_of(block, k)
        if i.tick_value == 0:
            continue
        long = side_of(block, k, BUY)
        short = side_of(block, k, SELL)
        if not set_units(block, k):
            return False
        set_worst(i, long, short)
        if not carry(block, i, nothing, share(i, long.open, short.open)):
            return False
    return True


@aside
def revalue(block: int, index: int, mark: int, position: int, side: int, covered: int) -> bool:
    """A new price, and a new position with `covered` lots fewer open on `side`. False (nothing changed)
    if the account would leave its range."""
    i = instrument_of(block, index)
    long = side_of(block, index, BUY)
    short = side_of(block, index, SELL)
    half = side_of(block, index, side)
    old = share(i, long.open, short.open)
    old_mark, old_position = i.mark, i.position
    i.mark = mark
    i.position = position
    half.open -= covered
    usable = set_units(block, index)
    set_worst(i, long, short)
    if usable and carry(block, i, old, share(i, long.open, short.open)):
        return True
    i.mark = old_mark
    i.position = old_position
    half.open += covered
    set_units(block, index)
    set_worst(i, long, short)
    return False


@aside
def replace_facts(block: int, index: int, before: Any, after: Any) -> bool:
    """Let the instrument's row, which equals before[0], be after[0]: the same but for its facts. False
    (nothing changed) if the account would leave its range."""
    i = instrument_of(block, index)
    long = side_of(block, index, BUY)
    short = side_of(block, index, SELL)
    nothing = Share(0, 0, 0, 0, 0, 0)
    old = share(i, long.open, short.open)
    carry(block, i, old, nothing)
    instruments_of(block)[index] = after[0]
    usable = set_units(block, index)
    set_worst(i, long, short)
    if usable and carry(block, i, nothing, share(i, long.open, short.open)):
        return True
    instruments_of(block)[index] = before[0]
    carry(block, i, nothing, old)
    return False


@inline
def reserve(block: int, order: Any, lots: int, t: Any, e: Any, seen_at: int, stamp_ns: int) -> int:
    """Reserve approved lots on the order's terms and with their effect; returns the handle. `seen_at`
    is the empty cell of its id, a slot is free, and the effect is within range."""
    a = account_of(block)
    i = instrument_of(block, order.instrument)
    side = side_of(block, order.instrument, order.side)
    side.open += lots
    i.worst = e.worst
    i.margin = e.margin
    i.risk = e.risk
    a.gross += e.gross_growth
    a.margin += e.margin_growth
    a.var_open += e.var_growth
    sector_of(block, i.sector).gross += e.gross_growth
    long_growth = if_buy(order.side, e.net_growth)
    a.net_long += long_growth
    a.net_short += e.net_growth - long_growth
    a.reserved_cash += e.cash
    a.reserved_cost += e.cost
    a.open_orders += 1
    if t.rests_at > 0:
        improve_quote(side, order.side, t.rests_at)

    a.free_top -= 1
    slot = free_of(block, a.free_top)[0]
    r = reservation_of(block, slot)
    r.instrument = order.instrument
    r.side = order.side
    r.lots = lots
    r.cash_unit = t.cash_unit
    r.cost_unit = t.cost_unit
    r.fixed = a.fee_per_order
    r.price = t.rests_at
    r.next = i.first
    reservation_of(block, i.first).previous = slot
    i.first = slot

    entry = recent_of(block, a.recent_head)
    entry.ts_ns = stamp_ns
    entry.client_order_hash = order.client_order_hash
    if order.client_order_hash != 0:
        seen_of(block, seen_at)[0] = 1 + (a.recent_head & (a.capacity_recent - 1))
    a.recent_head += 1
    return int((r.generation + 1) << SLOT_BITS | slot)


@inline
def improve_quote(side: Any, direction: int, price: int) -> None:
    """Let the best own resting price be this one if it is better."""
    side.own = towards(direction, max(towards(direction, side.own), towards(direction, price)))


@inline
def forget(block: int, number: int) -> None:
    """Clear the ring's record of an order, and take its id out of the index.

    Closes the gap in the index (no tombstones); undoes the last insertion exactly.
    """
    a = account_of(block)
    entry = recent_of(block, number)
    if entry.client_order_hash != 0:
        mask = a.capacity_seen - 1
        place = 1 + (number & (a.capacity_recent - 1))
        gap = home(entry.client_order_hash, mask)
        while seen_of(block, gap)[0] != place:
            gap = (gap + 1) & mask
        at = (gap + 1) & mask
        other = seen_of(block, at)[0]
        while other != 0:
            # It may move into the gap unless its home lies cyclically between the two.
            start = home(recent_of(block, other - 1).client_order_hash, mask)
            if (at - start) & mask >= (at - gap) & mask:
                seen_of(block, gap)[0] = other
                gap = at
            at = (at + 1) & mask
            other = seen_of(block, at)[0]
        seen_of(block, gap)[0] = 0
    entry.ts_ns = 0
    entry.client_order_hash = 0


@inline
def forget_oldest(block: int) -> None:
    """Drop what the ring holds beyond its memory; its cells are zero again for the next batch."""
    a = account_of(block)
    keep = a.capacity_recent - a.capacity_reservations
    while a.recent_head - a.recent_tail > keep:
        forget(block, a.recent_tail)
        a.recent_tail += 1


@inline
def slot_of(block: int, handle: int) -> int:
    """The slot of a live reservation, 0 if the handle is stale or never was."""
    slot = handle & SLOT_MASK
    if handle <= 0 or slot > account_of(block).capacity_reservations + 1:
        return 0
    r = reservation_of(block, slot)
    return slot if r.lots > 0 and r.generation + 1 == handle >> SLOT_BITS else 0


@inline
def weigh(block: int, slot: int, lots: int) -> None:
    """Add some of a reservation's lots to the account's open orders, or, negative, take them off."""
    a = account_of(block)
    r = reservation_of(block, slot)
    i = instrument_of(block, r.instrument)
    long = side_of(block, r.instrument, BUY)
    short = side_of(block, r.instrument, SELL)
    old = share(i, long.open, short.open)
    side_of(block, r.instrument, r.side).open += lots
    set_worst(i, long, short)
    carry(block, i, old, share(i, long.open, short.open))
    a.reserved_cash += lots * r.cash_unit
    a.reserved_cost += lots * r.cost_unit


@inline
def weigh_fixed(block: int, slot: int, times: int) -> None:
    """Add (1) or take off (-1) what a reservation weighs whatever its lots."""
    a = account_of(block)
    r = reservation_of(block, slot)
    a.reserved_cash += times * if_buy(r.side, r.fixed)
    a.reserved_cost += times * r.fixed
    a.open_orders += times


@aside
def release(block: int, slot: int, lots: int) -> None:
    """Give lots (at most the reservation's) back without a fill."""
    weigh(block, slot, -lots)
    shrink(block, slot, lots)


@inline
def shrink(block: int, slot: int, lots: int) -> None:
    """Take lots off a reservation that no longer weigh; close it when none are left."""
    r = reservation_of(block, slot)
    r.lots -= lots
    if r.lots == 0:
        weigh_fixed(block, slot, -1)
        close(block, slot)


@aside
def close(block: int, slot: int) -> None:
    """Clear a reservation that no longer weighs anything, and free its slot."""
    a = account_of(block)
    r = reservation_of(block, slot)
    reservation_of(block, r.next).previous = r.previous
    if r.previous != 0:
        reservation_of(block, r.previous).next = r.next
    else:
        instrument_of(block, r.instrument).first = r.next
    reservation_of(block, 0).previous = 0
    r.generation += 1
    r.instrument = r.side = r.lots = r.cash_unit = r.cost_unit = r.fixed = 0
    r.price = r.next = r.previous = 0
    free_of(block, a.free_top)[0] = slot
    a.free_top += 1


@aside
def lift(block: int, slot: int) -> int:
    """Let a reservation weigh nothing while another is judged in its place; returns where it rested."""
    r = reservation_of(block, slot)
    price = r.price
    weigh(block, slot, -r.lots)
    weigh_fixed(block, slot, -1)
    rest(block, slot, 0)
    return int(price)


@aside
def put_back(block: int, slot: int, price: int) -> None:
    """Undo ``lift``."""
    weigh(block, slot, reservation_of(block, slot).lots)
    weigh_fixed(block, slot, 1)
    rest(block, slot, price)


@aside
def rest(block: int, slot: int, price: int) -> None:
    """The reservation's order rests at this price from now on; 0: it does not."""
    r = reservation_of(block, slot)
    r.price = price
    if price > 0:
        improve_quote(side_of(block, r.instrument, r.side), r.side, price)


@aside
def quote(block: int, index: int, side: int) -> None:
    """Make `own` of one side exact. What ends or moves away leaves it as a bound that no own order betters:
    to look through the instrument's list each time would cost a market maker microseconds a fill."""
    half = side_of(block, index, side)
    bound = half.own
    half.own = -FAR if side == BUY else FAR
    at = instrument_of(block, index).first
    while at != 0 and half.own != bound:
        r = reservation_of(block, at)
        if r.side == side and r.price > 0:
            improve_quote(half, side, r.price)
        at = r.next


@aside
def quote_all(block: int) -> None:
    """``quote`` for every instrument."""
    for index in range(account_of(block).capacity_instruments):
        quote(block, index, BUY)
        quote(block, index, SELL)


@aside
def undo_reserve(block: int, handle: int) -> None:
    """Take the newest reservation back, leaving the state as it was to the bit."""
    a = account_of(block)
    slot = handle & SLOT_MASK
    r = reservation_of(block, slot)
    release(block, slot, r.lots)
    r.generation -= 1
    a.recent_head -= 1
    forget(block, a.recent_head)


@aside
def fill(block: int, slot: int, index: int, side: int, lots: int, price: int, fee: int) -> int:
    """Turn reserved lots into position and cash; slot 0: a fill without a reservation.

    Returns the lots that no reservation covered, or -1 (nothing changed) when the account would
    leave its range.
    """
    a = account_of(block)
    i = instrument_of(block, index)
    paid = money(money(price, i.tick_value), lots)
    cash = a.cash - paid - fee if side == BUY else a.cash + paid - fee
    if paid > MONEY_MAX or abs(cash) > MONEY_MAX:
        return -1
    covered = min(lots, reservation_of(block, slot).lots) if slot > 0 else 0
    position = i.position + lots if side == BUY else i.position - lots
    # A first price, already stale: better than to carry the position at nothing.
    if not revalue(block, index, price if i.mark == 0 else i.mark, position, side, covered):
        return -1
    a.cash = cash
    if covered > 0:
        r = reservation_of(block, slot)
        a.reserved_cash -= covered * r.cash_unit
        a.reserved_cost -= covered * r.cost_unit
        shrink(block, slot, covered)
    return lots - covered
