"""The polynomials against SciPy and NumPy, over their whole range."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr

from execution_core.jit import kernel
from execution_core.risk import fastmath


@kernel
def _apply(which: int, x: Any, out: Any) -> None:
    for i in range(x.size):
        if which == 0:
            out[i] = fastmath.exp(x[i])
        elif which == 1:
            out[i] = fastmath.log(x[i])
        elif which == 2:
            out[i] = fastmath.normal_cdf(x[i])
        elif which == 3:
            out[i] = fastmath.turn(x[i])[0]
        else:
            out[i] = fastmath.turn(x[i])[1]


def apply(which: int, x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    _apply(which, x, out)
    return out


def test_exp_is_exact_to_two_units_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-708, 708, 100_001), np.linspace(-1e-3, 1e-3, 1001)])
    np.testing.assert_allclose(apply(0, x), np.exp(x), rtol=4.5e-16)


def test_exp_at_its_ends() -> None:
    out = apply(0, np.array([-800.0, -np.inf, 0.0, 5000.0, np.nan]))
    np.testing.assert_array_equal(out[:3], [0.0, 0.0, 1.0])
    assert out[3] == np.exp(709.0)
    assert np.isnan(out[4])


def test_log_is_exact_to_two_units_in_the_last_place() -> None:
    x = np.concatenate([np.exp(np.linspace(-700, 700, 100_001)), 1.0 + np.linspace(-0.4, 0.6, 100_001)])
    np.testing.assert_allclose(apply(1, x), np.log(x), rtol=4.5e-16, atol=1e-18)
    assert np.isnan(apply(1, np.array([np.nan, np.inf]))).all()


def test_normal_distribution_keeps_its_relative_accuracy_in_the_tail() -> None:
    below = np.linspace(-37.0, 0.0, 100_001)
    # The square in exp(-x^2 / 2) is rounded, here and in SciPy: an error of x^2 units.
    error = np.abs(apply(2, below) / ndtr(below) - 1.0)
    assert (error < 5e-15 + 3e-16 * below**2).all()
    above = np.linspace(0.0, 40.0, 10_001)
    np.testing.assert_allclose(apply(2, above), ndtr(above), rtol=5e-15)


def test_turn_goes_once_around() -> None:
    v = np.linspace(-0.5, 0.5, 100_001)
    np.testing.assert_allclose(apply(3, v), np.cos(2 * np.pi * v), atol=2e-15)
    np.testing.assert_allclose(apply(4, v), np.sin(2 * np.pi * v), atol=1e-14)
