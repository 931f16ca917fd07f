"""Whatever is held and forecast: a proposal never overspends, overtrades or exceeds a weight it was not at."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from python_services.portfolio import logic
from tests.unit.python_services.portfolio.books import ESTIMATES, NANO, book, closes, mandate

PRICES = [100.0, 50.0, 25.5, 300.25]
HISTORY = closes(4)


@settings(max_examples=150, deadline=None)
@given(
    held=st.lists(st.integers(0, 1500), min_size=4, max_size=4),
    rows=st.lists(st.integers(0, 3), unique=True),
    expected=st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=4),
    method=st.sampled_from(["mean_variance", "risk_parity"]),
    maximum_weight=st.floats(0.05, 1.0),
    maximum_gross=st.floats(0.1, 1.0),
    maximum_turnover=st.floats(0.01, 1.0),
    cost=st.floats(0.0, 0.02),
    minimum=st.integers(0, 5000),
)
def test_a_proposal_keeps_its_mandate(
    held: list[int],
    rows: list[int],
    expected: list[float],
    method: str,
    maximum_weight: float,
    maximum_gross: float,
    maximum_turnover: float,
    cost: float,
    minimum: int,
) -> None:
    now = book(held, PRICES, equity=1_000_000)
    given = mandate(
        method=method,
        maximum_weight=maximum_weight,
        maximum_gross=maximum_gross,
        maximum_turnover=maximum_turnover,
        cost_per_notional=cost,
        minimum_trade_e9=minimum * NANO,
    )
    view = logic.Forecast(
        rows=np.array(rows, dtype=np.intp),
        expected=np.array(expected[: len(rows)]),
        confidence=np.ones(len(rows)),
        horizon=5,
    )
    plan = logic.plan(HISTORY, now, view, given, ESTIMATES)
    trades = np.abs(plan.lots - now.held) * now.lot_values
    costs = int(np.ceil(trades * cost).sum())
    cash = now.equity - int((plan.lots * now.lot_values).sum()) - costs
    held_cash = now.equity - int((now.held * now.lot_values).sum())
    assert cash >= min(held_cash, 0)
    assert (plan.lots >= 0).all()
    assert plan.turnover <= maximum_turnover + 1e-9
    assert ((trades == 0) | (trades >= minimum * NANO)).all()
    untouched = np.setdiff1d(np.arange(4), rows)
    assert (plan.lots[untouched] == now.held[untouched]).all()
    assert (plan.weights <= np.maximum(maximum_weight, now.weights) + 1e-12).all()
    assert plan.weights.sum() <= max(maximum_gross, now.weights.sum()) + 1e-12
