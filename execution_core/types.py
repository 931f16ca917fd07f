"""The language of the core: enumerations and structured dtypes shared by every kernel.

Enumerations carry the numbers of the protobuf contracts (``alphamesh.execution.v1`` and
``alphamesh.type.v1``); a contract test holds the two equal, so ``kit/convert.py`` casts
instead of mapping. Names follow FIX 4.4.

Units
-----
price      int64 ticks (``price_e9 / price_increment_e9``)
quantity   int64 lots (``quantity_e9 / size_increment_e9``)
money      int64 nano units of the account's currency (1e-9)
time       int64 nanoseconds since the Unix epoch, UTC
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np

NANO: Final = 1_000_000_000


class Side(IntEnum):
    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    MARKET = 1
    LIMIT = 2
    STOP_MARKET = 3
    STOP_LIMIT = 4
    MARKET_IF_TOUCHED = 5
    LIMIT_IF_TOUCHED = 6
    TRAILING_STOP_MARKET = 7
    TRAILING_STOP_LIMIT = 8
    ICEBERG = 9


class TimeInForce(IntEnum):
    DAY = 1
    GTC = 2
    IOC = 3
    FOK = 4
    GTD = 5
    AT_OPEN = 6
    AT_CLOSE = 7


class OrderState(IntEnum):
    INITIALIZED = 1
    DENIED = 2
    SUBMITTED = 3
    ACCEPTED = 4
    REJECTED = 5
    PENDING_REPLACE = 6
    PENDING_CANCEL = 7
    TRIGGERED = 8
    PARTIALLY_FILLED = 9
    FILLED = 10
    CANCELED = 11
    EXPIRED = 12
    UNRESOLVED = 13


class TradingState(IntEnum):
    """The kill ladder: each step is stricter than the one before."""

    ACTIVE = 1
    REDUCE_ONLY = 2
    CANCEL_ALL = 3
    FLATTEN = 4
    HALTED = 5


class LiquidityFlag(IntEnum):
    """FIX LastLiquidityInd (851)."""

    MAKER = 1
    TAKER = 2
    AUCTION = 4


class SelfTradePrevention(IntEnum):
    CANCEL_NEWEST = 1
    CANCEL_OLDEST = 2
    CANCEL_BOTH = 3
    DECREMENT_AND_CANCEL = 4


class DenialReason(IntEnum):
    """Why the pre-trade gate denied an order. Bit ``1 << reason`` in the gate's verdict mask."""

    TRADING_HALTED = 1
    REDUCE_ONLY_STATE = 2
    RISK_POLICY_STALE = 3
    VIEW_NOT_CAUGHT_UP = 4
    RECONCILING = 5
    RATE_LIMIT_EXCEEDED = 6
    INSTRUMENT_UNKNOWN = 7
    INSTRUMENT_RESTRICTED = 8
    MARKET_CLOSED = 9
    PRICE_STALE = 10
    PRICE_COLLAR = 11
    QUANTITY_BELOW_MINIMUM = 12
    QUANTITY_ABOVE_MAXIMUM = 13
    NOTIONAL_BELOW_MINIMUM = 14
    NOTIONAL_ABOVE_MAXIMUM = 15
    INSUFFICIENT_FUNDS = 16
    INSUFFICIENT_MARGIN = 17
    POSITION_LIMIT = 18
    GROSS_EXPOSURE_LIMIT = 19
    NET_EXPOSURE_LIMIT = 20
    SECTOR_LIMIT = 21
    CONCENTRATION_LIMIT = 22
    LEVERAGE_LIMIT = 23
    DAILY_LOSS_LIMIT = 24
    DRAWDOWN_LIMIT = 25
    VAR_BUDGET = 26
    SELF_TRADE = 27
    DUPLICATE_ORDER = 28
    REDUCE_ONLY_WOULD_INCREASE = 29
    POST_ONLY_WOULD_CROSS = 30
    EXPIRE_TIME_IN_PAST = 31
    UNSUPPORTED_ORDER_TYPE = 32
    SHORT_NOT_ALLOWED = 33


# One price bar. Prices in ticks, volume in lots; ts is the close of the bar.
BAR: Final = np.dtype(
    [
        ("ts_event_ns", np.int64),
        ("open", np.int64),
        ("high", np.int64),
        ("low", np.int64),
        ("close", np.int64),
        ("volume", np.int64),
    ],
    align=True,
)

# --- Simulation (execution_core/simulation) -------------------------------------------------

# "No price" in an int64 tick field where zero and negative prices are legal.
NO_PRICE: Final = -(2**63)


class OrderFlag(IntFlag):
    """Bits of an order's ``flags``. The venue simulation sets RESTED and HAS_TRIGGERED itself."""

    NONE = 0
    POST_ONLY = 1
    REDUCE_ONLY = 2
    RESTED = 4
    HAS_TRIGGERED = 8


