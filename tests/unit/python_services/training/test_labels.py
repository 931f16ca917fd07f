"""Labels against loops that say what they mean."""

from __future__ import annotations

import numpy as np
import pytest

from python_services.training import labels

CLOSE = np.array([[100.0, 50.0], [110.0, 49.0], [99.0, np.nan], [121.0, 52.0], [120.0, 51.0]])


def test_a_forward_return_is_known_when_its_last_bar_closes():
    found = labels.forward_return(CLOSE, 2)
    assert found[0, 0] == pytest.approx(-0.01)
    assert found[1, 0] == pytest.approx(0.1)
    assert np.isnan(found[0, 1])  # no bar at the end of it
    assert np.isnan(found[-2:]).all()


def test_nothing_is_learned_of_a_range_shorter_than_the_horizon():
    assert np.isnan(labels.forward_return(CLOSE, 5)).all()
    assert np.isnan(labels.forward_variance(CLOSE, 5)).all()


def test_forward_variance_is_the_sum_of_squares_of_what_comes():
    found = labels.forward_variance(CLOSE, 2)
    steps = [CLOSE[t, 0] / CLOSE[t - 1, 0] - 1 for t in range(1, 5)]
    assert found[0, 0] == pytest.approx(steps[0] ** 2 + steps[1] ** 2)
    assert found[2, 0] == pytest.approx(steps[2] ** 2 + steps[3] ** 2)
    assert np.isnan(found[3, 0])
    assert np.isnan(found[0, 1])  # a gap inside the window


def test_a_label_never_depends_on_what_comes_after_its_horizon():
    rng = np.random.default_rng(3)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (60, 3)), axis=0))
    later = close.copy()
    later[46:] *= 1.7
    for label in (labels.forward_return, labels.forward_variance, labels.cross_sectional_rank, labels.triple_barrier):
        np.testing.assert_array_equal(label(close, 5)[:41], label(later, 5)[:41], label.__name__)
    np.testing.assert_array_equal(labels.trailing_variance(close, 5)[:46], labels.trailing_variance(later, 5)[:46])


def test_ranks_are_among_the_instruments_of_a_bar():
    close = np.array([[10.0, 10.0, 10.0], [11.0, 12.0, 11.0]])
    assert labels.cross_sectional_rank(close, 1)[0].tolist() == [0.25, 1.0, 0.25]


def test_the_first_barrier_that_is_met_counts():
    rng = np.random.default_rng(5)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (80, 2)), axis=0))
    width = np.sqrt(labels.trailing_variance(close, 5))
    found = labels.triple_barrier(close, 5)
    for t in range(labels.TRAILING, 75):
        for i in range(2):
            moves = [close[t + ahead, i] / close[t, i] - 1 for ahead in range(1, 6)]
            met = [np.sign(move) for move in moves if abs(move) >= width[t, i]]
            assert found[t, i] == (met[0] if met else np.sign(moves[-1]))
    assert np.isnan(found[: labels.TRAILING]).all()
    assert np.isnan(found[-5:]).all()


def test_volatility_says_nothing_of_a_direction():
    with pytest.raises(ValueError, match="says nothing of a direction"):
        labels.is_up("FORWARD_VOLATILITY", CLOSE, 2)
