"""The instruments file: exact numbers, and every mistake named."""

from __future__ import annotations

import pytest

from python_services.kit.config import ConfigError
from python_services.market_data import config, instruments
from python_services.market_data.findings import DatasetError


def one(**changes: str) -> bytes:
    values = {"instrument_id": "A", "currency_code": "USD", "price_increment": "0.01", "size_increment": "1"} | changes
    body = ", ".join(f"{key}: {value}" for key, value in values.items())
    return f"instruments:\n  - {{{body}}}\n".encode()


PAIR_TURNED_ROUND = one(instrument_id="B", currency_code="EUR", base_currency_code="USD").partition(b"\n")[2]


def test_a_currency_pair_says_what_its_price_is_of() -> None:
    (pair,), _ = instruments.parse(one(instrument_id="EURUSD", base_currency_code="EUR"), "x")
    assert (pair.base_currency_code, pair.currency_code) == ("EUR", "USD")


def test_bundled_instruments() -> None:
    specs, session = instruments.parse(config.resolve("bundled:instruments.yaml").read_bytes(), "bundled")
    assert [spec.instrument_id for spec in specs] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert {(s.currency_code, s.price_increment_e9, s.size_increment_e9, s.multiplier_e9) for s in specs} == {
        ("USD", 10_000_000, 1_000_000_000, 1_000_000_000)
    }
    assert all(spec.sector for spec in specs)
    assert (session.timezone, session.open, session.close) == ("America/New_York", "09:30", "16:00")


def test_numbers_are_never_floats() -> None:
    (spec,), _ = instruments.parse(one(price_increment="0.000000001", multiplier="0.1"), "x")
    assert (spec.price_increment_e9, spec.multiplier_e9) == (1, 100_000_000)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"instruments: []", "lists no instrument"),
        (b"other: 1", "no list `instruments`"),
        (b"instruments: {", "not YAML"),
        (b"instruments: [3]", "instruments[0]"),
        (b"instruments: []\nextra: 1", "'extra'"),
        (one(colour="red"), "'colour'"),
        (one(price_increment="0"), "price_increment"),
        (one(price_increment="0.0000000001"), "price_increment"),
        (one(size_increment="nan"), "size_increment"),
        (one(size_increment="some"), "size_increment"),
        (one(currency_code="dollars"), "currency_code"),
        (one(base_currency_code="EURO"), "base_currency_code"),
        (one(base_currency_code="USD"), "base_currency_code"),
        (one(base_currency_code="EUR") + PAIR_TURNED_ROUND, "second pair of EUR and USD"),
        (one(instrument_id="''"), "instrument_id"),
        (one() + one().partition(b"\n")[2], "listed twice"),
        (b"session: {timezone: Mars/Olympus}\n" + one(), "Mars/Olympus"),
        (b'session: {open: "9"}\n' + one(), "HH:MM"),
        (b'session: {open: "17:00"}\n' + one(), "not before close"),
        (b"instruments:\n  - {instrument_id: A, currency_code: USD, size_increment: 1}\n", "'price_increment'"),
    ],
)
def test_mistakes_are_named(body: bytes, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        instruments.parse(body, "my.yaml")
    assert named in str(caught.value)
    assert "my.yaml" in str(caught.value)


def test_an_empty_universe_has_its_own_reason() -> None:
    with pytest.raises(DatasetError) as caught:
        instruments.parse(b"instruments: []", "my.yaml")
    assert caught.value.reason == "EMPTY_UNIVERSE"
