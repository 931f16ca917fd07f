"""PSI, Kolmogorov-Smirnov and ADWIN against SciPy, against chance, and against real changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from python_services.model_registry import drift


@pytest.mark.parametrize("size", [250, 500, 1000])
def test_psi_passes_its_limit_by_chance_as_often_as_it_says(size: int) -> None:
    rng = np.random.default_rng(3)
    above = 0
    for _ in range(400):
        bins = drift.Bins.of(rng.normal(size=(size, 1)))
        above += bins.psi(rng.normal(size=(size, 1)))[0] > drift.psi_limit(0.0, size, size, bins.sizes[0])
    assert above / 400 <= 0.03


def test_psi_sees_a_shift_and_the_limit_grows_where_there_is_little() -> None:
    rng = np.random.default_rng(4)
    bins = drift.Bins.of(rng.normal(size=(500, 1)))
    moved = bins.psi(0.8 + rng.normal(size=(300, 1)))[0]
    assert moved > drift.psi_limit(0.2, 500, 300, bins.sizes[0]) == pytest.approx(0.2)
    assert drift.psi_limit(0.2, 100, 100, 10) == pytest.approx(stats.chi2.ppf(0.99, 9) * 0.02)


def test_a_constant_has_one_bin_and_no_drift() -> None:
    bins = drift.Bins.of(np.full((300, 1), 0.5))
    assert (bins.psi(np.full((300, 1), 0.5)).tolist(), bins.sizes.tolist()) == ([0.0], [2])


def test_psi_of_a_table_is_that_of_each_column() -> None:
    """By the definition, with the counts of NumPy's histogram; columns with few values have fewer bins."""
    rng = np.random.default_rng(8)
    reference = np.column_stack([rng.normal(size=400), rng.integers(0, 3, 400), rng.integers(0, 30, 400)]).astype(float)
    current = 0.2 + reference[rng.permutation(400)[:300]]
    bins = drift.Bins.of(reference)
    for column, (measured, size) in enumerate(zip(bins.psi(current), bins.sizes, strict=True)):
        edges = np.unique(np.quantile(reference[:, column], np.arange(0.1, 1.0, 0.1)))
        assert size == len(edges) + 1
        shares = [
            (np.histogram(x[:, column], [-np.inf, *edges, np.inf])[0] + 0.5) / (len(x) + 0.5 * size)
            for x in (reference, current)
        ]
        assert measured == pytest.approx(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def test_kolmogorov_smirnov_is_scipys() -> None:
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.1, 0.5):
        first, second = rng.normal(size=300), shift + rng.normal(size=250)
        distance, chance = drift.kolmogorov_smirnov(first, second)
        known = stats.ks_2samp(first, second, method="asymp")
        assert distance == pytest.approx(known.statistic)
        assert chance == pytest.approx(known.pvalue, abs=0.02)


def test_adwin_keeps_still_without_a_change_and_its_buckets_hold_everything() -> None:
    rng, alarms = np.random.default_rng(6), 0
    for _ in range(20):
        window = drift.Adwin()
        values = rng.random(1000)
        alarms += len(window.extend(values.tolist()))
        kept = values[-window.count :]
        assert window.mean == pytest.approx(kept.mean())
        squares = sum(square + size * (total / size - window.mean) ** 2 for _, size, total, square in window._buckets())
        assert squares == pytest.approx(((kept - kept.mean()) ** 2).sum())
    assert alarms == 0


@pytest.mark.parametrize("rise", [0.2, -0.2])
def test_adwin_cuts_soon_after_a_change_and_says_its_direction(rise: float) -> None:
    rng = np.random.default_rng(7)
    values = np.clip(np.concatenate([0.5 + 0.1 * rng.normal(size=600), 0.5 + rise + 0.1 * rng.normal(size=200)]), 0, 1)
    window = drift.Adwin()
    found = [(i, change) for i, value in enumerate(values) for change in window.extend([float(value)])]
    first, (before, now) = found[0]
    assert 600 <= first < 700
    assert (now > before) == (rise > 0)
    assert window.mean == pytest.approx(0.5 + rise, abs=0.05)