class Contingency(IntEnum):
    """What a fill does to the other orders of its group."""

    NONE = 0
    ONE_CANCELS_OTHER = 1
    ONE_UPDATES_OTHER = 2


class VenueEventKind(IntEnum):
    FILL = 1
    TRIGGERED = 2
    EXPIRED = 3
    CANCELED = 4
    REDUCED = 5


class CancelReason(IntEnum):
    """Why the simulated venue canceled an order; NONE on other events."""

    NONE = 0
    IMMEDIATE_REMAINDER = 1
    FILL_OR_KILL = 2
    POST_ONLY_WOULD_CROSS = 3
    CONTINGENT_ORDER_FILLED = 4


# One order resting at the simulated venue. Prices in ticks, sizes in lots.
#   instrument    row of the bars and fill models
#   price         limit; ignored by market types, set by the venue for TRAILING_STOP_LIMIT
#   trigger       stop, touch or current trailing trigger; NO_PRICE on a trailing order: the venue
#                 arms it at the open of its first bar
#   trail         distance of a trailing trigger, >= 1
#   limit_offset  TRAILING_STOP_LIMIT: limit = trigger + offset for a buy, trigger - offset for a sell
#   group         contingency group, 0 for none
RESTING_ORDER: Final = np.dtype(
    [
        ("order_id", np.int64),
        ("arrival_seq", np.int64),
        ("expire_ts_ns", np.int64),
        ("price", np.int64),
        ("trigger", np.int64),
        ("trail", np.int64),
        ("limit_offset", np.int64),
        ("display", np.int64),
        ("leaves", np.int64),
        ("group", np.int64),
        ("instrument", np.int32),
        ("type", np.int8),
        ("side", np.int8),
        ("tif", np.int8),
        ("flags", np.int8),
        ("state", np.int8),
        ("contingency", np.int8),
    ],
    align=True,
)

# What the simulated venue reports. `row` is the order's row in the array it was matched in;
# `price` is the fill price, or the trigger's; `leaves` is after the event; `leg` is the part of
# the bar: 0 open, 1 adverse, 2 favourable, 3 close.
VENUE_EVENT: Final = np.dtype(
    [
        ("ts_event_ns", np.int64),
        ("order_id", np.int64),
        ("row", np.int64),
        ("price", np.int64),
        ("lots", np.int64),
        ("leaves", np.int64),
        ("instrument", np.int32),
        ("kind", np.int8),
        ("side", np.int8),
        ("liquidity", np.int8),
        ("reason", np.int8),
        ("leg", np.int8),
    ],
    align=True,
)

# How one instrument's bars fill orders; see simulation/bars.py. Rates in parts per million
# (100 ppm = 1 bp).
FILL_MODEL: Final = np.dtype(
    [
        ("half_spread_ticks", np.int64),
        ("half_spread_ppm", np.int64),
        ("impact_ppm", np.int64),
        ("participation_cap_ppm", np.int64),
        ("through_ticks", np.int64),
        ("slippage_bound_ppm", np.int64),
    ],
    align=True,
)

# --- Pre-trade gate (execution_core/gate) ---------------------------------------------------

# One order put to the gate. Prices in ticks, quantity in lots, 0 where there is none.
#   client_order_hash  64 bits of the client order id, for DUPLICATE_ORDER; 0: not looked at
#   lots               1 or more
#   price              limit price; 0 (and ignored) for market types
#   trigger            stop, touch or current trailing trigger of the conditional types
#   expire_ns          good-till-date time; read for GTD only
#   instrument         dense index of the account's gate; any other number is INSTRUMENT_UNKNOWN
#   side, type, time_in_force, flags: Side, OrderType, TimeInForce, OrderFlag
GATE_ORDER: Final = np.dtype(
    [
        ("client_order_hash", np.int64),
        ("lots", np.int64),
        ("price", np.int64),
        ("trigger", np.int64),
        ("expire_ns", np.int64),
        ("instrument", np.int32),
        ("side", np.uint8),
        ("type", np.uint8),
        ("time_in_force", np.uint8),
        ("flags", np.uint8),
    ],
    align=True,
)

# The gate's answer to one order.
#   mask         bit ``1 << DenialReason`` for every rule that the whole order violates
#   lots         approved lots; 0: denied
#   reservation  handle of the exposure reserved for the approved lots, 0 for none
#   reason       the deciding DenialReason, the lowest set bit of the mask; 0 where the mask is 0
VERDICT: Final = np.dtype(
    [
        ("mask", np.int64),
        ("lots", np.int64),
        ("reservation", np.int64),
        ("reason", np.int64),
    ],
    align=True,
)

