"""Whatever is proposed: what risk lets through keeps every limit, and nothing larger would."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_core.types import TradingState
from python_services.risk.config import Limits
from python_services.risk.logic import SCALE, Measures, Outcome, assess, scaled
from tests.unit.python_services.risk.books import book, history

HISTORY = history(4, volatility=0.02)
quantities = st.lists(st.integers(-400, 900), min_size=4, max_size=4)
limits = st.builds(
    Limits,
    gross_exposure_bps=st.integers(8000, 20_000),
    net_exposure_bps=st.integers(2000, 8000),
    sector_bps=st.integers(3000, 8000),
    position_bps=st.integers(500, 3000),
    order_bps=st.integers(500, 9000),
    var_bps=st.integers(50, 600),
    short_allowed=st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(held=quantities, targets=quantities, rules=limits)
def test_what_is_approved_is_no_worse_than_its_limits(held: list[int], targets: list[int], rules: Limits) -> None:
    now = book(np.array(held), [90, 40, 25, 60], sectors=("A", "A", "B", "C"))
    aim = np.array(targets)
    verdict = assess(now, aim, rules, HISTORY, int(TradingState.ACTIVE))
    measures = Measures(now, rules, HISTORY)
    allowed = np.maximum(measures.limits, measures.uses(now.lots)[0]) + 1e-4
    assert (measures.uses(verdict.approved)[0] <= allowed).all()
    # Never beyond what was proposed, never the other way.
    assert (np.abs(verdict.approved - now.lots) <= np.abs(aim - now.lots)).all()
    assert ((verdict.approved - now.lots) * (aim - now.lots) >= 0).all()
    assert (verdict.outcome is Outcome.APPROVED) == (verdict.scale_millionths == SCALE)
    # Cash is never asked for by a cut: the same scale holds for sells and buys, cut to whole lots.
    assert (verdict.approved == scaled(now.lots, aim, verdict.scale_millionths)).all()


@settings(max_examples=100, deadline=None)
@given(targets=st.lists(st.integers(1, 900), min_size=4, max_size=4), rules=limits)
def test_the_cut_is_the_smallest_that_works(targets: list[int], rules: Limits) -> None:
    now = book(np.zeros(4, dtype=np.int64), [90, 40, 25, 60], sectors=("A", "A", "B", "C"))
    aim = np.array(targets)
    verdict = assess(now, aim, rules, HISTORY, int(TradingState.ACTIVE))
    if verdict.outcome is Outcome.APPROVED:
        return
    measures = Measures(now, rules, HISTORY)
    larger = scaled(now.lots, aim, verdict.scale_millionths + 1)
    assert (measures.uses(larger)[0] > np.maximum(measures.limits, 0.0)).any()
