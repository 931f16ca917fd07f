"""The test of champion against challenger: how often it is fooled, and how fast it sees what is there."""

from __future__ import annotations

import numpy as np
import pytest

from python_services.model_registry.sequential import PairedTest

NEEDED = 20.0


def run(differences: np.ndarray, bound: float = 4.6) -> tuple[int | None, int | None]:
    """(pairs until it says better, until it says worse)."""
    test, better, worse = PairedTest(bound=bound, block_ns=0), None, None
    for i, difference in enumerate(differences):
        test.add(i, np.array([difference]))
        better = i + 1 if better is None and test.better.evidence >= NEEDED else better
        worse = i + 1 if worse is None and test.worse.evidence >= NEEDED else worse
    return better, worse


def test_without_a_difference_it_is_fooled_less_often_than_alpha_although_it_looks_all_the_time() -> None:
    rng = np.random.default_rng(1)
    fooled = [0, 0]
    for _ in range(200):
        for i, found in enumerate(run(rng.standard_t(4, size=400))):
            fooled[i] += found is not None
    assert max(fooled) / 200 <= 0.05


@pytest.mark.parametrize(("effect", "most"), [(0.2, 600), (0.5, 150), (-0.5, 150)])
def test_a_difference_is_seen_and_its_sign_is_right(effect: float, most: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        better, worse = run(effect + 0.5 * rng.standard_normal(most))
        found, other = (better, worse) if effect > 0 else (worse, better)
        assert found is not None
        assert other is None


def test_outcomes_of_one_block_are_one_sample() -> None:
    test = PairedTest(bound=1.0, block_ns=100)
    for i in range(50):
        test.add(100 + i, np.array([1.0]))
    assert (test.pairs, test.better.count) == (50, 0)
    test.add(200, np.array([1.0]))
    assert (test.better.count, test.better.total) == (1, 1.0)


def test_a_wild_difference_counts_as_the_bound() -> None:
    test = PairedTest(bound=1.0, block_ns=0)
    test.add(1, np.array([1e9]))
    assert test.advantage == 1.0
