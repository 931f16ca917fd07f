"""Every denial reason as arithmetic over the state.

`terms` works out what does not depend on the quantity; `effect` adds what does, so that the largest
quantity that fits can be found by asking again. The rules are listed one by one in
tests/unit/execution_core/gate/twin.py, in plain Python.

Three kinds of bits:

    hard    hold for every order, reductions too: state of the venue and of the order itself
    soft    independent of the quantity, and not asked of reductions: policy, rates, losses
    sized   depend on the quantity

Two gears, one text. With ``exact`` the functions return the mask of the rules that are broken and
multiply with saturation. Without, they only tell whether anything at all may be wrong: each rule
contributes its room (limit - amount), and the or of all rooms is negative if one of them is. That
needs neither comparisons nor shifts, nor saturation, because rooms of their own keep the products small
(``quick_lots``). Nearly every order passes in the quick gear; the rest is judged again, exactly.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from execution_core.gate.layout import MONEY_MAX, PRICE_MAX, SATURATED
from execution_core.gate.memory import (
    account_of,
    divide,
    inline,
    instrument_of,
    money,
    recent_of,
    sector_of,
    seen_of,
    side_of,
)
from execution_core.types import DenialReason as Reason
from execution_core.types import OrderFlag, OrderType, Side, TimeInForce, TradingState

BPS: Final = 10_000
PPM: Final = 1_000_000

# Numba freezes globals, not members of an enumeration: it needs them as plain integers.
BUY: Final = int(Side.BUY)
SELL: Final = int(Side.SELL)
MARKET: Final = int(OrderType.MARKET)
REDUCE_ONLY: Final = int(OrderFlag.REDUCE_ONLY)
POST_ONLY: Final = int(OrderFlag.POST_ONLY)
GTD: Final = int(TimeInForce.GTD)
AT_OPEN: Final = int(TimeInForce.AT_OPEN)
ACTIVE: Final = int(TradingState.ACTIVE)
HALTED: Final = int(TradingState.HALTED)
NEVER_RESTS: Final = (
    (1 << TimeInForce.IOC) | (1 << TimeInForce.FOK) | (1 << TimeInForce.AT_OPEN) | (1 << TimeInForce.AT_CLOSE)
)

_LIMITED = (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.LIMIT_IF_TOUCHED, OrderType.ICEBERG)
# Types that must carry a limit price. A trailing stop limit may: its venue sets it.
PRICED_TYPES: Final = sum(1 << kind for kind in _LIMITED)
LIMITED_TYPES: Final = PRICED_TYPES | (1 << OrderType.TRAILING_STOP_LIMIT)
CONDITIONAL_TYPES: Final = sum(
    1 << kind
    for kind in (
        OrderType.STOP_MARKET,
        OrderType.STOP_LIMIT,
        OrderType.MARKET_IF_TOUCHED,
        OrderType.LIMIT_IF_TOUCHED,
        OrderType.TRAILING_STOP_MARKET,
        OrderType.TRAILING_STOP_LIMIT,
    )
)
HIGHEST_TYPE: Final = int(max(OrderType))
HIGHEST_TIME_IN_FORCE: Final = int(max(TimeInForce))

TRADING_HALTED: Final = int(Reason.TRADING_HALTED)
REDUCE_ONLY_STATE: Final = int(Reason.REDUCE_ONLY_STATE)
RISK_POLICY_STALE: Final = int(Reason.RISK_POLICY_STALE)
VIEW_NOT_CAUGHT_UP: Final = int(Reason.VIEW_NOT_CAUGHT_UP)
RECONCILING: Final = int(Reason.RECONCILING)
RATE_LIMIT_EXCEEDED: Final = int(Reason.RATE_LIMIT_EXCEEDED)
INSTRUMENT_UNKNOWN: Final = int(Reason.INSTRUMENT_UNKNOWN)
INSTRUMENT_RESTRICTED: Final = int(Reason.INSTRUMENT_RESTRICTED)
MARKET_CLOSED: Final = int(Reason.MARKET_CLOSED)
PRICE_STALE: Final = int(Reason.PRICE_STALE)
PRICE_COLLAR: Final = int(Reason.PRICE_COLLAR)
QUANTITY_BELOW_MINIMUM: Final = int(Reason.QUANTITY_BELOW_MINIMUM)
QUANTITY_ABOVE_MAXIMUM: Final = int(Reason.QUANTITY_ABOVE_MAXIMUM)
NOTIONAL_BELOW_MINIMUM: Final = int(Reason.NOTIONAL_BELOW_MINIMUM)
NOTIONAL_ABOVE_MAXIMUM: Final = int(Reason.NOTIONAL_ABOVE_MAXIMUM)
INSUFFICIENT_FUNDS: Final = int(Reason.INSUFFICIENT_FUNDS)
INSUFFICIENT_MARGIN: Final = int(Reason.INSUFFICIENT_MARGIN)
POSITION_LIMIT: Final = int(Reason.POSITION_LIMIT)
GROSS_EXPOSURE_LIMIT: Final = int(Reason.GROSS_EXPOSURE_LIMIT)
NET_EXPOSURE_LIMIT: Final = int(Reason.NET_EXPOSURE_LIMIT)
SECTOR_LIMIT: Final = int(Reason.SECTOR_LIMIT)
CONCENTRATION_LIMIT: Final = int(Reason.CONCENTRATION_LIMIT)
LEVERAGE_LIMIT: Final = int(Reason.LEVERAGE_LIMIT)
DAILY_LOSS_LIMIT: Final = int(Reason.DAILY_LOSS_LIMIT)
DRAWDOWN_LIMIT: Final = int(Reason.DRAWDOWN_LIMIT)
VAR_BUDGET: Final = int(Reason.VAR_BUDGET)
SELF_TRADE: Final = int(Reason.SELF_TRADE)
DUPLICATE_ORDER: Final = int(Reason.DUPLICATE_ORDER)
REDUCE_ONLY_WOULD_INCREASE: Final = int(Reason.REDUCE_ONLY_WOULD_INCREASE)
POST_ONLY_WOULD_CROSS: Final = int(Reason.POST_ONLY_WOULD_CROSS)
EXPIRE_TIME_IN_PAST: Final = int(Reason.EXPIRE_TIME_IN_PAST)
UNSUPPORTED_ORDER_TYPE: Final = int(Reason.UNSUPPORTED_ORDER_TYPE)
SHORT_NOT_ALLOWED: Final = int(Reason.SHORT_NOT_ALLOWED)

# Rules that a smaller quantity can fail: left out while searching for the largest that fits.
MINIMUMS: Final = (1 << QUANTITY_BELOW_MINIMUM) | (1 << NOTIONAL_BELOW_MINIMUM)


class Call(NamedTuple):
    """What is the same for all orders of one call."""

    now_ns: int
    stamp_ns: int  # what the ring of recent orders notes: now, but never less than before
    hard: int
    soft: int
    room: int  # orders that the rate limits still let through
    mode: int
    see: bool  # reserve what is approved, if only until the call ends


class Terms(NamedTuple):
    """What one order means to the account, whatever its quantity. Money per lot."""

    hard: int
    soft: int
    notional_unit: int  # at the order's own price: size limits
    cash_unit: int  # buys: worst price and fees
    cost_unit: int  # what a fill can take off the equity: fees and the distance to the mark
    rests_at: int  # its price in the market once accepted, 0 if it does not rest


class Effect(NamedTuple):
    """The rules that some lots of an order break, and what reserving them adds."""

    mask: int
    worst: int  # of the instrument, afterwards
    margin: int
    risk: int
    gross_growth: int  # of the account and the sector
    margin_growth: int
    var_growth: int
    net_growth: int  # towards the order's side
    cash: int
    cost: int


@inline
def bit(reason: int, violated: bool, exact: bool) -> int:
    """The reason's bit, or 0. In the quick gear: negative, or 0."""
    return int(violated) << reason if exact else -int(violated)


