"""Stress scenarios worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk import stress

BOOK = np.array([100.0, -50.0])
RETURNS = np.array([[0.10, 0.0], [-0.20, 0.1], [0.05, 0.0], [-0.30, -0.1], [0.0, 0.2]])


def test_replay_compounds_each_asset() -> None:
    episode = stress.replay(BOOK, RETURNS, first=0, last=1)
    np.testing.assert_allclose(episode.by_asset, [100 * (1.1 * 0.8 - 1), -50 * 0.1])
    assert episode.gain == pytest.approx(-12.0 - 5.0)


def test_worst_episodes_are_disjoint_and_in_order() -> None:
    found = stress.worst_episodes(BOOK, RETURNS, bars=2, count=5)
    plain = sorted((stress.replay(BOOK, RETURNS, first=t, last=t + 1).gain, t) for t in range(4))
    assert (found[0].gain, found[0].first) == pytest.approx(plain[0])
    assert [episode.gain for episode in found] == sorted(episode.gain for episode in found)
    bars = [bar for episode in found for bar in range(episode.first, episode.last + 1)]
    assert len(bars) == len(set(bars))


def test_a_shock_moves_others_only_through_the_covariance() -> None:
    alone = stress.shock(BOOK, np.array([0]), np.array([-0.1]))
    np.testing.assert_allclose(alone, [-10.0, 0.0])
    covariance = np.array([[0.04, 0.02], [0.02, 0.09]])
    together = stress.shock(BOOK, np.array([0]), np.array([-0.1]), covariance)
    np.testing.assert_allclose(together, [-10.0, -50 * (-0.1 * 0.02 / 0.04)])


def test_reverse_stress_loses_the_amount_and_nothing_likelier_does() -> None:
    covariance = np.array([[0.04, 0.02], [0.02, 0.09]])
    answer = stress.reverse(BOOK, covariance, 30.0)
    assert BOOK @ answer.returns == pytest.approx(-30.0)
    inverse = np.linalg.inv(covariance)
    assert answer.returns @ inverse @ answer.returns == pytest.approx(answer.distance**2)
    assert answer.likelihood == pytest.approx(stats.chi2.sf(answer.distance**2, 2))
    along = np.array([BOOK[1], -BOOK[0]])  # stays on the plane of the same loss
    for step in (-1e-3, 1e-3):
        other = answer.returns + step * along
        assert BOOK @ other == pytest.approx(-30.0)
        assert other @ inverse @ other > answer.distance**2


def test_bad_scenarios_are_refused() -> None:
    covariance = np.array([[0.04, 0.02], [0.02, 0.09]])
    with pytest.raises(InvalidValueError, match=r"^first"):
        stress.replay(BOOK, RETURNS, first=3, last=9)
    with pytest.raises(InvalidValueError, match=r"^bars"):
        stress.worst_episodes(BOOK, RETURNS, bars=9)
    for shocked in (np.array([2]), np.array([0, 0])):
        with pytest.raises(InvalidValueError, match=r"^shocked"):
            stress.shock(BOOK, shocked, np.zeros(shocked.size))
    with pytest.raises(InvalidArrayError, match=r"^shocked"):
        stress.shock(BOOK, np.array([0.5]), np.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(InvalidArrayError, match=r"^moves"):
        stress.shock(BOOK, np.array([0]), np.zeros(2))
    with pytest.raises(InvalidValueError, match="determine each other"):
        stress.shock(BOOK, np.array([0, 1]), np.zeros(2), np.ones((2, 2)))
    for loss in (0.0, -1.0, np.inf):
        with pytest.raises(InvalidValueError, match=r"^loss"):
            stress.reverse(BOOK, covariance, loss)
    with pytest.raises(InvalidValueError, match=r"^exposures"):
        stress.reverse(np.zeros(2), covariance, 1.0)
