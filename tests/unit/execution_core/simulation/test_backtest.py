"""The backtest by hand: one instrument, ticks of a cent, bars of 100 lots at most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.gate.facts import InstrumentFacts, Policy
from execution_core.gate.gate import Gate
from execution_core.simulation.backtest import KEEP, Sizing, open_gate, run
from execution_core.simulation.bars import fill_models
from execution_core.simulation.fees import FeeModel
from execution_core.types import BAR, NANO, DenialReason, Side

CENT, DAY_NS = NANO // 100, 86_400 * 10**9
FEES = FeeModel(per_lot_nano=CENT)


def bars(*rows: tuple[int, int, int, int, int]) -> Any:
    """(open, high, low, close, volume) for each day."""
    matrix = np.zeros((len(rows), 1), BAR)
    matrix[:, 0] = [((k + 1) * DAY_NS, *row) for k, row in enumerate(rows)]
    return matrix


def account(*, cash: int = 10_000 * NANO, shortable: bool = False, drawdown_limit: int | None = None) -> Gate:
    policy = Policy(version=1, ts_ns=0, max_age_ns=10**18, price_max_age_ns=2 * DAY_NS, drawdown_limit=drawdown_limit)
    return open_gate([InstrumentFacts(tick_value=CENT, shortable=shortable)], policy, cash=cash)


WEEK = bars(
    (1000, 1010, 990, 1000, 1_000),
    (1020, 1030, 1000, 1010, 1_000),
    (1005, 1040, 1000, 1030, 1_000),
    (1040, 1050, 1030, 1050, 100),
)
MODELS = fill_models(1, half_spread_ticks=1)


def path(*wanted: int) -> Any:
    return np.array(wanted, np.int64).reshape(1, -1, 1)


def test_a_decision_trades_in_the_next_bar() -> None:
    result = run(WEEK, path(50, KEEP, 0, KEEP), gate=account(), models=MODELS, fees=FEES)
    # Decided at 10.00; bought at 10.20 + 0.01, sold at 10.40 - 0.01: of the last bar's 100 lots only 10 %.
    fills = [(f["ts_event_ns"] // DAY_NS, f["side"], f["price"], f["lots"]) for f in result.fills]
    assert fills == [(2, Side.BUY, 1021, 50), (4, Side.SELL, 1039, 10)]
    fee = 50 * CENT
    cash = 10_000 * NANO - 50 * 1021 * CENT - fee
    assert result.equity[0].tolist() == [
        10_000 * NANO,
        cash + 50 * 1010 * CENT,
        cash + 50 * 1030 * CENT,
        cash + 10 * 1039 * CENT - 10 * CENT + 40 * 1050 * CENT,
    ]
    assert result.positions.tolist() == [[40]]


def test_equity_share_is_of_the_equity_at_the_decision() -> None:
    # Half of 10,000 at 10.00 is 500 lots; the volume cap lets 100 through.
    result = run(
        WEEK, path(500_000, KEEP, KEEP, KEEP), gate=account(), models=MODELS, fees=FEES, sizing=Sizing.EQUITY_PPM
    )
    assert result.fills["lots"].tolist() == [100]
    unlimited = fill_models(1, participation_cap_ppm=1_000_000)
    result = run(
        WEEK, path(500_000, KEEP, KEEP, KEEP), gate=account(), models=unlimited, fees=FEES, sizing=Sizing.EQUITY_PPM
    )
    assert result.fills["lots"].tolist() == [500]


def test_the_gate_cuts_and_denies() -> None:
    result = run(WEEK, path(-10, KEEP, KEEP, KEEP), gate=account(), models=MODELS, fees=FEES)
    assert (len(result.fills), result.denials[0, DenialReason.SHORT_NOT_ALLOWED]) == (0, 1)
    poor = account(cash=500 * NANO)
    result = run(WEEK, path(60, KEEP, KEEP, KEEP), gate=poor, models=MODELS, fees=FEES)
    assert 0 < result.fills["lots"][0] < 50
    assert result.denials[0, DenialReason.INSUFFICIENT_FUNDS] == 1
    assert poor.cash == 500 * NANO


def test_a_drawdown_stops_new_risk_but_not_the_way_out() -> None:
    fall = bars((1000, 1000, 1000, 1000, 10_000), (1000, 1000, 1000, 1000, 10_000), (900, 900, 800, 800, 10_000),
                (800, 810, 790, 800, 10_000), (800, 810, 790, 800, 10_000))  # fmt: skip
    strict = account(drawdown_limit=100 * NANO)
    grows = run(fall, path(500, KEEP, 600, KEEP, KEEP), gate=strict, models=MODELS, fees=FEES)
    assert grows.positions[0, 0] == 500
    assert grows.denials[0, DenialReason.DRAWDOWN_LIMIT] == 1
    leaves = run(fall, path(500, KEEP, 0, KEEP, KEEP), gate=strict, models=MODELS, fees=FEES)
    assert leaves.positions[0, 0] == 0


def test_an_order_waits_for_an_instrument_without_bars() -> None:
    holed = WEEK.copy()
    holed["ts_event_ns"][1] = 0
    result = run(holed, path(50, KEEP, KEEP, KEEP), gate=account(), models=MODELS, fees=FEES)
    assert result.fills[["ts_event_ns", "price"]].tolist() == [(3 * DAY_NS, 1006)]


def test_bad_input_is_refused() -> None:
    good = path(50, KEEP, KEEP, KEEP)
    late = WEEK.copy()
    late["ts_event_ns"][2] = DAY_NS
    free = WEEK.copy()
    free["low"][0] = 0
    for matrix, problem in ((late, "ascending"), (free, "one tick")):
        with pytest.raises(InvalidValueError, match=problem):
            run(matrix, good, gate=account(), models=MODELS, fees=FEES)
    with pytest.raises(InvalidValueError, match="targets"):
        run(WEEK, path(2**50, 0, 0, 0), gate=account(), models=MODELS, fees=FEES)
    with pytest.raises(InvalidValueError, match="threads"):
        run(WEEK, good, gate=account(), models=MODELS, fees=FEES, threads=0)
    with pytest.raises(InvalidArrayError, match="targets"):
        run(WEEK, path(1, 2), gate=account(), models=MODELS, fees=FEES)
    with pytest.raises(InvalidArrayError, match="models"):
        run(WEEK, good, gate=account(), models=fill_models(2), fees=FEES)
    wide = np.repeat(WEEK, 2, axis=1)
    with pytest.raises(InvalidArrayError, match="gate"):
        run(wide, np.repeat(good, 2, axis=2), gate=account(), models=fill_models(2), fees=FEES)