@inline
def over(reason: int, amount: int, limit: int, exact: bool) -> int:
    """The reason's bit if amount > limit, or 0. In the quick gear: the room left, negative if so."""
    room = limit - amount
    return (room >> 63) & (1 << reason) if exact else room


@inline
def times(a: int, b: int, exact: bool) -> int:
    """``money``; in the quick gear a plain product."""
    return money(a, b) if exact else a * b


@inline
def towards(side: int, amount: int) -> int:
    """The amount as seen from the side: itself for BUY, negated for SELL."""
    flip = 1 - int(side)
    return (amount ^ flip) - flip


@inline
def if_buy(side: int, amount: int) -> int:
    """The amount for BUY, 0 for SELL, without a branch that sides taken in turn would make expensive."""
    return amount & (int(side) - SELL)


@inline
def share_up(amount: int, ppm: int) -> int:
    """amount * ppm / 1e6 rounded up, without overflow for amount <= SATURATED, ppm <= 1e6."""
    whole = divide(amount, PPM)
    return int(whole * ppm + divide((amount - whole * PPM) * ppm + PPM - 1, PPM))


@inline
def home(client_order_hash: int, mask: int) -> int:
    """Where the id's probing starts. The multiplication spreads ids that are no good hashes."""
    mixed = client_order_hash * -7046029254386353131  # 2**64 / golden ratio, as int64
    return (mixed >> 20) & mask


