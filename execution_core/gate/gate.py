"""One account's pre-trade gate."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final

import numpy as np

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.gate import judge, kernels, layout
from execution_core.gate.facts import within
from execution_core.gate.layout import LOTS_MAX, MONEY_MAX, PRICE_MAX, Array
from execution_core.gate.settings import Settings
from execution_core.types import GATE_ORDER, VERDICT, DenialReason, Side, TimeInForce


class Mode(IntEnum):
    """What an approval is: each order for itself, all or nothing, or as much of each as fits."""

    EACH = 0
    ALL = 1
    FIT = 2


_PROBLEMS: Final = {
    judge.BAD_SIDE: ("side", "is neither BUY nor SELL"),
    judge.BAD_LOTS: ("lots", f"is not in 1..{LOTS_MAX}"),
    judge.BAD_PRICE: ("price", f"is not in 0..{PRICE_MAX}, or is 0 where the type needs a limit price"),
    judge.BAD_TRIGGER: ("trigger", f"is not in 0..{PRICE_MAX}"),
    judge.BAD_TYPE: ("type", "is no OrderType"),
    judge.BAD_EXPIRE: ("expire_ns", "is negative"),
    judge.BAD_FLAGS: ("flags", "has bits beyond POST_ONLY and REDUCE_ONLY"),
    judge.BAD_TIME_IN_FORCE: ("time_in_force", "is no TimeInForce"),
}


def reasons(mask: int) -> tuple[DenialReason, ...]:
    """The reasons in a verdict's mask, the deciding one first."""
    return tuple(reason for reason in DenialReason if int(mask) >> reason & 1)


