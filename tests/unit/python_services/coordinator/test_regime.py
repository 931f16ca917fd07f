"""The market's regime: NumPy's filter against hmmlearn, and when nothing is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_services.coordinator import regime
from python_services.training.recipes import _market_regime as recipe

MODEL = regime.load()


def walk(bars: int, instruments: int, seed: int, volatility: float = 0.02) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 100 * np.exp(np.cumsum(rng.normal(0, volatility, (bars, instruments)), axis=0))


@pytest.mark.parametrize("seed", range(5))
def test_the_filter_gives_what_hmmlearn_gives_at_the_last_row(seed: int) -> None:
    from hmmlearn.hmm import GaussianHMM

    rows = regime.observations(walk(126, 4, seed, 0.01 + 0.006 * seed), MODEL.volatility_bars)
    reference = GaussianHMM(len(MODEL.labels), covariance_type="full", init_params="", params="")
    reference.startprob_, reference.transmat_ = MODEL.start, MODEL.transition
    reference.means_, reference.covars_ = MODEL.mean, MODEL.covariance
    expected = reference.predict_proba((rows - MODEL.centre) / MODEL.scale)[-1]
    np.testing.assert_allclose(regime.filtered(MODEL, rows), expected, atol=1e-9)


def test_calm_and_turbulent_markets_are_told_apart() -> None:
    calm, wild = regime.tell(walk(126, 3, 1, 0.008), MODEL), regime.tell(walk(126, 3, 1, 0.06), MODEL)
    assert calm is not None
    assert wild is not None
    assert (calm.label, wild.label) == ("CALM", "TURBULENT")
    assert sum(calm.probability) == pytest.approx(1.0)


def test_it_abstains_from_short_windows_and_from_gaps_but_not_from_who_is_not_listed_yet() -> None:
    close = walk(126, 3, 2)
    assert regime.tell(close[-(MODEL.minimum_bars - 1) :], MODEL) is None
    unlisted = np.column_stack((close, np.full(126, np.nan)))
    assert regime.tell(unlisted, MODEL) == regime.tell(close, MODEL)
    gap = close.copy()
    gap[50, 1] = np.nan
    assert regime.tell(gap, MODEL) is None
    assert regime.tell(np.full((126, 2), np.nan), MODEL) is None


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(80, 125))
def test_no_later_bar_changes_what_is_said_of_an_earlier_one(seed: int, cut: int) -> None:
    close = walk(126, 3, seed)
    other = close.copy()
    other[cut:] *= 3.0
    assert regime.tell(close[:cut], MODEL) == regime.tell(other[:cut], MODEL)


def test_training_ends_before_2009_and_both_sides_see_the_same() -> None:
    days, close = recipe.closes()
    assert days[-1] < "2009-01-01"
    np.testing.assert_array_equal(recipe.observations(close), regime.observations(close, recipe.VOLATILITY_BARS))
    rows = regime.observations(close, MODEL.volatility_bars)
    np.testing.assert_allclose(rows.mean(axis=0), MODEL.centre)
    np.testing.assert_allclose(rows.std(axis=0), MODEL.scale)
    assert (np.diff(MODEL.mean[:, 1]) > 0).all(), "labels are in the order of volatility"