@inline
def find_seen(block: int, client_order_hash: int) -> int:
    """The cell of the id, or the empty one (0) where it belongs. Linear probing."""
    mask = account_of(block).capacity_seen - 1
    at = home(client_order_hash, mask)
    cell = seen_of(block, at)[0]
    while cell != 0 and recent_of(block, cell - 1).client_order_hash != client_order_hash:
        at = (at + 1) & mask
        cell = seen_of(block, at)[0]
    return int(at)


@inline
def rate_room(block: int, orders: int, window_ns: int, now_ns: int, wanted: int) -> int:
    """How many more orders, at most `wanted`, until one would be the (orders + 1)th of the last `window_ns`.

    `orders` 0: no limit. The ring's times never fall, so that the last of the wanted speaks for all.
    """
    head = account_of(block).recent_head
    if orders == 0:
        return wanted
    room = 0
    if wanted <= orders and is_past(block, head - orders + wanted - 1, window_ns, now_ns):
        room = wanted
    while room < min(wanted, orders) and is_past(block, head - orders + room, window_ns, now_ns):
        room += 1
    return room


@inline
def is_past(block: int, number: int, window_ns: int, now_ns: int) -> bool:
    """Is the order with this running number, counting from 0, older than the window? Before 0: yes."""
    return bool(number < 0 or now_ns - recent_of(block, number).ts_ns >= window_ns)


@inline
def open_call(block: int, now_ns: int, orders: int, mode: int, see: bool) -> Call:
    """Everything that is the same for all orders of a call."""
    a = account_of(block)
    hard = bit(TRADING_HALTED, a.trading_state == HALTED, True)
    equity = a.cash + a.position_value
    soft = bit(REDUCE_ONLY_STATE, a.trading_state != ACTIVE and a.trading_state != HALTED, True)
    soft |= bit(VIEW_NOT_CAUGHT_UP, a.caught_up == 0, True)
    soft |= bit(RECONCILING, a.reconciling != 0, True)
    soft |= bit(RISK_POLICY_STALE, a.policy_version == 0 or now_ns - a.policy_ts_ns > a.policy_max_age_ns, True)
    soft |= bit(DAILY_LOSS_LIMIT, a.day_start_equity - equity >= a.daily_loss_limit, True)
    soft |= bit(DRAWDOWN_LIMIT, a.peak_equity - equity >= a.drawdown_limit, True)
    room = rate_room(block, a.burst_orders, a.burst_window_ns, now_ns, orders)
    room = rate_room(block, a.rate_orders, a.rate_window_ns, now_ns, room)
    stamp_ns = max(now_ns, recent_of(block, a.recent_head - 1).ts_ns)
    return Call(now_ns, stamp_ns, hard, soft, room, mode, see)


@inline
def order_bits(block: int, order: Any, call: Call, approved: int, seen_at: int, exact: bool) -> tuple[int, int]:
    """(hard, soft) bits that need no instrument. `approved` counts the call's orders so far; `seen_at` is
    the cell of the order's id."""
    a = account_of(block)
    hard = bit(DUPLICATE_ORDER, seen_of(block, seen_at)[0] != 0, exact)
    if order.time_in_force == GTD:
        hard |= over(EXPIRE_TIME_IN_PAST, call.now_ns + 1, order.expire_ns, exact)
        hard |= 0 if exact else order.expire_ns
    hard |= over(RATE_LIMIT_EXCEEDED, a.open_orders + 1, a.capacity_reservations, exact)
    soft = over(RATE_LIMIT_EXCEEDED, a.open_orders + 1, a.max_open_orders, exact)
    soft |= over(RATE_LIMIT_EXCEEDED, approved + 1, call.room, exact)
    return hard, soft


