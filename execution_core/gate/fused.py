"""Gates and matching engine in one call: what a venue with its own accounts does with an order.

The two know each other by their public events only: an order's client tag is its reservation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from execution_core.errors import InvalidValueError
from execution_core.gate.exposure import fill, forget_oldest, release, rest, slot_of
from execution_core.gate.facts import within
from execution_core.gate.gate import Gate, malformed
from execution_core.gate.judge import BAD_NOW, Order, judge
from execution_core.gate.layout import TIME_MAX
from execution_core.gate.memory import carray, divide, instrument_of, money, pointer, reservation_of
from execution_core.gate.rules import PPM, is_known, open_call
from execution_core.jit import kernel
from execution_core.matching import MatchingEngine
from execution_core.matching.kernels import execute
from execution_core.matching.layout import ACCOUNTS, BOOK
from execution_core.types import (
    MATCH_EVENT,
    NO_PRICE,
    CommandKind,
    LiquidityFlag,
    MatchEventKind,
    OrderType,
    TimeInForce,
)

Events = npt.NDArray[np.void]

NEW: Final = int(CommandKind.NEW)
CANCEL: Final = int(CommandKind.CANCEL)
FILL: Final = int(MatchEventKind.FILL)
REJECTED: Final = int(MatchEventKind.REJECTED)
CANCELED: Final = int(MatchEventKind.CANCELED)
EXPIRED: Final = int(MatchEventKind.EXPIRED)
TRIGGERED: Final = int(MatchEventKind.TRIGGERED)
MAKER: Final = int(LiquidityFlag.MAKER)

# One account at the book: its gate's place (0: no gate), and the book's instrument there.
SEAT: Final = np.dtype([("place", np.int64), ("instrument", np.int64)])
SEAT_BYTES: Final = SEAT.itemsize

_NO_EVENTS: Events = np.empty(0, MATCH_EVENT)
_LIMIT: Final = int(OrderType.LIMIT)
_DAY: Final = int(TimeInForce.DAY)
_INT8: Final = 256


@kernel
def fee_of(value: int, ppm: int) -> int:
    """The fee on a value, rounded up; for a negative rate the rebate, rounded down."""
    whole = divide(value, PPM)
    left = (value - whole * PPM) * abs(ppm)
    if ppm >= 0:
        return int(whole * ppm + divide(left + PPM - 1, PPM))
    return int(whole * ppm - divide(left, PPM))


@kernel
def seat_of(seats: int, account: int) -> Any:
    """An account's record."""
    return carray(pointer(seats, account * SEAT_BYTES), (1,), SEAT)[0]


@kernel
def block_at(place: int) -> int:
    """Where a gate's block is now."""
    return int(carray(pointer(place, 0), (1,), np.int64)[0])


@kernel
def book_at(address: int) -> Any:
    """The book's record."""
    return carray(pointer(address, 0), (1,), BOOK)[0]


@kernel
def settle(book: Any, seats: int, maker_ppm: int, taker_ppm: int) -> int:
    """Carry the events of the outbox into the reservations that their client tags name.

    Returns the number of events, or -(1 + row) of the first one that its account cannot hold; those
    before it have been carried.
    """
    for k in range(book.event_count):
        event = book.events[k]
        if event.account < 0 or event.account >= ACCOUNTS:
            continue
        seat = seat_of(seats, event.account)
        if seat.place == 0:
            continue
        block = block_at(seat.place)
        if not is_known(block, seat.instrument):
            return -(1 + k)
        slot = slot_of(block, event.client_tag)
        if event.kind == FILL:
            value = money(money(event.price, instrument_of(block, seat.instrument).tick_value), event.quantity)
            fee = fee_of(value, maker_ppm if event.liquidity == MAKER else taker_ppm)
            if fill(block, slot, seat.instrument, event.side, event.quantity, event.price, fee) < 0:
                return -(1 + k)
        elif slot > 0 and (event.kind == CANCELED or event.kind == EXPIRED):
            release(block, slot, min(event.quantity, reservation_of(block, slot).lots))
        elif slot > 0 and event.kind == REJECTED:
            release(block, slot, reservation_of(block, slot).lots)
        elif slot > 0 and event.kind == TRIGGERED and event.price > 0:
            rest(block, slot, event.price)
    return int(book.event_count)


@kernel
def settle_outbox(address: int, seats: int, maker_ppm: int, taker_ppm: int) -> int:
    """``settle`` after a call of the book."""
    return int(settle(book_at(address), seats, maker_ppm, taker_ppm))


@kernel
def trade(
    address: int,
    seats: int,
    maker_ppm: int,
    taker_ppm: int,
    account: int,
    side: int,
    lots: int,
    now_ns: int,
    price: int,
    kind: int,
    time_in_force: int,
    flags: int,
    client_order_hash: int,
    mode: int,
    self_trade: int,
    stop_price: int,
    display: int,
    trail: int,
    limit_offset: int,
    expire_ns: int,
) -> tuple[int, int, int, int]:
    """Judge, reserve, match, settle: (mask, approved lots, reservation, events or a negative problem of `settle`).

    The mask is negative for a malformed order.
    """
    seat = seat_of(seats, account)
    block = block_at(seat.place)
    order = Order(
        client_order_hash, lots, price, stop_price, expire_ns, seat.instrument, side, kind, time_in_force, flags
    )
    if now_ns < 0 or now_ns > TIME_MAX:
        return -1 - BAD_NOW, 0, 0, 0
    call = open_call(block, now_ns, 1, mode, True)
    mask, approved, reservation = judge(block, order, call, 0)
    if reservation == 0:
        return mask, 0, 0, 0
    forget_oldest(block)
    reservation_of(block, 0).previous = 0
    book = book_at(address)
    command = book.inbox
    command.kind = NEW
    command.side = side
    command.order_type = kind
    command.time_in_force = time_in_force
    command.flags = flags
    command.self_trade = self_trade
    command.phase = 0
    command.account = account
    command.order_id = 0
    command.client_tag = reservation
    command.price = price if price != 0 else NO_PRICE
    command.quantity = approved
    command.ts_event_ns = now_ns
    command.stop_price = stop_price if stop_price != 0 else NO_PRICE
    command.display_quantity = display
    command.trailing_offset = trail
    command.limit_offset = limit_offset
    command.expire_time_ns = expire_ns
    book.event_count = 0
    execute(book, command)
    return mask, approved, reservation, settle(book, seats, maker_ppm, taker_ppm)


