"""What one account must do, one command after the other: the sequential specification of resting orders.

An account without fills, at constant marks, under one policy. The worse end of an instrument is all that its open
buys and sells can add to the position; three limits bind: an order's notional, an instrument's exposure, the gross
exposure. Plain integers; nothing of the project is used but the generated messages in `ledger_steps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from alphamesh.execution.v1 import execution_pb2, order_pb2

from .client import Instrument, Limits
from .history import NEVER, Operation
from .linearizability import Interval

E9 = 10**9
ALL, FIT = execution_pb2.BASKET_MODE_ALL_OR_NOTHING, execution_pb2.BASKET_MODE_AS_MUCH_AS_FITS
BUY = 1
_DOUBTFUL = frozenset({order_pb2.ORDER_STATE_SUBMITTED, order_pb2.ORDER_STATE_UNRESOLVED})


class Wanted(NamedTuple):
    """A row of a basket: index of the instrument, side, lots, limit price in ticks."""

    instrument: int
    side: int
    lots: int
    price: int


class State(NamedTuple):
    """Open lots by instrument, the number of open orders, and rows that were approved and closed by the system."""

    buys: tuple[int, ...]
    sells: tuple[int, ...]
    orders: int
    passing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Basket:
    """Rows were judged; `approved` lots each. `passing`: ids that the system itself closed afterwards."""

    mode: int
    rows: tuple[Wanted, ...]
    approved: tuple[int, ...]
    passing: frozenset[str] = frozenset()
    counted: bool = True  # reservations are no orders


@dataclass(frozen=True, slots=True)
class Release:
    """Exposure ended. `after`: id of a row that must have been approved before; empty: the client knows it was."""

    instrument: int
    side: int
    lots: int
    after: str = ""
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Look:
    """The account was read."""

    orders: int


Step = Basket | Release | Look


class Ledger:
    """The specification for one account."""

    def __init__(self, instruments: Mapping[str, Instrument], limits: Limits) -> None:
        ordered = [instruments[name] for name in sorted(instruments)]
        # Exact, in nano units times 1e18, so that nothing is rounded.
        self._tick_value = [i.tick_e9 * i.lot_e9 * i.multiplier_e9 for i in ordered]
        self._unit = [i.ticks * value for i, value in zip(ordered, self._tick_value, strict=True)]
        self._notional, self._position, self._gross = (
            limit * E9 * E9**2 for limit in (limits.order_notional, limits.position, limits.gross)
        )
        self._size = len(ordered)

    def initial(self) -> State:
        """Nothing is open."""
        return State((0,) * self._size, (0,) * self._size, 0)

    def step(self, state: State, operation: Step) -> State | None:
        """None when the outcome is not the one that the rules give."""
        if isinstance(operation, Look):
            return state if state.orders == operation.orders else None
        if isinstance(operation, Release):
            return self._release(state, operation)
        granted, after = self._judge(state, operation.rows, operation.mode)
        if granted != operation.approved:
            return None
        opened = sum(lots > 0 for lots in granted) if operation.counted else 0
        return after._replace(orders=state.orders + opened, passing=state.passing | operation.passing)

    def _release(self, state: State, operation: Release) -> State | None:
        if operation.after and operation.after not in state.passing:
            return None
        sides = [list(state.buys), list(state.sells)]
        sides[operation.side != BUY][operation.instrument] -= operation.lots
        if sides[operation.side != BUY][operation.instrument] < 0:
            return None
        return State(
            tuple(sides[0]), tuple(sides[1]), state.orders - operation.counted, state.passing - {operation.after}
        )

    def _judge(self, state: State, rows: tuple[Wanted, ...], mode: int) -> tuple[tuple[int, ...], State]:
        buys, sells = list(state.buys), list(state.sells)
        gross = sum(max(b, s) * unit for b, s, unit in zip(buys, sells, self._unit, strict=True))
        granted = []
        for row in rows:
            side, other = (buys, sells) if row.side == BUY else (sells, buys)
            unit, held = self._unit[row.instrument], max(side[row.instrument], other[row.instrument])
            room = min(
                # lots * price * tick value <= notional
                self._notional // (row.price * self._tick_value[row.instrument]) if row.price else 0,
                # side + lots <= position, or below what the other side holds already
                max(self._position // unit, held) - side[row.instrument],
                # what it adds to the worse end fits into gross
                held - side[row.instrument] + max(self._gross - gross, -1) // unit,
            )
            if held * unit > self._position or gross > self._gross:
                room = 0
            lots = row.lots if row.lots <= room else max(room, 0) if mode == FIT else 0
            side[row.instrument] += lots
            gross += (max(side[row.instrument], other[row.instrument]) - held) * unit
            granted.append(lots)
        if mode == ALL and not all(granted):
            return (0,) * len(rows), state
        return tuple(granted), state._replace(buys=tuple(buys), sells=tuple(sells))


def ledger_steps(operations: Iterable[Operation], instruments: Mapping[str, Instrument]) -> list[Interval[Step]]:
    """A client history as steps of the specification.

    An order that the system closed by itself (the venue never got it) is released by a step of its own, at an unknown
    moment after it was approved.
    """
    operations = list(operations)
    index = {name: i for i, name in enumerate(sorted(instruments))}
    closed = {one.request.client_order_id: one.answered for one in operations if one.command == "cancel" and one.error}
    lots: dict[str, tuple[int, int, int]] = {}
    held: dict[tuple[str, int], tuple[int, int, int]] = {}
    steps: list[Interval[Step]] = []

    def row(spec: order_pb2.OrderSpec, quantity_e9: int) -> tuple[int, int, int]:
        return index[spec.instrument_id], spec.side, quantity_e9 // instruments[spec.instrument_id].lot_e9

    for one in operations:
        interval = (one.called, one.answered)
        if one.command == "submit":
            rows, approved, passing = [], [], set()
            for spec, order in zip(one.request.orders, one.response.orders, strict=True):
                tick = instruments[spec.instrument_id].tick_e9
                rows.append(Wanted(*row(spec, spec.quantity_e9), spec.price_e9 // tick))
                granted = row(spec, order.approved_quantity_e9)
                approved.append(granted[2])
                lots[spec.client_order_id] = granted
                ended = one.answered if order.state == order_pb2.ORDER_STATE_REJECTED else NEVER
                ended = min(ended, closed.get(spec.client_order_id, NEVER))
                if ended != NEVER or order.state in _DOUBTFUL:
                    passing.add(spec.client_order_id)
                    steps.append(Interval(one.called, ended, Release(*granted, after=spec.client_order_id)))
            basket = Basket(one.request.basket_mode, tuple(rows), tuple(approved), frozenset(passing))
            steps.append(Interval(*interval, basket))
        elif one.command == "cancel":
            identifier = one.request.client_order_id
            if not one.error and not any(
                s.operation.after == identifier for s in steps if isinstance(s.operation, Release)
            ):
                # Where the venue has not answered, it ends some time later.
                done = one.response.order.state == order_pb2.ORDER_STATE_CANCELED
                steps.append(Interval(one.called, one.answered if done else NEVER, Release(*lots[identifier])))
        elif one.command == "read":
            steps.append(Interval(*interval, Look(one.response.account.open_orders)))
        elif one.command == "reserve":
            steps += _reserve_steps(one, index, instruments, held)
    return steps


def _reserve_steps(
    one: Operation,
    index: Mapping[str, int],
    instruments: Mapping[str, Instrument],
    held: dict[tuple[str, int], tuple[int, int, int]],
) -> list[Interval[Step]]:
    """Giving back and judging are one moment in the ledger; as steps of their own they are asked for less."""
    batch, verdicts = one.request.batch, one.response.verdicts
    rows, granted = [], []
    for i, name in enumerate(batch.instrument_ids):
        facts = instruments[name]
        rows.append(
            Wanted(
                index[name],
                batch.sides[i],
                batch.quantity_e9[i] // facts.lot_e9,
                batch.price_bound_e9[i] // facts.tick_e9,
            )
        )
        granted.append(verdicts.granted_quantity_e9[i] // facts.lot_e9)
    steps: list[Interval[Step]] = [
        Interval(one.called, one.answered, Release(*held.pop((one.client, identifier)), counted=False))
        for identifier in one.request.release_ids
        if (one.client, identifier) in held
    ]
    for wanted, lots, identifier in zip(rows, granted, verdicts.reservation_ids, strict=True):
        if identifier:
            held[one.client, identifier] = (wanted.instrument, wanted.side, lots)
    basket = Basket(batch.basket_mode, tuple(rows), tuple(granted), counted=False)
    return [*steps, Interval(one.called, one.answered, basket)]
