"""The matching engine of one instrument, as Python sees it.

Not safe for use by several threads at once. Given the same commands, two engines produce the same
events and the same bytes of state, whether commands come one by one or in batches.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.matching.audit import FAULTS, fault
from execution_core.matching.kernels import read_depth, read_orders, run_batch, run_one
from execution_core.matching.layout import (
    ACCOUNTS,
    BOOK,
    CAPACITY,
    FOREVER,
    MAGIC,
    MAX_PRICE,
    PRICE_LEVELS,
    STATE_BYTES,
)
from execution_core.types import (
    COMMAND,
    NO_PRICE,
    CommandKind,
    OrderType,
    SessionPhase,
    Side,
    TimeInForce,
)

Records = npt.NDArray[np.void]

# One price of the book: ticks, shown lots, number of orders.
DEPTH_LEVEL: Final = np.dtype([("price", np.int64), ("quantity", np.int64), ("orders", np.int64)])

_INBOX: Final = STATE_BYTES
_SHORT: Final = struct.Struct("=8B6q")  # COMMAND up to ts_event_ns
_FULL: Final = struct.Struct("=8B11q")
_pack_short: Final = _SHORT.pack_into
_pack_full: Final = _FULL.pack_into

_NEW: Final = int(CommandKind.NEW)
_CANCEL: Final = int(CommandKind.CANCEL)
_REPLACE: Final = int(CommandKind.REPLACE)
_LIMIT: Final = int(OrderType.LIMIT)
_GTC: Final = int(TimeInForce.GTC)
_GTD: Final = int(TimeInForce.GTD)


# One live order. A conditional order that has fired shows as the MARKET or LIMIT order it became;
# prices are NO_PRICE where there are none; `shown` is what an iceberg displays.
OPEN_ORDER: Final = np.dtype(
    [
        ("order_id", np.int64),
        ("client_tag", np.int64),
        ("price", np.int64),
        ("stop_price", np.int64),
        ("quantity", np.int64),
        ("leaves", np.int64),
        ("shown", np.int64),
        ("account", np.int32),
        ("side", np.uint8),
        ("order_type", np.uint8),
        ("time_in_force", np.uint8),
        ("flags", np.uint8),
    ],
    align=True,
)


class Batch(NamedTuple):
    """Events of a batch (MATCH_EVENT) and, for each command, the number of events up to its end (int64)."""

    events: Records
    ends: npt.NDArray[np.int64]


class MatchingEngine:
    """A price-time priority book with every order type of the contracts, auctions, halts and bands.

    Prices are ticks in ``[base_price, base_price + 262,144)``, quantities lots. A command that cannot
    be carried out is answered with a REJECTED, CANCEL_REJECTED or REPLACE_REJECTED event and changes
    nothing; only values that fit no field raise. Events come as a view of the engine's outbox, valid
    until its next call: copy what must live longer.

    Raises InvalidValueError for a base price out of ±2**53 or a reference price off the ladder.
    """

    __slots__ = ("_book", "_buffer", "_events", "_memory")

    def __init__(
        self,
        *,
        base_price: int = 0,
        phase: SessionPhase = SessionPhase.CONTINUOUS,
        reference_price: int | None = None,
    ) -> None:
        if not -MAX_PRICE <= base_price <= MAX_PRICE:
            raise InvalidValueError("base_price", f"{base_price} is out of range", "stay within ±2**53 ticks")
        top = base_price + PRICE_LEVELS - 1
        if reference_price is not None and not base_price <= reference_price <= top:
            raise InvalidValueError(
                "reference_price", f"{reference_price} is off the ladder", f"use a price in [{base_price}, {top}]"
            )
        self._bind(np.zeros(1, BOOK))
        book = self._book
        book["magic"] = MAGIC
        book["phase"] = int(SessionPhase(phase))
        book["base"] = book["lower"] = base_price
        book["upper"] = top
        book["last"] = NO_PRICE
        book["reference"] = NO_PRICE if reference_price is None else reference_price
        book["high_water"] = 1
        book["next_expiry"] = FOREVER
        book["best"] = PRICE_LEVELS

    @property
    def address(self) -> int:
        """Where the book's record lies, for kernels that are given it together with other state."""
        return int(self._memory.ctypes.data)

    @property
    def outbox(self) -> Records:
        """The events (MATCH_EVENT) of the last call, from the first row on, and older ones behind them."""
        return self._events

    def _bind(self, record: npt.NDArray[np.void]) -> None:
        self._book: Any = record[0]
        self._events: Records = self._book["events"]
        self._memory = record.view(np.int64)
        self._buffer = memoryview(self._memory.data).cast("B")

    # --- state ---

    def snapshot(self) -> npt.NDArray[np.uint8]:
        """A copy of the whole state (uint8, the same length for every book)."""
        return np.frombuffer(self._buffer[:STATE_BYTES], np.uint8).copy()

    @classmethod
    def restore(cls, snapshot: npt.NDArray[np.uint8]) -> MatchingEngine:
        """An engine that goes on where `snapshot` was taken.

        Raises InvalidArrayError for bytes that are no snapshot of this layout, or were damaged.
        """
        if snapshot.dtype != np.uint8 or snapshot.shape != (STATE_BYTES,):
            raise InvalidArrayError(
                "snapshot", f"{snapshot.dtype} of shape {snapshot.shape}", f"pass {STATE_BYTES} bytes as uint8"
            )
        engine = cls.__new__(cls)
        record = np.zeros(1, BOOK)
        engine._bind(record)
        record.view(np.uint8)[:STATE_BYTES] = snapshot
        broken = fault(engine._memory)
        if broken:
            raise InvalidArrayError("snapshot", f"{FAULTS[broken]} is wrong", "rebuild from the commands")
        return engine

    def check(self) -> None:
        """Raise InvalidArrayError when the memory breaks a rule of the book; for tests and operators."""
        broken = fault(self._memory)
        if broken:
            raise InvalidArrayError("book", f"{FAULTS[broken]} is wrong", "restore a snapshot")

    @property
    def phase(self) -> SessionPhase:
        return SessionPhase(int(self._book["phase"]))

    @property
    def last_price(self) -> int | None:
        """Price of the last trade in ticks."""
        return _price(self._book["last"])

    @property
    def order_count(self) -> int:
        """How many orders are live, those that wait for a trigger or an auction included."""
        return int(self._book["live"])

    def orders(self) -> Records:
        """Every live order (OPEN_ORDER) in order of acceptance."""
        rows = np.empty(self.order_count, OPEN_ORDER)
        read_orders(self._memory, rows)
        return rows

    def position(self, account: int) -> int:
        """The signed position of an account in lots, as set and then moved by its trades."""
        if not 0 <= account < ACCOUNTS:
            raise InvalidValueError("account", f"{account} is unknown", f"use an index in [0, {ACCOUNTS})")
        return int(self._book["positions"][account])

    def depth(self, side: int, levels: int = 10) -> Records:
        """The best price levels of a side, best first (DEPTH_LEVEL); an iceberg counts what it shows."""
        if not 0 <= levels <= CAPACITY:
            raise InvalidValueError("levels", f"{levels} is out of range", f"ask for 0 to {CAPACITY}")
        rows = np.empty(levels, DEPTH_LEVEL)
        return rows[: read_depth(self._memory, Side(side) - 1, rows)]

    # --- batches ---

    def process(self, commands: Records) -> Batch:
        """Carry out an array of COMMAND in order.

        Raises InvalidArrayError for another dtype or number of dimensions.
        """
        if commands.dtype != COMMAND or commands.ndim != 1:
            raise InvalidArrayError(
                "commands", f"{commands.ndim}-dimensional {commands.dtype}", "pass a one-dimensional array of COMMAND"
            )
        flags = commands.flags
        if not (flags.c_contiguous and flags.writeable and flags.aligned):
            # Numba would compile another version for such an array.
            commands = commands.copy()
        ends = np.empty(len(commands), np.int64)
        done = run_batch(self._memory, commands, ends, 0)
        if done == len(commands):
            return Batch(self._events[: ends[-1] if done else 0], ends)
        # The outbox filled up: empty it between the parts.
        parts = [self._events[: ends[done - 1]].copy()]
        while done < len(commands):
            start = done
            done = run_batch(self._memory, commands, ends, start)
            parts.append(self._events[: ends[done - 1]].copy())
            ends[start:done] += sum(len(part) for part in parts[:-1])
        return Batch(np.concatenate(parts), ends)

    # --- single commands; each returns its events ---

    def submit(
        self,
        side: int,
        quantity: int,
        price: int = NO_PRICE,
        account: int = 0,
        ts_event_ns: int = 0,
        client_tag: int = 0,
        order_type: int = _LIMIT,
        time_in_force: int = _GTC,
        flags: int = 0,
        self_trade: int = 0,
        *,
        stop_price: int = NO_PRICE,
        display_quantity: int = 0,
        trailing_offset: int = 0,
        limit_offset: int = 0,
        expire_time_ns: int = 0,
    ) -> Records:
        """A new order; see COMMAND for the fields. Raises InvalidValueError for what is no integer or too large."""
        try:
            if order_type <= _LIMIT and time_in_force != _GTD:
                _pack_short(
                    self._buffer, _INBOX, _NEW, side, order_type, time_in_force, flags, self_trade, 0, 0,
                    account, 0, client_tag, price, quantity, ts_event_ns,
                )  # fmt: skip
            else:
                _pack_full(
                    self._buffer, _INBOX, _NEW, side, order_type, time_in_force, flags, self_trade, 0, 0,
                    account, 0, client_tag, price, quantity, ts_event_ns,
                    stop_price, display_quantity, trailing_offset, limit_offset, expire_time_ns,
                )  # fmt: skip
        except (struct.error, TypeError) as error:
            raise _misfit(error) from None
        return self._events[: run_one(self._memory)]

    def cancel(self, order_id: int, account: int = 0, ts_event_ns: int = 0, client_tag: int = 0) -> Records:
        """Cancel an order of this account. Raises InvalidValueError for what is no 64-bit integer."""
        try:
            _pack_short(
                self._buffer, _INBOX, _CANCEL, 0, 0, 0, 0, 0, 0, 0,
                account, order_id, client_tag, NO_PRICE, 0, ts_event_ns,
            )  # fmt: skip
        except struct.error as error:
            raise _misfit(error) from None
        return self._events[: run_one(self._memory)]

    def replace(
        self,
        order_id: int,
        account: int = 0,
        ts_event_ns: int = 0,
        client_tag: int = 0,
        *,
        quantity: int = 0,
        price: int = NO_PRICE,
        stop_price: int = NO_PRICE,
    ) -> Records:
        """Amend an order: a new total quantity, limit or stop; what is not given stays."""
        return self._command(
            _REPLACE,
            account,
            ts_event_ns,
            client_tag,
            order_id=order_id,
            quantity=quantity,
            price=price,
            stop=stop_price,
        )

    def mass_cancel(self, account: int = -1, ts_event_ns: int = 0, client_tag: int = 0) -> Records:
        """Cancel every order of an account, or of all (-1)."""
        return self._command(CommandKind.MASS_CANCEL, account, ts_event_ns, client_tag)

    def set_phase(self, phase: int, ts_event_ns: int = 0, client_tag: int = 0) -> Records:
        """Change the session's phase, uncrossing where an auction ends."""
        return self._command(CommandKind.SET_PHASE, 0, ts_event_ns, client_tag, phase=phase)

    def set_band(self, lower: int | None, upper: int | None, ts_event_ns: int = 0, client_tag: int = 0) -> Records:
        """Set the price band, inclusive; None: no limit. Resting orders beyond it are canceled."""
        return self._command(
            CommandKind.SET_BAND, 0, ts_event_ns, client_tag,
            price=NO_PRICE if lower is None else lower, stop=NO_PRICE if upper is None else upper,
        )  # fmt: skip

    def set_reference(self, price: int | None, ts_event_ns: int = 0, client_tag: int = 0) -> Records:
        """Set the reference price of auctions; None: the last trade's."""
        price = NO_PRICE if price is None else price
        return self._command(CommandKind.SET_REFERENCE, 0, ts_event_ns, client_tag, price=price)

    def set_position(self, account: int, position: int, ts_event_ns: int = 0, client_tag: int = 0) -> Records:
        """Supply an account's signed position, which its trades here then move."""
        return self._command(CommandKind.SET_POSITION, account, ts_event_ns, client_tag, quantity=position)

    def advance_time(self, ts_event_ns: int, client_tag: int = 0) -> Records:
        """Let time pass, so that GTD orders expire without other commands."""
        return self._command(CommandKind.ADVANCE_TIME, 0, ts_event_ns, client_tag)

    def rebase(self, base_price: int, ts_event_ns: int = 0, client_tag: int = 0) -> Records:
        """Move the ladder; refused when an order, the band, the last or the reference price would fall off."""
        return self._command(CommandKind.REBASE, 0, ts_event_ns, client_tag, price=base_price)

    def _command(
        self,
        kind: int,
        account: int,
        ts_event_ns: int,
        client_tag: int,
        *,
        order_id: int = 0,
        phase: int = 0,
        price: int = NO_PRICE,
        quantity: int = 0,
        stop: int = NO_PRICE,
    ) -> Records:
        try:
            _pack_full(
                self._buffer, _INBOX, kind, 0, 0, 0, 0, 0, phase, 0,
                account, order_id, client_tag, price, quantity, ts_event_ns, stop, 0, 0, 0, 0,
            )  # fmt: skip
        except struct.error as error:
            raise _misfit(error) from None
        return self._events[: run_one(self._memory)]


def _price(ticks: Any) -> int | None:
    return None if ticks == NO_PRICE else int(ticks)


def _misfit(error: Exception) -> InvalidValueError:
    return InvalidValueError("command", str(error), "pass integers within the fields of COMMAND")


def warm() -> None:
    """Call every kernel with the types that services use."""
    engine = MatchingEngine()
    engine.submit(Side.BUY, 1, 1)
    engine.process(np.zeros(1, COMMAND))
    engine.depth(Side.BUY)
    engine.orders()
    MatchingEngine.restore(engine.snapshot())