@inline
def type_bit(order: Any) -> int:
    """1 << type, for any type: the quick gear looks at an order before it knows that it is well-formed."""
    return int(1 << (order.type & 63))


@inline
def terms(block: int, order: Any, call: Call, hard: int, soft: int, exact: bool) -> Terms:
    """Everything about an order of a known instrument that does not depend on its quantity.

    `hard` and `soft` are the bits found so far.
    """
    a = account_of(block)
    i = instrument_of(block, order.instrument)
    side = order.side
    other = side_of(block, order.instrument, 3 - side)
    kind = type_bit(order)
    limited = (kind & LIMITED_TYPES) != 0 and order.price > 0
    # Whether an order trades on arrival is known now; of a conditional order it is not.
    immediate = (kind & CONDITIONAL_TYPES) == 0

    # A conditional order meets the market at its trigger; the collar hangs around that price.
    reference = i.mark if immediate or order.trigger == 0 else order.trigger
    room = reference * a.collar_bps
    if limited:
        price = order.price
        worst = price
        unit = times(price, i.tick_value, exact)
        notional_unit = unit
    else:
        price = reference
        worst = reference + towards(side, divide(room + BPS - 1, BPS))
        unit = times(worst, i.tick_value, exact)
        notional_unit = times(price, i.tick_value, exact)

    fee = i.fee_per_lot + share_up(unit, i.fee_ppm)
    slip = towards(side, unit - i.unit) if i.mark > 0 or not exact else 0
    cost_unit = fee + max(slip, 0)
    cash_unit = if_buy(side, unit + fee)
    if exact:
        cost_unit = min(cost_unit, SATURATED)
        cash_unit = min(cash_unit, SATURATED)
    rests = immediate and limited and ((1 << (order.time_in_force & 63)) & NEVER_RESTS) == 0

    stale = over(PRICE_STALE, call.now_ns - i.mark_ts_ns, a.price_max_age_ns, exact)
    stale |= over(PRICE_STALE, 1, i.mark, exact)
    soft |= stale
    if exact:
        # With an old price reductions pass at the operator's word; without any nothing can be judged.
        hard |= stale if a.stale_price_reductions == 0 or reference == 0 else 0
        hard |= i.denials & ~bit(MARKET_CLOSED, order.time_in_force == AT_OPEN, True)
    else:
        hard |= -i.denials
        # Nothing beyond twice the mark in the quick gear: its products rely on that.
        hard |= (2 * i.mark - worst) | (2 * i.mark - price)
        # What is left to see whether the order is well-formed; the rules imply the rest.
        hard |= (int(side) - BUY) | (SELL - int(side)) | int(order.flags) | (POST_ONLY + REDUCE_ONLY - int(order.flags))
        hard |= (int(order.time_in_force) - 1) | (HIGHEST_TIME_IN_FORCE - int(order.time_in_force))
        hard |= HIGHEST_TYPE - int(order.type)
        if (kind & LIMITED_TYPES) != 0:
            hard |= order.price - int((kind & PRICED_TYPES) != 0)
        if not immediate:
            hard |= order.trigger | (PRICE_MAX - order.trigger)
    if reference > 0 or not exact:
        hard |= over(PRICE_COLLAR, towards(side, price - reference) * BPS, room, exact)
    if immediate:
        ahead = towards(side, worst) + 1
        hard |= over(SELF_TRADE, ahead, towards(side, other.own), exact)
        if (order.flags & POST_ONLY) != 0:
            hard |= over(POST_ONLY_WOULD_CROSS, ahead, towards(side, other.best), exact)
            hard |= bit(POST_ONLY_WOULD_CROSS, not limited, exact)
    hard |= bit(UNSUPPORTED_ORDER_TYPE, (kind & i.order_types) == 0, exact)
    return Terms(hard, soft, notional_unit, cash_unit, cost_unit, price if rests else 0)