# One price for the gate: ticks, and the market's best prices where known (0: unknown).
GATE_PRICE: Final = np.dtype(
    [
        ("price", np.int64),
        ("ts_ns", np.int64),
        ("best_bid", np.int64),
        ("best_ask", np.int64),
        ("instrument", np.int64),
    ],
    align=True,
)

# --- Matching engine (execution_core/matching) ----------------------------------------------


class CommandKind(IntEnum):
    """What a row of COMMAND asks of the matching engine."""

    NEW = 1
    REPLACE = 2
    CANCEL = 3
    MASS_CANCEL = 4
    SET_PHASE = 5
    SET_BAND = 6
    SET_REFERENCE = 7
    SET_POSITION = 8
    ADVANCE_TIME = 9
    REBASE = 10


class SessionPhase(IntEnum):
    """FIX TradingSessionSubID (625); 2, 4 and 6 are auction calls, 7 (quiescent) is a halt."""

    OPENING_AUCTION = 2
    CONTINUOUS = 3
    CLOSING_AUCTION = 4
    CLOSED = 5
    INTRADAY_AUCTION = 6
    HALTED = 7


class MatchEventKind(IntEnum):
    """What happened to an order; APPLIED answers a command that is not about one order."""

    ACCEPTED = 1
    REJECTED = 2
    FILL = 3
    CANCELED = 4
    EXPIRED = 5
    TRIGGERED = 6
    REPLACED = 7
    REPLACE_REJECTED = 8
    CANCEL_REJECTED = 9
    APPLIED = 10


class MatchReason(IntEnum):
    """Why the matching engine refused a command (below 32) or ended an order."""

    NONE = 0
    UNKNOWN_COMMAND = 1
    INVALID_SIDE = 2
    INVALID_ORDER_TYPE = 3
    INVALID_TIME_IN_FORCE = 4
    INVALID_FLAGS = 5
    INVALID_SELF_TRADE_MODE = 6
    INVALID_QUANTITY = 7
    INVALID_PRICE = 8
    INVALID_STOP_PRICE = 9
    INVALID_DISPLAY_QUANTITY = 10
    INVALID_OFFSET = 11
    INVALID_PHASE = 12
    UNKNOWN_ACCOUNT = 13
    UNKNOWN_ORDER = 14
    BOOK_FULL = 15
    MARKET_CLOSED = 16
    TRADING_HALTED = 17
    WRONG_PHASE = 18
    PRICE_BAND = 19
    POST_ONLY_WOULD_CROSS = 20
    REDUCE_ONLY_WOULD_INCREASE = 21
    EXPIRE_TIME_IN_PAST = 22
    NO_REFERENCE_PRICE = 23
    REQUESTED = 32
    MASS_CANCEL = 33
    NO_LIQUIDITY = 34
    IMMEDIATE_OR_CANCEL = 35
    FILL_OR_KILL = 36
    SELF_TRADE = 37


# One command to the matching engine. Fields that a kind or an order type does not use are ignored.
#   kind               CommandKind
#   self_trade         SelfTradePrevention, 0 for none; the incoming order's mode decides
#   phase              SessionPhase, for SET_PHASE
#   account            dense index; MASS_CANCEL: -1 for every account
#   order_id           of REPLACE and CANCEL, as given by ACCEPTED
#   client_tag         the caller's own number; comes back in the order's events
#   price              limit; REPLACE: NO_PRICE keeps the old one; SET_BAND: the lower limit;
#                      REBASE: the lowest price of the new ladder
#   quantity           lots; REPLACE: the new total with what is filled, 0 keeps the old one;
#                      SET_POSITION: the signed position
#   ts_event_ns        the venue's clock; it never runs backwards, an earlier time counts as the latest seen
#   stop_price         stop or touch price; optional first stop of a trailing order (NO_PRICE: last
#                      price -/+ offset); REPLACE: NO_PRICE keeps the old one; SET_BAND: the upper limit
#   display_quantity   ICEBERG: lots shown at a time
#   trailing_offset    ticks between the best price since entry and a trailing stop
#   limit_offset       TRAILING_STOP_LIMIT: ticks from the stop to the limit, away from the market
#   expire_time_ns     GTD: the first instant at which the order no longer exists
COMMAND: Final = np.dtype(
    [
        ("kind", np.uint8),
        ("side", np.uint8),
        ("order_type", np.uint8),
        ("time_in_force", np.uint8),
        ("flags", np.uint8),
        ("self_trade", np.uint8),
        ("phase", np.uint8),
        ("reserved", np.uint8),
        ("account", np.int64),
        ("order_id", np.int64),
        ("client_tag", np.int64),
        ("price", np.int64),
        ("quantity", np.int64),
        ("ts_event_ns", np.int64),
        ("stop_price", np.int64),
        ("display_quantity", np.int64),
        ("trailing_offset", np.int64),
        ("limit_offset", np.int64),
        ("expire_time_ns", np.int64),
    ],
    align=True,
)

