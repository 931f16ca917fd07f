"""Splits and dividends from the steps of adj_close / close."""

from __future__ import annotations

import numpy as np
import pytest

from python_services.market_data import adjustment
from python_services.market_data.findings import Kind

from .files import NAMES, load, parse, row

DAYS = [f"2009-07-{day:02}" for day in (1, 2, 6, 7, 8)]


def series(closes: list[str], adjusted: list[str]) -> list[str]:
    return [row("A", day, close, adj=adj) for day, close, adj in zip(DAYS, closes, adjusted, strict=True)]


@pytest.mark.parametrize(
    ("closes", "adjusted", "total", "split"),
    [
        (["40", "40", "20", "20", "20"], ["20", "20", "20", "20", "20"], 2.0, 2.0),
        (["40", "40", "20.01", "20", "20"], ["20", "20", "20.01", "20", "20"], 2.0, 2.0),
        (["30", "30", "20", "20", "20"], ["20", "20", "20", "20", "20"], 1.5, 1.5),
        (["2", "2", "20", "20", "20"], ["20", "20", "20", "20", "20"], 0.1, 0.1),  # reverse split
        (["20", "20", "20", "20", "20"], ["19.9", "19.9", "20", "20", "20"], 1.005025126, 1.0),  # dividend
        (["44", "44", "20", "20", "20"], ["19.9", "19.9", "20", "20", "20"], 2.211055276, 1.0),  # not guessed to be 2:1
        (["20", "20", "20", "20", "20"], ["18", "18", "20", "20", "20"], 1.111111111, 1.0),  # special dividend
    ],
)
def test_steps(closes: list[str], adjusted: list[str], total: float, split: float) -> None:
    found = adjustment.steps(parse(series(closes, adjusted)))
    assert found.total.tolist() == [1.0, 1.0, total, 1.0, 1.0]
    assert found.split.tolist() == [1.0, 1.0, split, 1.0, 1.0]


def test_split_and_dividend_on_one_day() -> None:
    data = load(series(["40", "40", "20", "20", "20"], ["19.9", "19.9", "20", "20", "20"]))
    assert [finding.kind for finding in data.findings] == [Kind.DIVIDEND, Kind.SPLIT]
    assert data.split_step[0].prod() == 2.0
    assert data.step[0].prod() == pytest.approx(2.0 * 20 / 19.9, rel=1e-9)


def test_split_finding_says_what_was_done() -> None:
    (finding,) = load(series(["40", "40", "20", "20", "20"], ["20", "20", "20", "20", "20"])).findings
    assert finding.kind is Kind.SPLIT
    assert finding.detail == "2:1: close 40 then 20, adj_close 20 then 20"
    assert "adjusted" in finding.action


def test_rounding_of_adj_close_is_no_dividend() -> None:
    data = load(series(["30", "31", "32", "33", "34"], ["15.0001", "15.5", "16.0001", "16.5", "17"]))
    assert data.findings == ()


def test_a_jump_that_adj_close_shares_is_only_suspected() -> None:
    rows = series(["40", "40", "20", "20", "20"], ["40", "40", "20", "20", "20"])
    data = load(rows)
    (finding,) = data.findings
    assert finding.kind is Kind.SPLIT
    assert finding.action.startswith("Not adjusted")
    assert (data.step == 1.0).all()


def test_a_crash_is_not_called_a_split() -> None:
    assert load(series(["40", "40", "22", "22", "22"], ["40", "40", "22", "22", "22"])).findings == ()


@pytest.mark.parametrize("later", [0.5, 0.9943, 1 / 3, 28.0])
def test_actions_after_the_data_change_no_step(later: float) -> None:
    closes = ["40.11", "41.35", "20.77", "21.02", "20.5"]
    adjusted = [20.055 / 1.007, 20.675 / 1.007, 20.77 / 1.007, 21.02, 20.5]
    plain = adjustment.steps(parse(series(closes, [repr(value) for value in adjusted])))
    scaled = adjustment.steps(parse(series(closes, [repr(value * later) for value in adjusted])))
    assert plain.total.tolist() == scaled.total.tolist()
    assert plain.total[3] == 1.007


def test_instruments_do_not_touch_each_other() -> None:
    rows = [row(name, day, price, adj=price) for name, price in zip(NAMES, (10, 1000, 5), strict=True) for day in DAYS]
    found = adjustment.steps(parse(rows))
    assert np.all(found.total == 1.0)
