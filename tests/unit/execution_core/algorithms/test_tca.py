"""Transaction costs by hand, after the example in Perold (1988): paper portfolio against the real one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from execution_core.algorithms.tca import analyse, volume_weighted_price
from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.types import NANO, TCA_ORDER, Side

CENT = NANO // 100


def order(side: Side = Side.BUY, **fields: int) -> Any:
    """A buy of 1000 shares decided at 50.00, arrived at 50.10, ended at 51.00; ticks of a cent."""
    row = np.zeros(1, TCA_ORDER)
    values = {"lots": 1_000, "decision": 5_000, "arrival": 5_010, "end": 5_100, "market_vwap": 5_030}
    for name, value in (values | {"tick_value_nano": CENT} | fields).items():
        row[name] = value
    row["side"] = side
    return row


FILLS: Any = ([0, 0], [5_020, 5_040], [500, 300], [2 * NANO, NANO])


def test_decomposition_of_a_buy() -> None:
    report = analyse(order(), *FILLS)[0]
    assert report["filled_lots"] == 800
    assert report["delay_nano"] == 100 * NANO  # 1000 x 0.10
    assert report["execution_nano"] == 140 * NANO  # 500 x 0.10 + 300 x 0.30
    assert report["opportunity_nano"] == 180 * NANO  # 200 x 0.90
    assert report["fees_nano"] == 3 * NANO
    # Paper: 1000 x (51 - 50) = 1000. Real: 800 x 51 - (500 x 50.20 + 300 x 50.40) - 3 = 577.
    assert report["shortfall_nano"] == 423 * NANO
    assert report["shortfall_bps"] == pytest.approx(84.6)  # of 50,000
    assert report["average_price"] == pytest.approx(5_027.5)
    assert report["arrival_bps"] == pytest.approx(17.5 / 5_010 * 1e4)
    assert report["market_vwap_bps"] == pytest.approx(-2.5 / 5_030 * 1e4)
    assert report["vwap_nano"] == -20 * NANO  # 800 x -0.025


def test_a_sell_is_the_mirror_image() -> None:
    mirrored = {"decision": -5_000, "arrival": -5_010, "end": -5_100, "market_vwap": -5_030}
    buy = analyse(order(), *FILLS)[0]
    sell = analyse(order(Side.SELL, **mirrored), FILLS[0], [-5_020, -5_040], *FILLS[2:])[0]
    for name in ("delay", "execution", "opportunity", "fees", "shortfall", "vwap"):
        assert sell[f"{name}_nano"] == buy[f"{name}_nano"]


def test_many_orders_at_once_and_one_without_fills() -> None:
    orders = np.concatenate([order(), order(), order(Side.SELL)])
    report = analyse(orders, [2, 0, 0], [4_990, 5_020, 5_040], [1_000, 500, 300], [0, 2 * NANO, NANO])
    assert report[0] == analyse(order(), *FILLS)[0]
    assert report["shortfall_nano"][1] == 1_000 * NANO  # 100 delay + 900 opportunity
    assert np.isnan(report["average_price"][1])
    assert report["execution_nano"][2] == 200 * NANO


def test_market_vwap() -> None:
    assert volume_weighted_price([100, 200], [3, 1]) == 125.0
    assert np.isnan(volume_weighted_price(np.zeros(0, np.int64), np.zeros(0, np.int64)))


def test_bad_input_is_refused() -> None:
    for call in (
        lambda: analyse(order(), [0], [1], [1_001], [0]),  # overfill
        lambda: analyse(order(), [1], [1], [1], [0]),
        lambda: analyse(order(), [0], [1], [0], [0]),
        lambda: analyse(order(lots=0), *FILLS),
        lambda: analyse(order(decision=2**40, tick_value_nano=2**30), *FILLS),
        lambda: volume_weighted_price([1], [-1]),
    ):
        with pytest.raises(InvalidValueError):
            call()
    with pytest.raises(InvalidArrayError):
        analyse(order(), [0], [1.5], [1], [0])
    with pytest.raises(InvalidArrayError):
        analyse(order(), [0], [1, 2], [1], [0])
