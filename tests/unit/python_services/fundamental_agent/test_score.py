"""The statistic against the peers is the one it claims to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from python_services.fundamental_agent.score import against_peers, composite
from python_services.fundamental_agent.view import Unable
from python_services.kit.agents import Floats, Mask

NOBODY: Mask = np.zeros(0, dtype=np.bool_)


def z_of(values: Floats, usable: Mask | None = None) -> Floats:
    mask = np.ones(len(values), dtype=np.bool_) if usable is None else usable
    return against_peers(values, mask, {})


@settings(deadline=None)
@given(st.integers(3, 40), st.integers(0, 2**32))
def test_it_is_a_t_test_of_one_against_the_others(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, count)
    expected = []
    for i in range(count):
        others = np.delete(values, i)
        t = (values[i] - others.mean()) / (others.std(ddof=1) * np.sqrt(1 + 1 / len(others)))
        expected.append(stats.norm.isf(stats.t.sf(abs(t), len(others) - 1)) * np.sign(t))
    assert z_of(values) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_it_is_standard_normal_when_all_are_alike() -> None:
    random = np.random.default_rng(5)
    for count in (3, 5, 50):
        found = np.array([z_of(random.normal(3.0, 2.0, count))[0] for _ in range(4_000)])
        assert stats.kstest(found, "norm").pvalue > 0.001, count


def test_the_same_gap_counts_for_less_among_few() -> None:
    few, many = np.array([0.1, -0.1, 0.5]), np.array([0.1, -0.1] * 50 + [0.5])
    assert 0.0 < z_of(few)[-1] < z_of(many)[-1]


def test_too_few_peers_are_said_to_be() -> None:
    unable: Unable = {}
    found = against_peers(np.array([1.0, 2.0, 9.0]), np.array([True, True, False]), unable)
    assert np.isnan(found).all()
    assert set(unable) == {0, 1}
    assert "1 other companies to compare with, 2 are needed" in unable[0][1]


def test_unusable_companies_are_no_peers() -> None:
    values = np.array([1.0, 1.2, 0.9, 1e9, 2.0])
    usable = np.array([True, True, True, False, True])
    found = z_of(values, usable)
    assert np.isnan(found[3])
    assert found[usable] == pytest.approx(z_of(values[usable]))
    mixed = composite((values, -values), usable)
    assert np.isnan(mixed[3])
    assert mixed[usable] == pytest.approx(0.0, abs=1e-12)


def test_equal_companies_are_not_told_apart() -> None:
    assert z_of(np.full(6, 0.3)) == pytest.approx(0.0)
