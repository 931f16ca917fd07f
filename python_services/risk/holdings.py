"""What an account held at one event of the ledger, and the rows that it is judged and measured by. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit import convert
from python_services.kit.currency import SAME, Pairs, Rate, rate_missing
from python_services.kit.errors import not_found, precondition
from python_services.kit.ledger_view import AccountView
from python_services.kit.snapshots import Floats, Snapshot

from .logic import Book, Lots

NOTHING = Rate(0, 1)  # of a currency without a rate


@dataclass(frozen=True, kw_only=True)
class Held:
    """One account after event `seq`. Quantities, marks and money in nano units; `working` is (buys, sells).

    `balances_e9` is cash by currency.
    """

    account_id: str
    currency: str
    seq: int
    quantities_e9: Mapping[str, int]
    working_e9: Mapping[str, tuple[int, int]]
    marks_e9: Mapping[str, int]
    balances_e9: Mapping[str, int]
    day_start_equity_e9: int
    peak_equity_e9: int


def hold(account: AccountView, also: Iterable[str] = ()) -> Held:
    """A copy of what the view says now; marks of what is held or on order, and `also` of these."""
    working = account.open_quantities()
    marks = account.marks_e9
    return Held(
        account_id=account.account_id,
        currency=account.currency,
        seq=account.seq,
        quantities_e9={name: holding.quantity_e9 for name, holding in account.holdings.items()},
        working_e9=working,
        marks_e9={name: marks[name] for name in {*account.holdings, *working, *also} if name in marks},
        balances_e9=account.balances_e9(),
        day_start_equity_e9=account.day_start_equity_e9,
        peak_equity_e9=account.peak_equity_e9,
    )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A book of everything held, on order or proposed, by name; the lot and the mark of each row.

    Values are in the account's currency, marks in the instrument's. `foreign`: other currencies that it has or owes
    something in, or would have by the proposal.
    """

    book: Book
    increments: list[int]
    marks_e9: list[int]
    foreign: tuple[str, ...]

    def lots(self, quantities_e9: Iterable[int], field: str) -> Lots:
        """Quantities in the order of the rows, in lots. Raises ServiceError (INVALID_ARGUMENT)."""
        return _lots(quantities_e9, self.increments, field)


def rows(
    held: Held,
    snapshot: Snapshot,
    instruments: Mapping[str, marketdata_pb2.Instrument],
    proposed: Mapping[str, int] | None = None,
) -> Rows:
    """Values at the snapshot's marks, or at the ledger's last one where it has none.

    Raises ServiceError: NOT_FOUND for an unknown instrument, FAILED_PRECONDITION (MARK_MISSING,
    CURRENCY_RATE_MISSING).
    """
    proposed = proposed or {}
    names = sorted({*proposed, *held.quantities_e9, *held.working_e9})
    places = snapshot.places
    marks = {**held.marks_e9, **{name: snapshot.marks_e9[places[name]] for name in names if name in places}}
    marks.update(zip(snapshot.rate_instrument_ids, snapshot.rates_e9, strict=True))
    for name in names:
        if name not in instruments:
            raise not_found("instrument", name, "use one that market_data lists")
        if not marks.get(name) and (proposed.get(name) or held.quantities_e9.get(name)):
            raise precondition(
                "MARK_MISSING", f"instrument {name} has no mark; leave it out of the proposal", instrument_id=name
            )
    wanted = [instruments[name] for name in names]
    increments = [instrument.size_increment_e9 for instrument in wanted]
    working = [held.working_e9.get(name, (0, 0)) for name in names]
    amounts = {currency: cash for currency, cash in held.balances_e9.items() if cash}
    for name, quantity in held.quantities_e9.items():
        currency = instruments[name].currency_code
        value = convert.notional_e9(marks[name], quantity, instruments[name].multiplier_e9)
        amounts[currency] = amounts.get(currency, 0) + value
    wished = {instruments[name].currency_code for name, quantity in proposed.items() if quantity}
    foreign = tuple(sorted((amounts.keys() | wished) - {held.currency}))
    currencies = {*amounts, *(instrument.currency_code for instrument in wanted)}
    rates = _rates(held, currencies, instruments, snapshot)
    for currency in foreign:
        if rates[currency] is NOTHING:
            raise rate_missing(currency, held.currency)
    equity = sum(rates[currency].worth(amount) for currency, amount in amounts.items())
    book = Book(
        names=tuple(names),
        sectors=tuple(instrument.sector or "unknown" for instrument in wanted),
        lots=_lots((held.quantities_e9.get(name, 0) for name in names), increments, "position"),
        open_buys=_lots((buys for buys, _ in working), increments, "open orders"),
        open_sells=_lots((sells for _, sells in working), increments, "open orders"),
        lot_values=np.array(
            [
                rates[i.currency_code].worth(
                    convert.notional_e9(marks.get(i.instrument_id, 0), i.size_increment_e9, i.multiplier_e9)
                )
                for i in wanted
            ],
            dtype=np.int64,
        ),
        equity=equity,
    )
    return Rows(book=book, increments=increments, marks_e9=[marks.get(name, 0) for name in names], foreign=foreign)


def _rates(
    held: Held, currencies: set[str], instruments: Mapping[str, marketdata_pb2.Instrument], snapshot: Snapshot
) -> dict[str, Rate]:
    if currencies <= {held.currency}:  # nearly always: then nobody has to look for pairs
        return {held.currency: SAME}
    pairs, marks = Pairs(instruments), {**held.marks_e9, **snapshot.marks()}
    return {currency: pairs.rate(currency, held.currency, marks) or NOTHING for currency in currencies}


def columns(values: Floats, snapshot: Snapshot, names: tuple[str, ...]) -> Floats:
    """The columns of `names` in `values` (bars x the snapshot's instruments); NaN for those outside it."""
    if names == snapshot.instrument_ids:
        return values
    places = snapshot.places
    chosen = np.full((values.shape[0], len(names)), np.nan)
    inside = [column for column, name in enumerate(names) if name in places]
    chosen[:, inside] = values[:, [places[names[column]] for column in inside]]
    return chosen


def _lots(quantities_e9: Iterable[int], increments: list[int], field: str) -> Lots:
    steps = [convert.to_steps(quantity, i, field) for quantity, i in zip(quantities_e9, increments, strict=True)]
    return np.array(steps, dtype=np.int64)