@kernel
def withdraw(address: int, seats: int, maker_ppm: int, taker_ppm: int, account: int, order_id: int, now_ns: int) -> int:
    """Cancel an order and settle; returns what `settle` returns."""
    book = book_at(address)
    command = book.inbox
    command.kind = CANCEL
    command.account = account
    command.order_id = order_id
    command.client_tag = 0
    command.price = NO_PRICE
    command.quantity = 0
    command.ts_event_ns = now_ns
    book.event_count = 0
    execute(book, command)
    return int(settle(book, seats, maker_ppm, taker_ppm))


class Calls(NamedTuple):
    """The entry points, called without Numba's dispatch: they believe that every argument is an int64."""

    trade: Callable[..., tuple[int, int, int, int]]
    withdraw: Callable[..., int]
    settle: Callable[..., int]


@cache
def calls() -> Calls:
    """Compile the kernels, or load them from the cache."""
    i: Any = numba.types.int64
    return Calls(
        trade=trade.compile((i,) * 20), withdraw=withdraw.compile((i,) * 7), settle=settle_outbox.compile((i,) * 4)
    )


class GatedBook:
    """One instrument's book and the gates of the accounts that trade it.

    Args:
        book: the matching engine; its accounts without a gate are passed over.
        gates: each account's gate and the book's instrument in it.
        maker_fee_ppm, taker_fee_ppm: fees of a fill, -1,000,000..1,000,000; negative: a rebate. The gates'
            facts must cover them.
    """

    def __init__(
        self,
        book: MatchingEngine,
        gates: Mapping[int, tuple[Gate, int]],
        *,
        maker_fee_ppm: int = 0,
        taker_fee_ppm: int = 0,
    ) -> None:
        self.book = book
        # Kept here, because the kernels know them by address only.
        self._gates = dict(gates)
        self._seats = np.zeros(ACCOUNTS, SEAT)
        for account, (gate, instrument) in self._gates.items():
            self._seats[within("account", account, 0, ACCOUNTS - 1)] = (gate.place, gate.known(instrument))
        self._events = book.outbox
        self._fixed = (
            book.address,
            self._seats.ctypes.data,
            within("maker_fee_ppm", maker_fee_ppm, -1_000_000, 1_000_000),
            within("taker_fee_ppm", taker_fee_ppm, -1_000_000, 1_000_000),
        )
        self._call = calls()
        self._trade = self._call.trade

    def submit(
        self,
        account: int,
        side: int,
        lots: int,
        now_ns: int,
        price: int = 0,
        order_type: int = _LIMIT,
        time_in_force: int = _DAY,
        flags: int = 0,
        client_order_hash: int = 0,
        mode: int = 0,
        self_trade: int = 0,
        stop_price: int = 0,
        display_quantity: int = 0,
        trailing_offset: int = 0,
        limit_offset: int = 0,
        expire_time_ns: int = 0,
    ) -> tuple[int, int, int, Events]:
        """Judge an order, reserve and match what is approved, and carry all fills into their accounts.

        Prices are 0 where the type has none. Returns (mask, approved lots, reservation, events), the first
        three as ``Gate.check_one``; the events are a view, valid until the book's next call, and none for
        a denied order. Raises InvalidValueError for
        an account without a gate and for values that no order can have.
        """
        if account not in self._gates or not 0 <= self_trade < _INT8:
            raise InvalidValueError(
                "account", f"{account} has no gate here", "pass one of `gates`, self_trade in 0..255"
            )
        try:
            _ = lots | price | stop_price  # a float would be cut to an integer below
            mask, lots, reservation, events = self._trade(
                *self._fixed,
                account,
                side,
                lots,
                now_ns,
                price,
                order_type,
                time_in_force,
                flags,
                client_order_hash,
                mode,
                self_trade,
                stop_price,
                display_quantity,
                trailing_offset,
                limit_offset,
                expire_time_ns,
            )
        except (OverflowError, TypeError) as error:
            raise InvalidValueError("order", str(error), "pass integers that fit into 64 bits") from None
        if lots == 0:
            if mask < 0:
                raise malformed(None, mask)
            return mask, 0, 0, _NO_EVENTS
        if events < 0:
            _held(events)
        return mask, lots, reservation, self._events[:events]

    def cancel(self, account: int, order_id: int, now_ns: int) -> Events:
        """Cancel an order of this account, and settle."""
        within("account", account, 0, ACCOUNTS - 1)
        try:
            return self._events[: _held(self._call.withdraw(*self._fixed, account, order_id, now_ns))]
        except (OverflowError, TypeError) as error:
            raise InvalidValueError("order_id", str(error), "pass integers that fit into 64 bits") from None

    def settle(self) -> None:
        """Carry the events of the book's last own call (an amendment, a change of phase) into the accounts."""
        _held(self._call.settle(*self._fixed))


def _held(events: int) -> int:
    if events < 0:
        raise InvalidValueError(f"events[{-events - 1}]", "takes the account out of its range", "alarm")
    return events


def warm() -> None:
    """Compile every kernel."""
    calls()
