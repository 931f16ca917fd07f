"""Verdicts: what passes, how far the rest is cut, and what a stricter state lets through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from execution_core.types import TradingState
from python_services.risk.config import Config, Limits
from python_services.risk.logic import Outcome, assess, scaled
from tests.unit.python_services.risk.books import book, history, lots

ACTIVE = int(TradingState.ACTIVE)
LIMITS = Limits(var_bps=10_000, order_bps=10_000)


def test_a_portfolio_within_limits_is_approved_as_it_is() -> None:
    verdict = assess(book(lots(0, 0), [100, 50]), lots(300, 600), LIMITS, history(2), ACTIVE)
    assert verdict.outcome is Outcome.APPROVED
    assert verdict.approved.tolist() == [300, 600]
    used = {use.limit: use.used_bps for use in verdict.uses}
    assert used["gross_exposure_bps"] == pytest.approx(6000.0)
    assert used["position_bps[S0]"] == pytest.approx(3000.0)
    assert used["sector_bps[Technology]"] == pytest.approx(6000.0)
    assert not any(use.violated for use in verdict.uses)


@pytest.mark.parametrize(
    ("limits", "targets", "broken", "approved"),
    [
        (LIMITS, (400, 0), "position_bps[S0]", (350, 0)),
        (replace(LIMITS, gross_exposure_bps=4000, net_exposure_bps=4000), (300, 200), "gross_exposure_bps", (240, 160)),
        (replace(LIMITS, sector_bps=2000, position_bps=2000), (250, 0), "sector_bps[Technology]", (200, 0)),
        (replace(LIMITS, order_bps=1000), (200, 50), "order_bps[S0]", (100, 25)),
        (LIMITS, (100, -100), "short_allowed[S1]", (0, 0)),
        (replace(LIMITS, restricted_instrument_ids=("S1",)), (100, 100), "restricted[S1]", (0, 0)),
        (replace(LIMITS, restricted_instrument_ids=("S1",)), (0, 0), "", (0, 0)),
    ],
)
def test_changes_are_cut_to_what_the_tightest_limit_allows(
    limits: Limits, targets: tuple[int, int], broken: str, approved: tuple[int, int]
) -> None:
    verdict = assess(book(lots(0, 0), [100, 100]), lots(*targets), limits, history(2), ACTIVE)
    names = [use.limit for use in verdict.uses if use.violated]
    if not broken:
        assert verdict.outcome is Outcome.APPROVED
        return
    assert verdict.outcome is Outcome.REDUCED
    assert broken in names
    np.testing.assert_allclose(verdict.approved, approved, atol=1)


def test_value_at_risk_cuts_too() -> None:
    tight = replace(LIMITS, var_bps=50)
    verdict = assess(book(lots(0), [100]), lots(350), tight, history(1, volatility=0.02), ACTIVE)
    assert verdict.outcome is Outcome.REDUCED
    assert [use.limit for use in verdict.uses if use.violated] == ["var_bps"]
    assert verdict.risk is not None
    # Risk is linear in the only position.
    assert verdict.approved[0] / 350 == pytest.approx(0.005 / verdict.risk.value_at_risk, abs=1 / 350)


def test_a_limit_that_prices_broke_blocks_only_what_makes_it_worse() -> None:
    held = book(lots(500, 100), [100, 100])  # S0 is at 50%, the limit is 35%
    less = assess(held, lots(400, 100), LIMITS, history(2), ACTIVE)
    assert less.outcome is Outcome.APPROVED
    more = assess(held, lots(510, 100), LIMITS, history(2), ACTIVE)
    assert more.outcome is Outcome.REDUCED
    assert more.approved.tolist() == [500, 100]


def test_open_orders_count_as_if_they_filled() -> None:
    working = book(lots(0, 0), [100, 100], buys=lots(300, 0))
    verdict = assess(working, lots(100, 0), LIMITS, history(2), ACTIVE)
    assert verdict.outcome is Outcome.REDUCED
    assert verdict.approved.tolist() == [50, 0]


@pytest.mark.parametrize(
    ("state", "approved"),
    [
        (TradingState.REDUCE_ONLY, [50, -20, 0]),
        (TradingState.CANCEL_ALL, [50, -20, 0]),
        (TradingState.FLATTEN, [100, -40, 0]),  # execution closes everything by itself
        (TradingState.HALTED, [100, -40, 0]),
    ],
)
def test_a_stricter_state_rejects_and_lets_reductions_through(state: TradingState, approved: list[int]) -> None:
    held = book(lots(100, -40, 0), [100, 100, 100])
    verdict = assess(held, lots(50, -20, 30), LIMITS, history(3), int(state))
    assert (verdict.outcome, verdict.scale_millionths) == (Outcome.REJECTED, 0)
    assert verdict.approved.tolist() == approved


def test_a_reduction_never_goes_through_zero() -> None:
    verdict = assess(book(lots(100), [100]), lots(-50), LIMITS, history(1), int(TradingState.REDUCE_ONLY))
    assert verdict.approved.tolist() == [0]


def test_pure_reductions_pass_in_reduce_only() -> None:
    verdict = assess(book(lots(100), [100]), lots(40), LIMITS, history(1), int(TradingState.REDUCE_ONLY))
    assert verdict.outcome is Outcome.APPROVED


def test_unknown_risk_is_absent() -> None:
    short = history(2)
    partly = replace(short, columns=short.columns[:1], returns=short.returns[:, :1].copy())
    verdict = assess(book(lots(0, 0), [100, 100]), lots(10, 10), LIMITS, partly, ACTIVE)
    assert verdict.risk is None
    assert "var_bps" not in [use.limit for use in verdict.uses]


def test_changes_scale_in_exact_integers() -> None:
    huge = 4_000_000_000_000_000_000
    assert scaled(lots(0, 0, 10), lots(7, -7, huge), 500_000).tolist() == [3, -3, 10 + (huge - 10) // 2]
    assert scaled(lots(5), lots(105), 290_000).tolist() == [34]


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="net_exposure_bps 10000 is above gross_exposure_bps 9000"):
        Config(limits=Limits(gross_exposure_bps=9000))
