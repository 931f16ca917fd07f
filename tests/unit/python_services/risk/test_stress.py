"""Stress by hand: moves of small portfolios, what is not known yet, and the limit on the worst loss."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from alphamesh.marketdata.v1 import marketdata_pb2
from execution_core.types import TradingState
from python_services.risk import windows
from python_services.risk.analysis import Kind, Market, stress_table
from python_services.risk.config import Limits
from python_services.risk.logic import Outcome, assess
from python_services.risk.scenarios import Covariance, Historical, Hypothetical, Reverse, Scenario
from python_services.risk.stress import Moves, Stress
from tests.unit.python_services.risk.books import book, history, lots

CRASH = Historical(start=date(2008, 9, 15), end=date(2008, 10, 10))
SCENARIOS = tuple(
    Scenario(name=name, description="", kind=kind)
    for name, kind in (
        ("crash", CRASH),
        ("down", Hypothetical(all=-0.1)),
        ("up", Hypothetical(all=0.1)),
        ("tech", Hypothetical(sectors={"Technology": -0.2})),
        ("steel", Hypothetical(sectors={"Steel": -0.2})),
        ("stormy", Covariance(volatility_factor=2.0)),
        ("together", Covariance(correlation_to_one=1.0)),
        ("tenth", Reverse(loss=0.1)),
    )
)
STRESS = Stress(SCENARIOS, {"crash": {"A": -0.5, "B": -0.2}}, {"A": "Technology", "B": "Banks", "C": "Banks"})
AFTER = CRASH.end_ns + 1
DEVIATIONS, CORRELATION = np.array([0.02, 0.01]), 0.5
COVARIANCE = np.outer(DEVIATIONS, DEVIATIONS) * np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])
KNOWN = Market(returns=np.zeros((5, 2)), covariance=COVARIANCE, decay=0.94)
Z99 = 2.3263478740408408


def test_every_kind_of_scenario_by_hand() -> None:
    weights = np.array([0.4, 0.2])
    table = {row.scenario.name: row for row in stress_table(("A", "B"), weights, KNOWN, STRESS, AFTER)}
    assert list(table) == [scenario.name for scenario in SCENARIOS]
    assert table["crash"].gain == pytest.approx(0.4 * -0.5 + 0.2 * -0.2)
    assert table["crash"].parts.tolist() == pytest.approx([-0.2, -0.04])
    assert table["down"].gain == pytest.approx(-0.06)
    assert table["up"].gain == pytest.approx(0.06)
    assert table["tech"].gain == pytest.approx(-0.08)
    assert (table["steel"].gain, table["steel"].reason) == (None, "no instrument is of sector 'Steel'")
    deviation = np.sqrt(weights @ COVARIANCE @ weights)
    assert table["stormy"].gain == pytest.approx(-2.0 * Z99 * deviation)
    assert table["together"].gain == pytest.approx(-Z99 * (0.4 * 0.02 + 0.2 * 0.01))
    assert table["tenth"].gain == pytest.approx(-0.1)
    assert table["tenth"].distance == pytest.approx(0.1 / deviation)
    assert [table[name].kind for name in ("crash", "down", "stormy", "tenth")] == list(Kind)


def test_what_is_not_known_is_absent_with_a_reason() -> None:
    before = {row.scenario.name: row for row in stress_table(("A", "B"), np.ones(2), KNOWN, STRESS, CRASH.end_ns - 1)}
    assert before["crash"].gain is None
    assert "2008-10-10" in before["crash"].reason
    newcomer = {row.scenario.name: row for row in stress_table(("A", "C"), np.ones(2), KNOWN, STRESS, AFTER)}
    assert newcomer["crash"].gain is None
    assert newcomer["crash"].reason.startswith("C ")
    assert newcomer["down"].gain == pytest.approx(-0.2)
    young = replace(KNOWN, reason="A has fewer than 30 returns")
    table = {row.scenario.name: row for row in stress_table(("A", "B"), np.ones(2), young, STRESS, AFTER)}
    assert table["down"].gain == pytest.approx(-0.2)
    assert {table[name].reason for name in ("stormy", "together", "tenth")} == {young.reason}


def test_nothing_held_loses_nothing() -> None:
    none = Market(returns=np.empty((0, 0)), covariance=np.empty((0, 0)), decay=0.94)
    table = {row.scenario.name: row for row in stress_table((), np.empty(0), none, STRESS, AFTER)}
    assert [table[name].gain for name in ("crash", "down", "stormy")] == [0.0, 0.0, 0.0]
    assert table["tenth"].gain is None


def test_the_worst_counts_only_what_can_be_said() -> None:
    moves = STRESS.moves(("A", "C"), AFTER)
    assert moves.scenarios == ("crash", "down", "up", "tech")
    assert moves.worst(np.array([0.4, 0.0])) == ("crash", pytest.approx(0.2))
    assert moves.worst(np.array([0.4, 0.1])) == ("tech", pytest.approx(0.08))
    assert moves.worst(np.array([-0.4, 0.0])) == ("up", pytest.approx(0.04))
    unknown = Moves(scenarios=("crash",), returns=np.array([[np.nan]]))
    assert unknown.worst(np.array([0.1])) is None
    assert unknown.worst(np.array([0.0])) == ("crash", 0.0)


def test_a_limit_on_the_stressed_loss_cuts_the_proposal() -> None:
    limits = Limits(stressed_loss_bps=1000)
    moves = Moves(scenarios=("crash", "mild"), returns=np.array([[-0.5, 0.0], [-0.1, -0.1]]))
    now, aim = book(lots(0, 0), [100, 100]), lots(300, 100)  # 30% and 10%: loses 15% in the crash
    verdict = assess(now, aim, limits, history(2), int(TradingState.ACTIVE), moves)
    assert verdict.stress == ("crash", pytest.approx(0.15))
    assert verdict.outcome is Outcome.REDUCED
    assert [(use.limit, use.used_bps) for use in verdict.uses if use.violated] == [
        ("stressed_loss_bps", pytest.approx(1500.0))
    ]
    assert verdict.approved.tolist() == [200, 66]
    assert verdict.carried is not None
    assert verdict.carried.value_at_risk == 0.0
    free = assess(now, aim, replace(limits, stressed_loss_bps=None), history(2), int(TradingState.ACTIVE), moves)
    assert free.outcome is Outcome.APPROVED
    assert free.stress == verdict.stress
    unjudged = assess(now, aim, limits, history(2), int(TradingState.ACTIVE))
    assert unjudged.outcome is Outcome.APPROVED
    assert "stressed_loss_bps" not in {use.limit for use in unjudged.uses}


def test_a_return_over_a_stretch_needs_a_close_before_it() -> None:
    bars = [
        marketdata_pb2.Bar(instrument_id=name, ts_event_ns=ts, close_e9=close)
        for ts, name, close in ((1, "A", 50), (5, "A", 100), (10, "A", 90), (10, "B", 7), (20, "A", 80))
    ]
    assert windows.moves(bars, 10) == {"A": pytest.approx(-0.2)}
