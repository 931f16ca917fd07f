"""Many books at once: each must have the tail that it has alone, whatever float32 did on the way."""

from __future__ import annotations

import numpy as np
import pytest

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk import books
from execution_core.risk.books import historical_books
from execution_core.risk.tail import tail

RANDOM = np.random.Generator(np.random.SFC64(31))


def alone(exposures: np.ndarray, returns: np.ndarray, level: float) -> tuple[list[float], list[float]]:
    risks = [tail(-(returns @ book), level) for book in exposures]
    return [risk.var for risk in risks], [risk.es for risk in risks]


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99, 0.9999])
@pytest.mark.parametrize("scenarios", [1, 40, 256, 1000, 2521])
@pytest.mark.parametrize("assets", [1, 7, 60])
def test_many_books_equal_one_at_a_time(scenarios: int, assets: int, level: float) -> None:
    exposures = RANDOM.normal(0, 1e6, (23, assets))
    returns = RANDOM.standard_t(3, (scenarios, assets)) * 0.01
    found, expected = historical_books(exposures, returns, level=level), alone(exposures, returns, level)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-10, atol=1e-7)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-10, atol=1e-7)


def test_scenarios_closer_than_float32_can_tell_are_told_apart() -> None:
    """Losses differ in the tenth digit: single precision alone would name the wrong scenarios."""
    returns = np.full((1000, 3), -0.01) * (1.0 + 1e-10 * RANDOM.permutation(1000))[:, None]
    exposures = np.array([[1.0, 2.0, 3.0], [5.0, -1.0, 1.0]]) * 1e6
    found, expected = historical_books(exposures, returns), alone(exposures, returns, 0.99)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-14)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-14)


def test_hedged_books_lose_no_digits() -> None:
    """Large positions that cancel: the float32 gains are all rounding, the answers are not."""
    returns = np.repeat(RANDOM.normal(0, 0.01, (1500, 1)), 2, axis=1)
    returns[:, 1] += RANDOM.normal(0, 1e-9, 1500)
    exposures = np.array([[1e6, -1e6], [1e6, -1e6 + 1e-2]])
    found, expected = historical_books(exposures, returns), alone(exposures, returns, 0.99)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-250, 1e-30, 1.0, 1e30, 1e250])
def test_any_unit_of_money_and_any_size_of_return(scale: float) -> None:
    exposures, returns = RANDOM.normal(0, 1, (5, 4)), RANDOM.normal(0, 0.01, (600, 4))
    plain = historical_books(exposures, returns)
    scaled = historical_books(exposures * scale, returns)
    np.testing.assert_allclose(np.array(scaled) / scale, plain, rtol=1e-12)


def test_ties_empty_books_and_constant_scenarios() -> None:
    returns = np.zeros((400, 2))
    returns[7:9, 0] = -5.0
    found = historical_books(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), returns, level=0.995)
    np.testing.assert_array_equal(found[0], [0.0, 0.0, 0.0])
    np.testing.assert_allclose(found[1], [0.0, 5.0, 0.0])


def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    exposures, returns = RANDOM.normal(0, 1, (50, 9)), RANDOM.normal(0, 0.01, (700, 9))
    whole = historical_books(exposures, returns)
    monkeypatch.setattr(books, "BLOCK", 3 * 700 * 4)
    for workers in (1, 2, 5):
        np.testing.assert_array_equal(historical_books(exposures, returns, workers=workers), whole)


def test_bad_books_are_refused() -> None:
    good = np.ones((2, 3))
    for bad in (good.astype(np.float32), good[0], good[:, :0], good.tolist()):
        with pytest.raises(InvalidArrayError, match=r"^exposures"):
            historical_books(bad, np.ones((5, 3)))  # type: ignore[arg-type]
    with pytest.raises(InvalidArrayError, match=r"^returns"):
        historical_books(good, np.ones((5, 2)))
    with pytest.raises(InvalidValueError, match=r"^returns"):
        historical_books(good, np.full((5, 3), np.nan))
    with pytest.raises(InvalidValueError, match=r"^level"):
        historical_books(good, np.ones((5, 3)), level=1.0)
