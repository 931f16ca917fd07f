"""What an account holds as rows of a snapshot, and what a lot of each instrument is worth. Exact."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit import convert
from python_services.kit.currency import Rate
from python_services.kit.errors import precondition
from python_services.kit.ledger_view import AccountView, LedgerView
from python_services.kit.snapshots import Snapshot

from .logic import Book, Lots

NOTHING = Rate(0, 1)  # of a currency without a rate


class Listing:
    """The facts of the snapshot's instruments, by row. Raises ServiceError for one that is not known."""

    def __init__(self, names: tuple[str, ...], instruments: Mapping[str, marketdata_pb2.Instrument]) -> None:
        self.names = names
        self.rows = {name: row for row, name in enumerate(names)}
        found = [_instrument(instruments, name) for name in names]
        self.increments: list[int] = [i.size_increment_e9 for i in found]
        # A lot at a price of p is worth p * worth // NANO^2, without a rest.
        self._worth = [i.size_increment_e9 * i.multiplier_e9 for i in found]
        whole = not any(worth % convert.NANO**2 for worth in self._worth)
        self._factors = np.array([worth // convert.NANO**2 for worth in self._worth], np.int64) if whole else None
        self._largest = max(self._worth, default=0) // convert.NANO**2
        self._multipliers = [i.multiplier_e9 for i in found]
        self._by_currency: dict[str, list[int]] = {}
        for row, instrument in enumerate(found):
            self._by_currency.setdefault(instrument.currency_code, []).append(row)

    def lot_values(self, marks_e9: tuple[int, ...], rates: Mapping[str, Rate]) -> Lots:
        """Nano units that one lot of each row is worth, by the rate of its currency."""
        if self._factors is not None and max(marks_e9, default=0) * self._largest <= convert.INT64_MAX:
            values: Lots = np.array(marks_e9, np.int64) * self._factors
        else:
            exact = map(convert.notional_e9, marks_e9, self.increments, self._multipliers)
            values = np.array(list(exact), np.int64)
        for currency, rows in self._by_currency.items():
            rate = rates[currency]
            if rate.numerator != rate.denominator:
                values[rows] = [rate.worth(value) for value in values[rows].tolist()]
        return values

    @property
    def currencies(self) -> frozenset[str]:
        """Those that the rows are traded in."""
        return frozenset(self._by_currency)


def book(view: LedgerView, account: AccountView, snapshot: Snapshot, listing: Listing) -> Book:
    """Holdings in lots at the snapshot's marks; values in the account's currency.

    An instrument of a currency without a rate has no value: it is held as it is. What is bought in another
    currency is owed in it, so returns are those of prices in their own currency.
    Raises ServiceError (FAILED_PRECONDITION, EQUITY_NOT_POSITIVE).
    """
    rows = listing.rows
    # Rates may be marks of any pair; without pairs only what is held has to be valued.
    if view.pairs:
        marks = snapshot.marks()
    else:
        marks = {name: snapshot.marks_e9[rows[name]] for name in account.holdings if name in rows}
    rates = {currency: view.pairs.rate(currency, account.currency, marks) or NOTHING for currency in listing.currencies}
    equity = view.equity_at(account, marks)
    if equity <= 0:
        raise precondition(
            "EQUITY_NOT_POSITIVE",
            f"account {account.account_id} has equity {convert.decimal(equity)}; weights have no meaning, add cash",
            account_id=account.account_id,
        )
    held = np.zeros(len(rows), np.int64)
    elsewhere = 0
    for name, holding in account.holdings.items():
        row = rows.get(name)
        if row is not None:
            held[row] = convert.to_steps(holding.quantity_e9, listing.increments[row], f"position {name}")
        if not marks.get(name):
            notional = view.notional_e9(name, account.marks_e9.get(name, 0), holding.quantity_e9)
            elsewhere += view.rate(account, view.pairs.currency_of[name], marks).worth(notional)
    return Book(
        names=listing.names,
        held=held,
        lot_values=listing.lot_values(snapshot.marks_e9, rates),
        equity=equity,
        elsewhere=elsewhere,
    )


def _instrument(instruments: Mapping[str, marketdata_pb2.Instrument], name: str) -> marketdata_pb2.Instrument:
    try:
        return instruments[name]
    except KeyError:
        raise precondition(
            "INSTRUMENT_UNKNOWN",
            f"instrument {name} was not known when this service started; restart it",
            instrument_id=name,
        ) from None