# One event of the matching engine; 64 bytes, one cache line.
#   kind, reason  MatchEventKind, MatchReason
#   liquidity     LiquidityFlag of a FILL, else 0
#   order_id      0 on REJECTED and APPLIED; ids grow with the order of acceptance
#   client_tag    the order's; the command's on refusals and APPLIED
#   price         FILL: the trade's; APPLIED to SET_PHASE: the auction's; otherwise the limit
#                 (NO_PRICE where there is none)
#   quantity      FILL: traded; CANCELED and EXPIRED: taken away; APPLIED: auction volume or orders
#                 cancelled; otherwise the order's total
#   leaves        after the event, an iceberg's reserve included; 0 closes the order
#   trade_id      FILL: the same on both sides, counting from 1; else 0
MATCH_EVENT: Final = np.dtype(
    [
        ("kind", np.uint8),
        ("reason", np.uint8),
        ("liquidity", np.uint8),
        ("side", np.uint8),
        ("account", np.int32),
        ("order_id", np.int64),
        ("client_tag", np.int64),
        ("price", np.int64),
        ("quantity", np.int64),
        ("leaves", np.int64),
        ("trade_id", np.int64),
        ("ts_event_ns", np.int64),
    ],
    align=True,
)


class FeedKind(IntEnum):
    """What a row of a recorded feed says.

    DEPTH: the level at `price` now holds `lots`. TRADE: `lots` traded at `price`; `side` is the
    aggressor's. QUOTE: the best level of `side` is `price` with `lots`. CLEAR: the book of `side`
    is empty from its best to `price` inclusive (a snapshot follows).
    """

    DEPTH = 1
    TRADE = 2
    QUOTE = 3
    CLEAR = 4


# One row of a recorded feed of one instrument. Prices in ticks, sizes in lots.
FEED_EVENT: Final = np.dtype(
    [
        ("ts_event_ns", np.int64),
        ("ts_init_ns", np.int64),
        ("price", np.int64),
        ("lots", np.int64),
        ("kind", np.int8),
        ("side", np.int8),
    ],
    align=True,
)

# Order latency at `ts_ns`, linear in between: to the venue and back.
ORDER_LATENCY: Final = np.dtype([("ts_ns", np.int64), ("entry_ns", np.int64), ("response_ns", np.int64)], align=True)

# A fill of the book simulation; ts_init_ns is when the trader hears of it.
L2_FILL: Final = np.dtype(
    [
        ("ts_event_ns", np.int64),
        ("ts_init_ns", np.int64),
        ("order_id", np.int64),
        ("price", np.int64),
        ("lots", np.int64),
        ("leaves", np.int64),
        ("side", np.int8),
        ("liquidity", np.int8),
    ],
    align=True,
)

# A fill of the bar backtest; `path` is the row of the targets that it belongs to.
BACKTEST_FILL: Final = np.dtype(
    [
        ("ts_event_ns", np.int64),
        ("price", np.int64),
        ("lots", np.int64),
        ("fee_nano", np.int64),
        ("path", np.int32),
        ("instrument", np.int32),
        ("side", np.int8),
        ("liquidity", np.int8),
    ],
    align=True,
)


# --- Execution algorithms (execution_core/algorithms) ---------------------------------------

# One slice of a parent order's plan: `lots` become due at `start_ns`.
SCHEDULE_SLICE: Final = np.dtype([("start_ns", np.int64), ("lots", np.int64)], align=True)

# What transaction cost analysis needs to know of a parent order. Prices in ticks:
#   decision     when the portfolio decided; arrival: when the order reached the market
#   end          when it ended, the price of what was not traded
#   market_vwap  the market's VWAP between arrival and end
TCA_ORDER: Final = np.dtype(
    [
        ("lots", np.int64),
        ("decision", np.int64),
        ("arrival", np.int64),
        ("end", np.int64),
        ("market_vwap", np.int64),
        ("tick_value_nano", np.int64),
        ("side", np.int8),
    ],
    align=True,
)

# Costs are positive when they hurt. `shortfall` is the sum of its four parts.
TCA_REPORT: Final = np.dtype(
    [
        ("filled_lots", np.int64),
        ("delay_nano", np.int64),
        ("execution_nano", np.int64),
        ("opportunity_nano", np.int64),
        ("fees_nano", np.int64),
        ("shortfall_nano", np.int64),
        ("vwap_nano", np.int64),
        ("shortfall_bps", np.float64),
        ("average_price", np.float64),
        ("arrival_bps", np.float64),
        ("market_vwap_bps", np.float64),
    ],
    align=True,
)
