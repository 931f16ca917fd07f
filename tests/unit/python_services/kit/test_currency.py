"""Rates of pairs, either way round, and which way amounts are rounded."""

from __future__ import annotations

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit.currency import SAME, Pairs, Rate

E9 = 10**9


def pairs() -> Pairs:
    def listed(name: str, currency: str, base: str = "") -> marketdata_pb2.Instrument:
        return marketdata_pb2.Instrument(instrument_id=name, currency_code=currency, base_currency_code=base)

    found = (listed("US", "USD"), listed("EURUSD", "USD", "EUR"), listed("USDJPY", "JPY", "USD"))
    return Pairs({instrument.instrument_id: instrument for instrument in found})


def test_a_pair_converts_in_both_directions_and_two_pairs_are_never_put_together() -> None:
    marks = {"EURUSD": 1_100_000_000, "USDJPY": 150 * E9}
    rate = pairs().rate
    assert rate("USD", "USD", {}) is SAME
    assert rate("EUR", "USD", marks) == Rate(1_100_000_000, E9)
    assert rate("USD", "EUR", marks) == Rate(E9, 1_100_000_000)
    assert rate("JPY", "USD", marks) == Rate(E9, 150 * E9)
    assert rate("EUR", "JPY", marks) is None
    assert rate("EUR", "USD", {"USDJPY": 150 * E9}) is None
    assert (pairs().between("USD", "EUR"), pairs().between("EUR", "JPY")) == ("EURUSD", None)


def test_what_is_had_is_rounded_down_and_what_is_owed_or_spent_up() -> None:
    third = Rate(1, 3)
    assert (third.worth(10), third.worth(-10), third.cost(10), third.cost(-10)) == (3, -4, 4, -3)


def test_amounts_are_worth_nothing_known_when_one_has_no_rate() -> None:
    marks = {"EURUSD": 1_100_000_000}
    assert pairs().worth({"USD": 5, "EUR": 10, "JPY": 0}, "USD", marks) == 16
    assert pairs().worth({"USD": 5, "JPY": 1}, "USD", marks) is None
