"""Schedules computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from execution_core.algorithms.almgren_chriss import ImpactModel
from execution_core.algorithms.schedule import (
    due_lots,
    iceberg_due_lots,
    implementation_shortfall,
    pov_due_lots,
    slice_starts,
    twap,
    volume_profile,
    vwap,
)
from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.types import SCHEDULE_SLICE

PAPER = ImpactModel(volatility=0.95, permanent=2.5e-7, temporary=2.5e-6, half_spread=0.0625)


def test_twap_by_hand() -> None:
    plan = twap(10, 100, 200, 4)
    assert plan["start_ns"].tolist() == [100, 125, 150, 175]
    assert plan["lots"].tolist() == [2, 3, 2, 3]  # cumulative 2.5, 5, 7.5, 10 rounded down


def test_round_lots_leave_the_odd_lots_to_the_last_child() -> None:
    assert twap(1_037, 0, 4, 4, multiple=100)["lots"].tolist() == [200, 300, 200, 337]


def test_more_slices_than_lots() -> None:
    assert twap(2, 0, 5, 5)["lots"].tolist() == [0, 0, 1, 0, 1]


def test_vwap_by_hand() -> None:
    # Cumulative shares 50 %, 60 %, 60 %, 100 % of 101: 50.5, 60.6, 60.6, 101.
    assert vwap(101, 0, 4, [5, 1, 0, 4])["lots"].tolist() == [50, 10, 0, 41]


def test_volume_profile_gives_each_day_the_same_say() -> None:
    profile = volume_profile([[1, 1, 2], [1_000, 3_000, 0], [0, 0, 0]])
    assert profile.tolist() == [250_000, 500_000, 250_000]


def test_implementation_shortfall_of_the_papers_example() -> None:
    # x_k = X sinh(kappa (5 - k)) / sinh(5 kappa), kappa = arcosh(1.19).
    plan = implementation_shortfall(1_000_000, 0, 5, 5, PAPER, horizon=5.0, risk_aversion=1e-6)
    kappa = np.arccosh(1.19)
    left = 1e6 * np.sinh(kappa * np.arange(4, -1, -1)) / np.sinh(5 * kappa)
    assert plan["lots"].cumsum().tolist() == (1_000_000 - np.rint(left)).astype(int).tolist()
    assert (np.diff(plan["lots"]) < 0).all()


def test_without_risk_aversion_it_is_twap() -> None:
    plan = implementation_shortfall(1_000, 0, 5, 5, PAPER, horizon=5.0, risk_aversion=0.0)
    assert plan["lots"].tolist() == [200] * 5


def test_due_lots_follow_the_clock_and_catch_up() -> None:
    plan = twap(10, 100, 200, 4)
    assert [due_lots(plan, now, 0) for now in (99, 100, 124, 125, 175, 10_000)] == [0, 2, 2, 5, 10, 10]
    assert due_lots(plan, 160, 5) == 2
    assert due_lots(plan, 160, 9) == 0


def test_percentage_of_volume_by_hand() -> None:
    assert pov_due_lots(1_000, 0, 999, 100_000) == 99
    assert pov_due_lots(1_000, 90, 1_099, 100_000) == 19
    assert pov_due_lots(1_000, 90, 1_099, 100_000, multiple=10) == 10
    assert pov_due_lots(1_000, 950, 10**12, 100_000, multiple=100) == 50  # completes the parent
    assert pov_due_lots(1_000, 200, 1_000, 100_000) == 0


def test_iceberg_shows_one_peak_at_a_time() -> None:
    assert iceberg_due_lots(100, 0, 0, 30) == 30
    assert iceberg_due_lots(100, 10, 20, 30) == 0
    assert iceberg_due_lots(100, 90, 0, 30) == 10
    assert iceberg_due_lots(100, 100, 0, 30) == 0


def test_bad_input_is_refused() -> None:
    for call in (
        lambda: twap(0, 0, 1, 1),
        lambda: twap(1, 5, 5, 1),
        lambda: twap(1, 0, 2, 3),
        lambda: twap(5, 0, 2, 1, multiple=6),
        lambda: vwap(5, 0, 9, [0, 0]),
        lambda: vwap(5, 0, 9, [1, -1]),
        lambda: volume_profile([[0, 0]]),
        lambda: volume_profile([[-1, 2]]),
        lambda: due_lots(twap(1, 0, 1, 1), 0, -1),
        lambda: pov_due_lots(5, 0, 1, 0),
        lambda: pov_due_lots(5, 6, 1, 1),
        lambda: iceberg_due_lots(5, 3, 3, 1),
        lambda: iceberg_due_lots(5, 0, 0, 0),
    ):
        with pytest.raises(InvalidValueError):
            call()
    for call in (
        lambda: vwap(5, 0, 9, [0.5, 0.5]),
        lambda: volume_profile([1, 2]),
        lambda: due_lots(np.zeros(2, np.int64), 0, 0),
    ):
        with pytest.raises(InvalidArrayError):
            call()
    assert slice_starts(0, 10, 3).tolist() == [0, 3, 6]
    assert SCHEDULE_SLICE.itemsize == 16
