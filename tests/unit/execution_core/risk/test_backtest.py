"""VaR backtests against the tables of their papers."""

from __future__ import annotations

import numpy as np
import pytest

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk import backtest
from execution_core.risk.backtest import Zone


def hits(count: int, days: int) -> np.ndarray:
    out = np.zeros(days, dtype=np.bool_)
    out[:count] = True
    return out


# Kupiec (1995), table 3, as in Jorion (2007), table 6-2: more exceptions than the first number and
# fewer than the second do not reject the model at 95% confidence. For (0.99, 255) the tables print
# no lower number, though the statistic of no exception at all is 5.13, beyond 3.84.
BANDS = {
    (0.99, 255): (0, 7),
    (0.99, 510): (1, 11),
    (0.99, 1000): (4, 17),
    (0.975, 255): (2, 12),
    (0.975, 510): (6, 21),
    (0.975, 1000): (15, 36),
    (0.95, 255): (6, 21),
    (0.95, 510): (16, 36),
    (0.95, 1000): (37, 65),
    (0.925, 255): (11, 28),
    (0.925, 510): (27, 51),
    (0.925, 1000): (59, 92),
    (0.90, 255): (16, 36),
    (0.90, 510): (38, 65),
    (0.90, 1000): (81, 120),
}


@pytest.mark.parametrize(("level", "days"), BANDS)
def test_kupiec_accepts_exactly_the_published_bands(level: float, days: int) -> None:
    low, high = BANDS[level, days]
    accepted = [n for n in range(days // 4) if backtest.kupiec(hits(n, days), level).p_value >= 0.05]
    assert accepted == list(range(low + 1, high))


def test_kupiec_of_the_expected_number_is_zero() -> None:
    answer = backtest.kupiec(hits(5, 100), 0.95)
    assert answer.statistic == pytest.approx(0.0, abs=1e-9)
    assert answer.p_value == pytest.approx(1.0)


def test_christoffersen_rejects_clusters_that_kupiec_accepts() -> None:
    together = hits(10, 1000)
    apart = np.zeros(1000, dtype=np.bool_)
    apart[50::100] = True
    assert backtest.kupiec(together, 0.99).p_value > 0.9
    assert backtest.christoffersen(together, 0.99)[0].p_value < 1e-6
    assert backtest.christoffersen(together, 0.99)[1].p_value < 1e-6
    assert backtest.christoffersen(apart, 0.99)[0].p_value > 0.5
    assert backtest.christoffersen(apart, 0.99)[1].p_value > 0.5


def test_christoffersen_by_hand() -> None:
    """0 0 1 1 0 1 0 0: transitions 00 2, 01 2, 10 2, 11 1."""
    sequence = np.array([0, 0, 1, 1, 0, 1, 0, 0], dtype=np.bool_)
    independence, coverage = backtest.christoffersen(sequence, 0.9)
    logs = 2 * np.log(0.5) + 2 * np.log(0.5) + 2 * np.log(2 / 3) + np.log(1 / 3)
    null = 4 * np.log(4 / 7) + 3 * np.log(3 / 7)
    given = 4 * np.log(0.9) + 3 * np.log(0.1)
    assert independence.statistic == pytest.approx(2 * (logs - null))
    assert coverage.statistic == pytest.approx(2 * (logs - given))


def test_no_exceptions_and_only_exceptions_are_defined() -> None:
    for count in (0, 50):
        independence, coverage = backtest.christoffersen(hits(count, 50), 0.99)
        assert independence.statistic == 0.0
        assert np.isfinite(coverage.statistic)
        assert np.isfinite(backtest.kupiec(hits(count, 50), 0.99).statistic)


# Basel Committee (1996), table 2: 250 days at 99%, cumulative probability in percent, multiplier.
BASEL = {
    0: (8.11, 3.00),
    1: (28.58, 3.00),
    2: (54.32, 3.00),
    3: (75.81, 3.00),
    4: (89.22, 3.00),
    5: (95.88, 3.40),
    6: (98.63, 3.50),
    7: (99.60, 3.65),
    8: (99.89, 3.75),
    9: (99.97, 3.85),
    10: (99.99, 4.00),
}


@pytest.mark.parametrize("count", BASEL)
def test_traffic_light_is_basels_table(count: int) -> None:
    light = backtest.traffic_light(hits(count, 250))
    percent, multiplier = BASEL[count]
    assert light.probability * 100 == pytest.approx(percent, abs=0.006)
    assert light.multiplier == pytest.approx(multiplier)
    assert light.zone == (Zone.GREEN if count < 5 else Zone.YELLOW if count < 10 else Zone.RED)


def test_traffic_light_elsewhere_rises_from_green_to_red() -> None:
    lights = [backtest.traffic_light(hits(n, 500), 0.975) for n in range(60)]
    assert [light.zone for light in lights] == sorted(light.zone for light in lights)
    assert [light.multiplier for light in lights] == sorted(light.multiplier for light in lights)
    yellow = [light.multiplier for light in lights if light.zone == Zone.YELLOW]
    assert (yellow[0], yellow[-1]) == pytest.approx((3.40, 3.85))


def test_exceptions_are_losses_beyond_the_forecast() -> None:
    found = backtest.exceptions([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(found, [False, False, True])
    with pytest.raises(InvalidArrayError):
        backtest.exceptions([1.0], [1.0, 2.0])
    with pytest.raises(InvalidValueError):
        backtest.exceptions([np.nan], [1.0])


def test_bad_hits_are_refused() -> None:
    for bad in (np.array([0, 1]), np.zeros((2, 2), dtype=np.bool_), np.zeros(0, dtype=np.bool_)):
        with pytest.raises(InvalidArrayError, match=r"^hits"):
            backtest.kupiec(bad, 0.99)
    with pytest.raises(InvalidArrayError, match=r"^hits"):
        backtest.christoffersen(hits(0, 1), 0.99)
    with pytest.raises(InvalidValueError, match=r"^level"):
        backtest.kupiec(hits(0, 10), 1.0)
