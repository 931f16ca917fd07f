"""Exchange rates: what amounts of one currency are worth in another, from the marks of currency pairs. Exact.

A pair is an instrument with a `base_currency_code`; its price is the rate. A rate is used as it is or turned round,
never put together from two: where there is no pair, there is no rate.

Rounding, stated here for all: a converted amount is rounded down (towards minus infinity) to a nano unit, so what an
account has is never worth more, and what it owes never less, than exactly. Costs are converted as what they take
away. Amounts of one currency are added up before they are converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alphamesh.marketdata.v1 import marketdata_pb2

from .convert import NANO
from .errors import ServiceError, precondition


@dataclass(frozen=True, slots=True)
class Rate:
    """Units of one currency for a unit of another, as a fraction."""

    numerator: int
    denominator: int

    def worth(self, amount_e9: int) -> int:
        """An amount that is had (or, below zero, owed) in the other currency, rounded down."""
        return amount_e9 * self.numerator // self.denominator

    def cost(self, amount_e9: int) -> int:
        """An amount that is spent in the other currency, rounded up."""
        return -self.worth(-amount_e9)


SAME = Rate(1, 1)


class Pairs:
    """The currency of every instrument, and the pairs among them."""

    def __init__(self, instruments: Mapping[str, marketdata_pb2.Instrument]) -> None:
        self.currency_of = {name: instrument.currency_code for name, instrument in instruments.items()}
        self._pairs = {
            (instrument.base_currency_code, instrument.currency_code): name
            for name, instrument in instruments.items()
            if instrument.base_currency_code
        }
        self._names = frozenset(self._pairs.values())

    def __bool__(self) -> bool:
        """Whether there is any pair."""
        return bool(self._pairs)

    def __contains__(self, instrument_id: str) -> bool:
        return instrument_id in self._names

    def between(self, currency: str, into: str) -> str | None:
        """The pair that converts one currency into another, in either direction."""
        return self._pairs.get((currency, into)) or self._pairs.get((into, currency))

    def rate(self, currency: str, into: str, marks_e9: Mapping[str, int]) -> Rate | None:
        """The rate at these marks (of instruments and pairs); None without a pair or without its mark."""
        if currency == into:
            return SAME
        direct = marks_e9.get(self._pairs.get((currency, into), ""))
        if direct:
            return Rate(direct, NANO)
        inverse = marks_e9.get(self._pairs.get((into, currency), ""))
        return Rate(NANO, inverse) if inverse else None

    def worth(self, amounts_e9: Mapping[str, int], into: str, marks_e9: Mapping[str, int]) -> int | None:
        """Amounts by currency as one amount; None when one that is not zero has no rate."""
        total = 0
        for currency, amount in amounts_e9.items():
            if amount:
                rate = self.rate(currency, into, marks_e9)
                if rate is None:
                    return None
                total += rate.worth(amount)
        return total


def rate_missing(currency: str, into: str) -> ServiceError:
    """The error of an amount that cannot be converted."""
    return precondition(
        "CURRENCY_RATE_MISSING",
        f"no rate of {currency} in {into} is known; add bars of a currency pair of the two to the data set",
        currency_code=currency,
    )
