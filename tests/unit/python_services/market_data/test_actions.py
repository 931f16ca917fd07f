"""Splits and dividends out of adjusted closes: what was declared, to the cent."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from python_services.market_data.actions import Action, actions
from python_services.market_data.config import Config
from python_services.market_data.history import History
from python_services.market_data.loading import load

NANO = 10**9
TICK = 10_000_000


@pytest.fixture(scope="module")
def history() -> History:
    return History(load(Config(datasets=("bundled:us_equities_daily.csv.gz",), instruments="bundled:instruments.yaml")))


def ns(day: str) -> int:
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * 86_400 * NANO


def found(history: History, after: str = "1999-12-31", until: str = "2013-03-02") -> dict[str, Action]:
    names = [spec.instrument_id for spec in history.dataset.instruments]
    rows = np.arange(len(names))
    bars = history.bars(rows, ns(until), ns(after) - 30 * 86_400 * NANO, ns(until))
    return {action.action_id: action for action in actions(bars, names, [TICK] * len(rows), ns(after))}


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("MSFT-2004-11-15-dividend", "3.08"),  # the special three dollars, and the quarter's eight cents
        ("IBM-2009-05-06-dividend", "0.55"),
        ("MSFT-2009-08-18-dividend", "0.13"),
        ("IBM-2011-05-06-dividend", "0.75"),
        ("AAPL-2012-08-09-dividend", "2.65"),
    ],
)
def test_dividends_are_those_declared(history: History, name: str, declared: str) -> None:
    assert found(history)[name].dividend_e9 == round(float(declared) * 100) * NANO // 100


def test_every_dividend_is_in_whole_cents(history: History) -> None:
    paid = [action.dividend_e9 for action in found(history).values() if action.split is None]
    assert len(paid) > 80
    assert not np.array(paid).astype(np.int64).__mod__(NANO // 100).any()


def test_splits_have_their_terms_and_the_price_after(history: History) -> None:
    splits = {name: action for name, action in found(history).items() if action.split}
    assert {name: action.split for name, action in splits.items()} == {
        "AAPL-2000-06-21-split": (2, 1),
        "MSFT-2003-02-18-split": (2, 1),
        "AAPL-2005-02-28-split": (2, 1),
    }
    assert splits["AAPL-2005-02-28-split"].price_after_e9 == 44_490_000_000  # half of 88.99, down to the cent


def test_the_ex_day_is_in_the_range_that_it_closes_in(history: History) -> None:
    assert set(found(history, after="2009-08-17", until="2009-08-18")) == set()
    assert set(found(history, after="2009-08-18", until="2009-08-19")) == {"MSFT-2009-08-18-dividend"}
    assert set(found(history, after="2009-08-19", until="2009-08-20")) == set()