class Gate(Settings):
    """Judges orders against everything that contracts.md lets deny one, and reserves what it approves.

    Holds one account: positions, reservations, limits, prices. Starts closed: HALTED, without a
    policy and without instruments. Not thread-safe: its owner is the account's single writer. It
    has no clock: `now_ns` is the session's time. Every call either does all of what it says or raises
    a CoreError with nothing changed.

    Args:
        instruments: capacity, indexes 0..instruments-1; ``grow`` raises it.
        reservations: most open orders at a time, fewer than 2**20.
        sectors: capacity of the sector table.
        recent: how many past orders DUPLICATE_ORDER and the rate limits remember at least.
    """

    def __init__(
        self, *, instruments: int = 1024, reservations: int = 4096, sectors: int = 64, recent: int = 4096
    ) -> None:
        super().__init__(instruments=instruments, reservations=reservations, sectors=sectors, recent=recent)
        self._check = self._call.check
        self._check_one = self._call.check_one

    # --- Judging -----------------------------------------------------------------------------------

    def check(
        self,
        orders: Array,
        now_ns: int,
        *,
        mode: Mode = Mode.EACH,
        reserve: bool = True,
        out: Array | None = None,
    ) -> Array:
        """Judge orders in their row order, each seeing the reservations of those before it.

        Args:
            orders: 1-d GATE_ORDER array.
            now_ns: the session's time, nanoseconds since 1970.
            mode: EACH judges each order for itself. ALL approves all or none. FIT approves of each
                as many lots as fit.
            reserve: reserve what is approved; False is a free pre-trade check with the same verdicts.
            out: a VERDICT array of the same length to write into.

        Returns the VERDICT array: approved orders have lots > 0. In mode ALL an order of a refused
        basket has lots 0 and, where it did not itself break a rule, an empty mask. In mode FIT an
        order that was cut has both lots and the mask of what the whole order would have broken.
        """
        if orders.dtype is not GATE_ORDER or orders.ndim != 1:
            _check_array("orders", orders, GATE_ORDER)
        if out is None:
            out = np.empty(len(orders), VERDICT)
        else:
            if out.dtype is not VERDICT or out.ndim != 1 or not out.flags.writeable:
                _check_array("out", out, VERDICT, writable=True)
            if len(out) != len(orders):
                raise InvalidArrayError("out", f"{len(out)} verdicts for {len(orders)} orders", "make them as many")
        try:
            result = self._check(self._address, orders, out, now_ns | 0, mode, reserve)
        except (OverflowError, TypeError) as error:
            raise InvalidValueError("now_ns", str(error), "pass nanoseconds as an int64") from None
        if result < 0:
            raise malformed(orders, result)
        return out

    def check_one(
        self,
        instrument: int,
        side: int,
        type: int,  # noqa: A002 - as in GATE_ORDER
        lots: int,
        now_ns: int,
        price: int = 0,
        trigger: int = 0,
        time_in_force: int = TimeInForce.DAY,
        flags: int = 0,
        expire_ns: int = 0,
        client_order_hash: int = 0,
        mode: int = 0,
        reserve: bool = True,
    ) -> tuple[int, int, int]:
        """``check`` for one order given as numbers; the fastest single call, about twice as fast.

        Fields as in GATE_ORDER. Returns (mask, approved lots, reservation); see VERDICT.
        """
        try:
            _ = lots | price | trigger  # a float would be cut to an integer below
            verdict: tuple[int, int, int] = self._check_one(
                self._address,
                instrument,
                side,
                type,
                lots,
                price,
                trigger,
                time_in_force,
                flags,
                expire_ns,
                client_order_hash,
                now_ns,
                mode,
                reserve,
            )
        except (OverflowError, TypeError) as error:
            raise InvalidValueError("order", str(error), "pass integers that fit into 64 bits") from None
        if verdict[0] < 0:
            raise malformed(None, verdict[0])
        return verdict

    def exchange(self, reservation: int, order: Array, now_ns: int) -> Array:
        """Judge an order as if a reservation were not there, and let it take the reservation's place.

        For replaces. `order` is a GATE_ORDER array of one. Returns its VERDICT array of one: approved
        in whole, with the new handle, and the old one is closed; or denied, and nothing has changed.
        A handle that is closed already raises InvalidValueError.
        """
        _check_array("order", order, GATE_ORDER)
        if len(order) != 1:
            raise InvalidArrayError("order", f"has {len(order)} rows", "pass one")
        out = np.empty(1, VERDICT)
        result = self._call.exchange(self._address, reservation, order, out, now_ns)
        if result == kernels.NO_RESERVATION:
            raise _closed(reservation)
        if result < 0:
            raise malformed(order, result)
        return out

    # --- What happens to reservations ----------------------------------------------------------------

    def fill(self, reservation: int, *, instrument: int, side: Side, lots: int, price: int, fee: int = 0) -> int:
        """Turn reserved lots into position and cash.

        `price` in ticks (1 or more), `fee` in nano units (negative: a rebate). `reservation` 0 or
        already closed: a late or unsolicited fill, taken into the position all the same.
        Returns the lots that no reservation covered: 0 unless the order was overfilled or closed.
        """
        within("lots", lots, 1, LOTS_MAX)
        within("price", price, 1, PRICE_MAX)
        within("fee", fee, -MONEY_MAX, MONEY_MAX)
        within("side", side, 1, 2)
        index = self.known(instrument)
        uncovered = self._call.fill(self._address, reservation, index, side, lots, price, fee)
        if uncovered == kernels.MISMATCH:
            raise InvalidValueError("reservation", "is another instrument's or side's", "pass the order's own handle")
        if uncovered < 0:
            raise InvalidValueError("lots", "would take the account out of its range", "see layout.MONEY_MAX")
        return uncovered

    def release(self, reservation: int, lots: int = 0) -> int:
        """Give lots of a reservation back (cancel, reject, reduced order); 0: all of them.

        Returns the lots released, at most what was reserved. A handle that is closed already
        raises InvalidValueError.
        """
        within("lots", lots, 0, LOTS_MAX)
        released = self._call.release(self._address, reservation, lots)
        if released < 0:
            raise _closed(reservation)
        return released

    def release_all(self, reservations: Sequence[int]) -> None:
        """Release whole reservations, in order. InvalidValueError for the first that is closed; those before
        it are released then."""
        handles = np.array(reservations, np.int64)
        done = self._call.releases(self._address, handles)
        if done < 0:
            raise _closed(int(handles[-done - 1]))

    def expire(self, reservation: int) -> int:
        """The order expired: release all of its reservation."""
        return self.release(reservation)

    def rests_at(self, reservation: int, price: int) -> None:
        """The order now rests in the market at this price (a triggered stop limit); 0: no longer.

        SELF_TRADE compares with it. Limit and iceberg orders that can rest are entered by ``check``.
        """
        within("price", price, 0, PRICE_MAX)
        if self._call.rest(self._address, reservation, price) < 0:
            raise _closed(reservation)

    def reserved_lots(self, reservation: int) -> int:
        """Lots still reserved under a handle, 0 if it is closed."""
        slot = int(reservation) & layout.SLOT_MASK
        if reservation <= 0 or slot >= len(self._state.reservations):
            return 0
        row = self._state.reservations[slot]
        live = row["generation"] + 1 == int(reservation) >> layout.SLOT_BITS
        return int(row["lots"]) if live else 0


def _check_array(name: str, array: Array, dtype: np.dtype[Any], *, writable: bool = False) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
        raise InvalidArrayError(name, "is no such record array", f"pass a 1-d array of {dtype.names}")
    if writable and not array.flags.writeable:
        raise InvalidArrayError(name, "is read-only", "pass an array that can be written")


def _closed(reservation: int) -> InvalidValueError:
    return InvalidValueError("reservation", f"{reservation} is not open", "each ends once")


def malformed(orders: Array | None, result: int) -> InvalidValueError:
    if result == -1 - judge.BAD_NOW:
        return InvalidValueError("now_ns", "is not in 0..2**62", "pass nanoseconds since 1970")
    row, code = divmod(-result - 1, 8)
    name, problem = _PROBLEMS[code]
    if orders is None:
        return InvalidValueError(name, problem, "correct the order")
    return InvalidValueError(f"orders[{row}].{name}", f"{orders[row][name]} {problem}", "correct the order")


def warm() -> None:
    """Compile every kernel with the types that services use, or load it from the cache."""
    kernels.calls()
