"""The choice between CPU and GPU, and that both give the same numbers where there is a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from execution_core.construction import backend
from execution_core.errors import CoreError, InvalidValueError
from execution_core.risk.books import historical_books

PROBLEM = backend.gpu_problem()
RANDOM = np.random.Generator(np.random.SFC64(8))
BOOKS, RETURNS = RANDOM.normal(0, 1, (20, 10)), RANDOM.normal(0, 0.01, (300, 10))


def test_the_cpu_can_be_forced_and_small_work_stays_there() -> None:
    assert backend.choose(1e15, "cpu") == "cpu"
    assert backend.choose(1e3) == "cpu"
    np.testing.assert_array_equal(backend.book_risks(BOOKS, RETURNS)[0], historical_books(BOOKS, RETURNS)[0])


def test_large_work_goes_to_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "gpu_problem", lambda: None)
    assert backend.choose(1e12) == "gpu"
    assert backend.choose(1e12, "cpu") == "cpu"
    monkeypatch.setattr(backend, "gpu_problem", lambda: "none here")
    assert backend.choose(1e12) == "cpu"
    with pytest.raises(CoreError, match="none here"):
        backend.choose(1.0, "gpu")
    with pytest.raises(InvalidValueError, match=r"^backend"):
        backend.choose(1.0, "tpu")  # type: ignore[arg-type]


def test_simulation_on_the_cpu_is_repeatable() -> None:
    runs = [
        backend.simulate(BOOKS[0], np.eye(10), np.random.Generator(np.random.SFC64(1)), scenarios=50, backend="cpu")
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*runs)


@pytest.mark.gpu
@pytest.mark.skipif(PROBLEM is not None, reason=f"no GPU: {PROBLEM}")
def test_gpu_books_equal_cpu_books() -> None:
    ours, theirs = historical_books(BOOKS, RETURNS), backend.book_risks(BOOKS, RETURNS, backend="gpu")
    np.testing.assert_allclose(theirs, ours, rtol=1e-10)


@pytest.mark.gpu
@pytest.mark.skipif(PROBLEM is not None, reason=f"no GPU: {PROBLEM}")
def test_gpu_losses_have_the_right_deviation_and_repeat() -> None:
    seeds = [np.random.Generator(np.random.SFC64(1)) for _ in range(2)]
    a, b = (backend.simulate(BOOKS[0], np.eye(10), seed, scenarios=200_000, backend="gpu") for seed in seeds)
    np.testing.assert_array_equal(a, b)
    assert a.std() == pytest.approx(float(np.linalg.norm(BOOKS[0])), rel=0.01)
