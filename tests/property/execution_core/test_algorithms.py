"""What holds for every schedule and every set of fills."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_core.algorithms.almgren_chriss import ImpactModel
from execution_core.algorithms.schedule import due_lots, implementation_shortfall, pov_due_lots, twap, vwap
from execution_core.algorithms.tca import analyse
from execution_core.types import TCA_ORDER, Side

EXAMPLES = int(os.environ.get("ALPHAMESH_PROPERTY_EXAMPLES", "100"))


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, int, Any]:
    lots = draw(st.integers(1, 10**9))
    multiple = draw(st.sampled_from([1, 1, min(100, lots)]))
    slices = draw(st.integers(1, 40))
    start = draw(st.integers(0, 10**18))
    end = start + draw(st.integers(slices, 10**14))
    kind = draw(st.sampled_from(["twap", "vwap", "shortfall"]))
    if kind == "twap":
        return lots, multiple, twap(lots, start, end, slices, multiple=multiple)
    if kind == "vwap":
        weights = draw(st.lists(st.integers(0, 10**15), min_size=slices, max_size=slices).filter(any))
        return lots, multiple, vwap(lots, start, end, weights, multiple=multiple)
    model = ImpactModel(
        volatility=draw(st.floats(0.01, 10)),
        permanent=0.0,
        temporary=draw(st.floats(1e-9, 1e-3)),
        half_spread=0.01,
    )
    aversion = draw(st.floats(0, 1e-3))
    return lots, multiple, implementation_shortfall(
        lots, start, end, slices, model, horizon=draw(st.floats(0.01, 10)), risk_aversion=aversion, multiple=multiple
    )  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None)
@given(plans())
def test_children_sum_to_the_parent_and_are_round(plan_of: tuple[int, int, Any]) -> None:
    lots, multiple, plan = plan_of
    assert plan["lots"].sum() == lots
    assert (plan["lots"] >= 0).all()
    assert (plan["lots"][:-1] % multiple == 0).all()
    assert (np.diff(plan["start_ns"]) > 0).all()


@settings(max_examples=EXAMPLES, deadline=None)
@given(plans(), st.data())
def test_any_clock_and_any_losses_of_children_complete_the_parent(plan_of: Any, data: st.DataObject) -> None:
    lots, _, plan = plan_of
    first, last = int(plan["start_ns"][0]), int(plan["start_ns"][-1])
    clock = sorted(data.draw(st.lists(st.integers(first - 10, last + 10), max_size=8)))
    filled = 0
    for now in clock:
        child = due_lots(plan, now, filled)
        assert 0 <= child <= lots - filled
        filled += data.draw(st.integers(0, child))  # the rest is canceled and comes back
    assert filled + due_lots(plan, last, filled) == lots


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.lists(st.integers(0, 10**6), max_size=20))
def test_participation_never_exceeds_its_rate(lots: int, rate_ppm: int, volumes: list[int]) -> None:
    committed = market = 0
    for volume in volumes:
        market += volume
        committed += pov_due_lots(lots, committed, market, rate_ppm)
        assert committed * 1_000_000 <= rate_ppm * market
        assert committed <= lots
    assert committed == min(lots, market * rate_ppm // 1_000_000)


PRICE = st.integers(-(10**6), 10**6)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(Side), PRICE, PRICE, PRICE, st.lists(st.tuples(PRICE, st.integers(1, 100)), max_size=6),
       st.integers(1, 50), st.integers(1, 1000))  # fmt: skip
def test_shortfall_is_paper_minus_real(
    side: Side, decision: int, arrival: int, end: int, fills: list[tuple[int, int]], unfilled: int, value: int
) -> None:
    order = np.zeros(1, TCA_ORDER)
    lots = sum(size for _, size in fills) + unfilled
    order[0] = (lots, decision, arrival, end, 0, value, side)
    price = np.array([p for p, _ in fills], np.int64)
    size = np.array([s for _, s in fills], np.int64)
    report = analyse(order, np.zeros(len(fills), np.int64), price, size, np.full(len(fills), 7))[0]
    sign = 1 if side == Side.BUY else -1
    paper = sign * lots * (end - decision) * value
    real = sum(sign * s * (end - p) * value for p, s in fills) - 7 * len(fills)
    assert report["shortfall_nano"] == paper - real
