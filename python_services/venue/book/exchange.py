"""The venue's books: a matching engine per instrument, and the orders of all accounts. No gRPC, no I/O.

Prices in ticks, quantities in lots, money in nano units. Every command returns the facts that it
caused, in order. The same commands give the same facts and the same books.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from execution_core.matching import MatchingEngine, warm
from execution_core.matching.layout import ACCOUNTS, MAX_PRICE, PRICE_LEVELS
from execution_core.simulation.fees import FeeModel
from execution_core.types import NO_PRICE, MatchEventKind, MatchReason, OrderFlag, SessionPhase

from ..model import MATCH_REPORT_KINDS
from .orders import Fact, Key, Limits, Order, Schedule, Terms

_APPLIED: Final = MatchEventKind.APPLIED
REFUSALS: Final = frozenset({MatchEventKind.REPLACE_REJECTED, MatchEventKind.CANCEL_REJECTED})


@dataclass
class Book:
    """The engine of one instrument and the ladder that it covers from `base` on."""

    engine: MatchingEngine
    base: int
    limits: Limits = field(default_factory=Limits)

    def covers(self, prices: Iterable[int]) -> bool:
        """Whether prices are on the ladder."""
        return all(self.base <= price < self.base + PRICE_LEVELS for price in prices)


class Exchange:
    """All books of the venue."""

    def __init__(self, tick_values: Sequence[int]) -> None:
        """`tick_values`: worth of one tick on one lot of each instrument, nano units."""
        self._tick_values = tick_values
        self._books: dict[int, Book] = {}
        self._accounts: dict[str, int] = {}
        self._live: dict[int, Order] = {}
        self._last_number = 0
        self.schedule = Schedule(fees=FeeModel(), self_trade=0, phase=SessionPhase.CLOSED)
        self.orders: dict[Key, Order] = {}
        self.now_ns = 0

    # --- orders ------------------------------------------------------------------------------------

    def submit(self, terms: Terms, ts_ns: int) -> list[Fact]:
        """A new order: accepted or rejected, and what follows."""
        self.now_ns = max(self.now_ns, ts_ns)
        engine = self._reach(terms.instrument, terms.prices).engine
        order = Order(terms, self._last_number + 1, self._account(terms.account_id))
        self._live[order.number] = order
        events = engine.submit(
            terms.side,
            terms.lots,
            NO_PRICE if terms.price is None else terms.price,
            order.account,
            self.now_ns,
            order.number,
            terms.order_type,
            terms.time_in_force,
            (OrderFlag.POST_ONLY if terms.post_only else 0) | (OrderFlag.REDUCE_ONLY if terms.reduce_only else 0),
            terms.self_trade or self.schedule.self_trade,
            stop_price=NO_PRICE if terms.trigger is None else terms.trigger,
            display_quantity=terms.display,
            trailing_offset=terms.trail,
            limit_offset=terms.limit_offset,
            expire_time_ns=terms.expire_ns,
        )
        return self._facts(events, order)

    def cancel(self, order: Order) -> list[Fact]:
        """Cancels an order; the last fact is the answer."""
        engine = self._books[order.terms.instrument].engine
        return self._facts(engine.cancel(order.order_id, order.account, self.now_ns, order.number), order)

    def replace(self, order: Order, terms: Terms) -> list[Fact]:
        """A new quantity, price or trigger; `terms` are all of them, with what stays as it is."""
        engine = self._reach(terms.instrument, terms.prices).engine
        events = engine.replace(
            order.order_id,
            order.account,
            self.now_ns,
            order.number,
            quantity=terms.lots,
            price=_changed(order.terms.price, terms.price),
            stop_price=_changed(order.terms.trigger, terms.trigger),
        )
        return self._facts(events, order, terms)

    # --- the market --------------------------------------------------------------------------------

    def advance(self, to_ns: int) -> list[Fact]:
        """Time passes in every book: orders expire."""
        self.now_ns = to_ns
        facts = []
        for instrument in sorted(self._books):
            facts += self._facts(self._books[instrument].engine.advance_time(to_ns))
        return facts

    def set_phase(self, instrument: int, phase: int) -> tuple[list[Fact], int | None, int]:
        """A new phase: what it caused, and the price and volume of an auction that it ended."""
        events = self._reach(instrument, ()).engine.set_phase(phase, self.now_ns)
        applied = events[events["kind"] == _APPLIED][0]
        price, lots = int(applied["price"]), int(applied["quantity"])
        return self._facts(events), None if price == NO_PRICE else price, lots

    def set_limits(self, instrument: int, limits: Limits) -> list[Fact] | None:
        """New limits: what they caused; None when no ladder holds them and what is in the book."""
        book = self._reach(instrument, ())
        if not book.covers(limits.prices):
            # The old limits need not fit the new ladder.
            self._bound(book, Limits())
            if not self._rebase(book, limits.prices):
                self._bound(book, book.limits)
                return None
        book.limits = limits
        return self._bound(book, limits, self.now_ns)

    def book(self, instrument: int) -> Book:
        """An instrument's book; a new one when nothing has happened in it."""
        return self._books.get(instrument) or self._open(())

    # --- inside ------------------------------------------------------------------------------------

    def _open(self, prices: Iterable[int]) -> Book:
        base = _centred(prices)
        return Book(MatchingEngine(base_price=base, phase=SessionPhase(self.schedule.phase)), base)

    def _reach(self, instrument: int, prices: Sequence[int]) -> Book:
        """The book, its ladder moved to `prices` when they are off it, if that loses nothing else."""
        book = self._books.get(instrument)
        if book is None:
            book = self._books[instrument] = self._open(prices)
        elif not book.covers(prices) and Book(book.engine, _centred(prices)).covers(book.limits.prices):
            # Otherwise the engine would cut the band at the ladder's end, without a word.
            self._rebase(book, prices)
        return book

    def _rebase(self, book: Book, prices: Sequence[int]) -> bool:
        base = _centred(prices)
        if not Book(book.engine, base).covers(prices) or book.engine.rebase(base)[-1]["kind"] != _APPLIED:
            return False
        book.base = base
        return True

    def _bound(self, book: Book, limits: Limits, ts_ns: int = 0) -> list[Fact]:
        facts = self._facts(book.engine.set_reference(limits.reference, ts_ns))
        return facts + self._facts(book.engine.set_band(limits.lower, limits.upper, ts_ns))

    def _account(self, account_id: str) -> int:
        # The engine refuses the first index beyond its table by name.
        if account_id not in self._accounts and len(self._accounts) == ACCOUNTS:
            return ACCOUNTS
        return self._accounts.setdefault(account_id, len(self._accounts))

    def _facts(self, events: Any, subject: Order | None = None, amended: Terms | None = None) -> list[Fact]:
        """What events say of orders; `subject` is the command's own order, `amended` what it shall become."""
        facts = []
        for row in events.tolist():
            kind, tag = row[0], row[6]
            if tag == 0:
                continue
            order = subject if subject is not None and tag == subject.number else self._live[tag]
            facts.append(self._fact(order, row, amended))
            if kind == MatchEventKind.ACCEPTED:
                self._last_number = order.number
                self.orders[order.terms.key] = order
            if order.leaves == 0 and kind not in REFUSALS:
                self._live.pop(order.number, None)
        return facts

    def _fact(self, order: Order, row: tuple[int, ...], amended: Terms | None) -> Fact:
        kind, reason, liquidity, _, _, order_id, _, price, lots, leaves, trade, ts_ns = row
        fee = 0
        if kind == MatchEventKind.FILL:
            order.filled += lots
            notional = abs(price) * lots * self._tick_values[order.terms.instrument]
            fee = order.charge.fill(lots, notional, liquidity, self.schedule.fees)
        elif kind == MatchEventKind.ACCEPTED:
            order.order_id = order_id
        elif kind == MatchEventKind.REPLACED:
            # Self-trade prevention takes away quantity; only a client changes prices.
            terms = order.terms if reason or amended is None else amended
            order.terms = replace(terms, lots=lots)
        if kind not in REFUSALS:
            order.leaves = leaves
        filled = kind == MatchEventKind.FILL
        return Fact(
            order=order,
            kind=MATCH_REPORT_KINDS[kind],
            ts_ns=ts_ns,
            reason=MatchReason(reason).name if reason else "",
            filled=order.filled,
            leaves=order.leaves,
            price=price if filled else 0,
            lots=lots if filled else order.terms.lots,
            fee=fee,
            liquidity=liquidity,
            trade=trade,
        )


def _changed(old: int | None, new: int | None) -> int:
    return NO_PRICE if new is None or new == old else new


def _centred(prices: Iterable[int]) -> int:
    """Base of a ladder with `prices` in its middle."""
    known = sorted(prices) or [0]
    middle = (known[0] + known[-1]) // 2
    return max(-MAX_PRICE, min(middle - PRICE_LEVELS // 2, MAX_PRICE))


__all__ = ["Book", "Exchange", "warm"]
