"""What an indicator refuses, and what it must not do to numbers."""

from __future__ import annotations

import numpy as np
import pytest

from execution_core import indicators
from execution_core.errors import InvalidArrayError, InvalidValueError

PANEL = np.linspace(1.0, 2.0, 60).reshape(30, 2)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (PANEL.astype(np.float32), InvalidArrayError),
        (PANEL.tolist(), InvalidArrayError),
        (PANEL[:, 0], InvalidArrayError),
        (np.empty((5, 0)), InvalidArrayError),
        (np.asfortranarray(PANEL), InvalidArrayError),
        (np.where(PANEL[3, 1] == PANEL, np.inf, PANEL), InvalidValueError),
        (np.where(PANEL[3, 1] == PANEL, -np.inf, PANEL), InvalidValueError),
    ],
)
def test_bad_panels_are_refused_by_name(bad: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^x:"):
        indicators.sma(bad, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "3"])
def test_bad_windows_are_refused(n: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^n:"):
        indicators.ema(PANEL, n)  # type: ignore[arg-type]


def test_prices_at_or_below_zero_and_negative_volume_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"^low:"):
        indicators.atr(PANEL, PANEL - 1.0, PANEL, 3)
    with pytest.raises(InvalidValueError, match=r"^volume:"):
        indicators.obv(PANEL, -PANEL)
    with pytest.raises(InvalidArrayError, match=r"^close:"):
        indicators.adx(PANEL, PANEL, PANEL[:-1].copy(), 3)


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"^fast:"):
        indicators.macd(PANEL, 9, 9)
    with pytest.raises(InvalidValueError, match=r"^ddof:"):
        indicators.stdev(PANEL, 5, ddof=2)
    with pytest.raises(InvalidValueError, match=r"^decay:"):
        indicators.ewma_volatility(PANEL, 1.0)
    with pytest.raises(InvalidValueError, match=r"^width:"):
        indicators.bollinger(PANEL, 5, float("nan"))


def test_out_is_written_and_returned_and_an_unfit_one_is_refused() -> None:
    out = np.empty_like(PANEL)
    assert indicators.sma(PANEL, 3, out=out) is out
    np.testing.assert_array_equal(out, indicators.sma(PANEL, 3))
    with pytest.raises(InvalidArrayError, match=r"^out:"):
        indicators.sma(PANEL, 3, out=PANEL)
    with pytest.raises(InvalidArrayError, match=r"^out:"):
        indicators.sma(PANEL, 3, out=np.empty((29, 2)))


def test_several_outputs_are_written_and_must_not_overlap() -> None:
    for answer in (
        indicators.macd(PANEL, 2, 4, 3),
        indicators.bollinger(PANEL, 4),
        indicators.slope(PANEL, 4),
        indicators.stochastic(PANEL, PANEL * 0.9, PANEL, 4),
        indicators.adx(PANEL, PANEL * 0.9, PANEL, 4),
    ):
        assert not np.may_share_memory(answer[0], answer[1])
    out = indicators.Slope(np.empty_like(PANEL), np.empty_like(PANEL))
    assert indicators.slope(PANEL, 4, out=out) is out
    np.testing.assert_array_equal(out.slope, indicators.slope(PANEL, 4).slope)
    with pytest.raises(InvalidArrayError, match="overlap"):
        indicators.slope(PANEL, 4, out=indicators.Slope(out.slope, out.slope))


def test_inputs_are_never_changed() -> None:
    panel = PANEL.copy()
    panel.setflags(write=False)
    indicators.zscore(panel, 5)
    indicators.bollinger(panel, 5)
    indicators.stochastic(panel, panel, panel, 5)
    indicators.yang_zhang(panel, panel, panel, panel, 5)


def test_a_constant_price_has_no_deviation_no_score_and_no_rsi() -> None:
    flat = np.full((40, 3), 0.1)
    assert (indicators.stdev(flat, 7)[6:] == 0.0).all()
    assert np.isnan(indicators.zscore(flat, 7)).all()
    assert np.isnan(indicators.rsi(flat, 5)).all()
    assert np.isnan(indicators.stochastic(flat, flat, flat, 5).k).all()
    assert (indicators.adx(flat, flat, flat, 5).adx[9:] == 0.0).all()
    assert indicators.slope(flat, 5).slope[4:] == pytest.approx(0.0, abs=1e-15)


def test_a_huge_value_leaves_no_trace_once_it_has_left_the_window() -> None:
    """A running sum that adds and subtracts would be off by 1e-4 here for ever."""
    quiet = np.sin(np.arange(100.0))[:, None] + 2.0
    loud = quiet.copy()
    loud[10] = 1e12
    for indicator in (indicators.sma, indicators.wma, indicators.stdev, indicators.zscore):
        before, after = indicator(quiet, 8), indicator(loud, 8)
        np.testing.assert_array_equal(before[18:], after[18:])


def test_a_straight_line_has_its_slope_and_no_bound_on_its_t_statistic() -> None:
    line = np.arange(30.0)[:, None] * np.array([[2.0, -0.5]]) + 7.0
    answer = indicators.slope(line, 6)
    np.testing.assert_allclose(answer.slope[5:], np.broadcast_to([2.0, -0.5], (25, 2)), rtol=1e-13)
    assert np.isnan(answer.t_stat).all()


def test_an_index_that_only_rises_stands_at_exactly_100() -> None:
    """100 a / a is 100.00000000000001 for this rise; the index must not leave its range."""
    rise = np.array([[1.0], [1.0], [671089.981]])
    assert indicators.rsi(rise, 2)[2, 0] == 100.0


def test_riskmetrics_worked_recursion() -> None:
    """v = 0.94 v + 0.06 r^2 by hand, seeded with two returns."""
    returns = np.array([[0.01], [0.03], [-0.02], [0.00]])
    seed = (0.01**2 + 0.03**2) / 2
    third = 0.94 * seed + 0.06 * 0.02**2
    answer = indicators.ewma_volatility(returns, 0.94, 2)[:, 0]
    np.testing.assert_allclose(answer[1:] ** 2, [seed, third, 0.94 * third], rtol=1e-12)
    assert np.isnan(answer[0])
