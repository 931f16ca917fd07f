"""Whatever is held: parts sum to the whole, and a limit on the stressed loss holds after the cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_core.risk.covariance import ewma
from execution_core.types import TradingState
from python_services.risk.analysis import Market, stress_table, tails
from python_services.risk.config import Limits, Report
from python_services.risk.logic import Measures, assess
from python_services.risk.scenarios import Covariance, Hypothetical, Reverse, Scenario
from python_services.risk.stress import Moves, Stress
from tests.unit.python_services.risk.books import book, history

NAMES = ("A", "B", "C")
STRESS = Stress(
    [
        Scenario(name="down", description="", kind=Hypothetical(all=-0.1, instruments={"B": 0.05})),
        Scenario(name="stormy", description="", kind=Covariance(volatility_factor=3.0, correlation_to_one=0.5)),
        Scenario(name="tenth", description="", kind=Reverse(loss=0.1)),
    ],
    {},
    dict.fromkeys(NAMES, "S"),
)
weights = st.lists(st.floats(-2.0, 2.0).filter(lambda w: abs(w) > 1e-6), min_size=3, max_size=3).map(np.array)


@settings(max_examples=100, deadline=None)
@given(
    held=weights,
    seed=st.integers(0, 2**32 - 1),
    bars=st.integers(40, 200),
    historical=st.sampled_from(["plain", "filtered"]),
    degrees=st.sampled_from([None, 3.0, 8.0]),
)
def test_contributions_sum_to_the_total(
    held: np.ndarray, seed: int, bars: int, historical: str, degrees: float | None
) -> None:
    returns = np.random.default_rng(seed).standard_t(4.0, (bars, 3)) * [0.02, 0.01, 0.03]
    known = Market(returns=returns, covariance=ewma(returns), decay=0.94)
    how = Report(levels=(0.9, 0.99), historical=historical, degrees=degrees, draws=2_000)
    for tail in tails(held, known, how):
        assert tail.var is not None
        assert tail.es is not None
        assert tail.component.sum() == pytest.approx(tail.var, rel=1e-9, abs=1e-12)
        assert tail.component_es.sum() == pytest.approx(tail.es, rel=1e-9, abs=1e-12)
        assert (held * tail.marginal).tolist() == pytest.approx(tail.component.tolist(), rel=1e-9, abs=1e-12)
        assert tail.es >= tail.var - 1e-12
    for row in stress_table(NAMES, held, known, STRESS, 0):
        assert row.gain is not None
        assert row.parts.sum() == pytest.approx(row.gain, rel=1e-9, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    held=st.lists(st.integers(-300, 300), min_size=3, max_size=3).map(np.array),
    targets=st.lists(st.integers(-400, 400), min_size=3, max_size=3).map(np.array),
    shocks=st.lists(st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3), min_size=1, max_size=4),
    limit=st.integers(100, 3000),
)
def test_what_is_approved_keeps_the_stressed_loss(
    held: np.ndarray, targets: np.ndarray, shocks: list[list[float]], limit: int
) -> None:
    moves = Moves(scenarios=tuple(f"S{i}" for i in range(len(shocks))), returns=np.array(shocks))
    wide = dict.fromkeys(("gross_exposure_bps", "net_exposure_bps", "sector_bps", "position_bps"), 50000)
    limits = Limits(**wide, order_bps=50_000, var_bps=10_000, short_allowed=True, stressed_loss_bps=limit)
    now = book(held, [100, 50, 80])
    verdict = assess(now, targets, limits, history(3), int(TradingState.ACTIVE), moves)
    measures = Measures(now, limits, history(3), moves)
    losses = [measures.stress(lots) for lots in (held, verdict.approved)]
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[1][1] <= max(limit / 10_000, losses[0][1]) + 1e-6