@inline
def effect(block: int, order: Any, lots: int, t: Terms, exact: bool) -> Effect:
    """What `lots` of the order would break and add.

    An order adds to its own side only, so each worst case (exposure.py) is the larger of what it was
    and of what the order makes of that side.
    """
    a = account_of(block)
    i = instrument_of(block, order.instrument)
    side = side_of(block, order.instrument, order.side)
    sector = sector_of(block, i.sector)

    reach = towards(order.side, i.position) + side.open + lots
    worst = max(i.worst, reach)
    margin = max(i.margin, times(max(reach, 0), side.margin_unit, exact))
    risk = max(i.risk, reach - max(towards(order.side, i.var_base), 0))
    gross_growth = times(worst - i.worst, i.unit, exact)
    margin_growth = margin - i.margin
    var_growth = times(risk - i.risk, i.var_unit, exact)
    net_growth = times(lots, i.unit, exact)
    notional = times(lots, t.notional_unit, exact)
    cash = times(lots, t.cash_unit, exact) + if_buy(order.side, a.fee_per_order)
    cost = times(lots, t.cost_unit, exact) + a.fee_per_order

    reserved_cost = a.reserved_cost + cost
    if exact:
        reserved_cost = min(reserved_cost, SATURATED)
    equity = a.cash + a.position_value - reserved_cost
    gross = a.gross + gross_growth
    net = a.net_short + if_buy(order.side, a.net_long - a.net_short) + net_growth

    mask = t.hard
    if not exact:
        mask |= (i.quick_lots - lots) | (i.quick_lots - reach)
    mask |= over(QUANTITY_BELOW_MINIMUM, i.min_lots, lots, exact)
    mask |= over(QUANTITY_ABOVE_MAXIMUM, lots, i.max_lots, exact)
    mask |= over(NOTIONAL_ABOVE_MAXIMUM, notional, i.max_notional, exact)
    # The account's sums stay within their range, whatever the limits say.
    mask |= over(NOTIONAL_ABOVE_MAXIMUM, reserved_cost, MONEY_MAX, exact)
    mask |= over(NOTIONAL_ABOVE_MAXIMUM, a.reserved_cash + cash, MONEY_MAX, exact)
    # Reductions leave the account on the other side of zero still, and are asked no more than that.
    if reach > 0 or not exact:
        mask |= t.soft
        # Not asked of reductions: a small remainder must stay closable.
        mask |= over(NOTIONAL_BELOW_MINIMUM, i.min_notional, notional, exact)
        funds = a.cash - a.cash_buffer - a.reserved_cash
        mask |= if_buy(order.side, over(INSUFFICIENT_FUNDS, cash, funds, exact))
        mask |= over(INSUFFICIENT_MARGIN, a.margin + margin_growth, equity, exact)
        mask |= over(INSUFFICIENT_MARGIN, a.margin + margin_growth, MONEY_MAX, exact)
        mask |= over(POSITION_LIMIT, worst, i.position_limit, exact)
        mask |= over(GROSS_EXPOSURE_LIMIT, gross, a.gross_limit, exact)
        mask |= over(NET_EXPOSURE_LIMIT, net, a.net_limit, exact)
        mask |= over(SECTOR_LIMIT, sector.gross + gross_growth, sector.limit, exact)
        mask |= over(CONCENTRATION_LIMIT, times(worst, i.unit, exact), a.concentration_limit, exact)
        if a.leverage_limit_bps != 0:
            limit = money(divide(max(equity, 0), BPS), a.leverage_limit_bps)
            mask |= over(LEVERAGE_LIMIT, gross, limit, exact)
        mask |= over(VAR_BUDGET, a.var_use + a.var_open + var_growth, a.var_budget, exact)
        mask |= over(SHORT_NOT_ALLOWED, reach, side.reach_limit, exact)
        if (order.flags & REDUCE_ONLY) != 0:
            mask |= over(REDUCE_ONLY_WOULD_INCREASE, reach, 0, exact)
    return Effect(mask, worst, margin, risk, gross_growth, margin_growth, var_growth, net_growth, cash, cost)


@inline
def is_index(block: int, instrument: int) -> bool:
    """Has the instrument a row? One that is not set up supports no order type."""
    return bool((int(instrument) | (account_of(block).capacity_instruments - 1 - int(instrument))) >= 0)


@inline
def is_known(block: int, instrument: int) -> bool:
    """Is this a set-up instrument's index?"""
    return bool(is_index(block, instrument) and instrument_of(block, instrument).tick_value != 0)
