"""The books of a market on bars: orders that rest, matched on bars by the core. No gRPC, no I/O.

Prices in ticks, quantities in lots, money in nano units. Order of arrival is time priority.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from execution_core.errors import CoreError
from execution_core.simulation.bars import fill_models, match_bars, validate_orders, warm
from execution_core.simulation.fees import FeeModel, fees_nano, notional_nano
from execution_core.types import (
    BAR,
    NO_PRICE,
    RESTING_ORDER,
    CancelReason,
    OrderFlag,
    OrderState,
    OrderType,
    TimeInForce,
    VenueEventKind,
)

Key = tuple[str, str]  # account_id, client_order_id

OPEN_LEG: Final = 0


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What an order asks for."""

    account_id: str
    client_order_id: str
    instrument: int
    side: int
    order_type: int
    time_in_force: int
    lots: int
    price: int = 0
    trigger: int = 0
    trail: int = 0
    limit_offset: int = 0
    display: int = 0
    expire_ns: int = 0
    post_only: bool = False

    @property
    def key(self) -> Key:
        """Identity at this venue."""
        return self.account_id, self.client_order_id


@dataclass
class Order:
    """An order and where it stands. `row` is its state in the core's language."""

    terms: Terms
    number: int
    row: np.ndarray
    filled: int = 0
    notional: int = 0
    fees: int = 0

    @property
    def leaves(self) -> int:
        """Lots still to fill; 0 when closed."""
        return int(self.row["leaves"][0])


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that happened to an order while the market moved."""

    order: Order
    kind: int
    ts_ns: int
    price: int = 0
    lots: int = 0
    leaves: int = 0
    filled: int = 0
    fee: int = 0
    liquidity: int = 0
    reason: str = ""


@dataclass
class Books:
    """All books of the venue."""

    fees: FeeModel
    model: Mapping[str, int]
    tick_values: Sequence[int]
    now_ns: int = 0
    orders: dict[Key, Order] = field(default_factory=dict)
    _resting: dict[Key, Order] = field(default_factory=dict)
    _last_number: int = 0

    @property
    def resting(self) -> list[Order]:
        """Orders that can still fill, in order of arrival."""
        return list(self._resting.values())

    def refusal(self, terms: Terms) -> str:
        """Why the venue refuses these terms; empty when it takes them."""
        if terms.expire_ns and terms.expire_ns <= self.now_ns:
            return "expire_time_ns is not after the venue's time"
        try:
            validate_orders(_row(terms, 0, 0), len(self.tick_values))
        except CoreError as error:
            return str(error)
        return ""

    def enter(self, terms: Terms) -> Order:
        """Takes an order that `refusal` has nothing against."""
        number = self._next_number()
        order = Order(terms, number, _row(terms, number, terms.lots))
        self.orders[terms.key] = self._resting[terms.key] = order
        return order

    def close(self, order: Order) -> None:
        """Takes an order out of the book."""
        order.row["leaves"] = 0
        self._resting.pop(order.terms.key, None)

    def change(self, order: Order, terms: Terms) -> str:
        """New price, trigger or quantity for a resting order; the reason when refused.

        Keeps time priority only when the quantity falls and nothing else changes.
        """
        lots = max(terms.lots, order.filled)
        terms = replace(terms, lots=lots)
        reason = self.refusal(terms)
        if reason:
            return reason
        only_smaller = replace(order.terms, lots=lots) == terms and lots <= order.terms.lots
        number = order.number if only_smaller else self._next_number()
        flags = order.row["flags"][0]
        order.row = _row(terms, number, lots - order.filled)
        order.row["flags"] = flags if only_smaller else flags & ~OrderFlag.RESTED
        order.terms, order.number = terms, number
        if order.leaves == 0:
            self.close(order)
        return ""

    def restore(self, order: Order, lots: int, notional: int, fee: int, leaves: int) -> None:
        """Repeats what a report said, while the books are rebuilt."""
        order.filled += lots
        order.notional += notional
        order.fees += fee
        order.row["leaves"] = leaves
        if leaves == 0:
            self.close(order)

    def advance(self, to_ns: int, bars: np.ndarray, opens_ns: Sequence[int]) -> list[Fact]:
        """Matches the resting orders against one bar per instrument and moves the venue's time.

        bars: BAR (instruments,), ts_event_ns 0 where there is none. opens_ns: opening times.
        """
        self.now_ns = to_ns
        resting = self.resting
        if not resting or not len(bars):
            return []
        rows = np.concatenate([order.row for order in resting])
        models = fill_models(len(bars), **self.model)
        facts = []
        for event in match_bars(rows, bars, models):
            order = resting[int(event["row"])]
            ts_ns = int(opens_ns[event["instrument"]]) if event["leg"] == OPEN_LEG else int(event["ts_event_ns"])
            facts.append(self._fact(order, event, ts_ns))
        for order, row in zip(resting, rows, strict=True):
            order.row[0] = row
            if order.leaves == 0:
                self.close(order)
        return facts

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _fact(self, order: Order, event: np.void, ts_ns: int) -> Fact:
        kind, lots, price = int(event["kind"]), int(event["lots"]), int(event["price"])
        fee = 0
        if kind == VenueEventKind.FILL:
            order.filled += lots
            order.notional += int(notional_nano(price, lots, self.tick_values[order.terms.instrument]))
            # The schedule holds for the order: what was charged for earlier fills is deducted.
            total = int(fees_nano(order.filled, order.notional, int(event["liquidity"]), self.fees))
            fee = max(total - order.fees, 0)
            order.fees += fee
        return Fact(
            order=order,
            kind=kind,
            ts_ns=ts_ns,
            price=price,
            lots=lots,
            leaves=int(event["leaves"]),
            filled=order.filled,
            fee=fee,
            liquidity=int(event["liquidity"]),
            reason=CancelReason(int(event["reason"])).name if event["reason"] else "",
        )


__all__ = ["Books", "Fact", "Order", "Terms", "bar_array", "warm"]


def bar_array(instruments: int) -> np.ndarray:
    """An empty bar per instrument."""
    return np.zeros(instruments, BAR)


def _row(terms: Terms, number: int, lots: int) -> np.ndarray:
    row = np.zeros(1, RESTING_ORDER)
    trailing = terms.order_type in (OrderType.TRAILING_STOP_MARKET, OrderType.TRAILING_STOP_LIMIT)
    row["order_id"] = row["arrival_seq"] = number
    row["expire_ts_ns"] = terms.expire_ns if terms.time_in_force == TimeInForce.GTD else 0
    row["price"] = terms.price
    row["trigger"] = NO_PRICE if trailing and not terms.trigger else terms.trigger
    row["trail"] = terms.trail
    row["limit_offset"] = terms.limit_offset
    row["display"] = terms.display
    row["leaves"] = lots
    row["instrument"] = terms.instrument
    row["type"], row["side"], row["tif"] = terms.order_type, terms.side, terms.time_in_force
    row["flags"] = OrderFlag.POST_ONLY if terms.post_only else OrderFlag.NONE
    row["state"] = OrderState.ACCEPTED
    return row
