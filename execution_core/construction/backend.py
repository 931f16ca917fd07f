"""Where large linear algebra runs: NumPy on the CPU, or CuPy on a GPU when it pays.

`choose` decides by what is installed, the size of the work, and the caller's wish. Copying to the
device costs about 0.1 ms plus 12 GB/s, so small work stays on the CPU. Kernels with branches and
state (books, indicators, options) always run on the CPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal

import numpy as np

from execution_core.errors import CoreError, InvalidValueError
from execution_core.risk.books import historical_books
from execution_core.risk.covariance import Matrix, Vector
from execution_core.risk.tail import beyond, check_level

Backend = Literal["auto", "cpu", "gpu"]

# Floating-point operations from which a GPU's speed outweighs the copies.
GPU_WORTHWHILE: Final = 2e10


@cache
def gpu_problem() -> str | None:
    """Return why no GPU can be used, or None when one can."""
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed (the extra `gpu`)"
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:
        return f"no CUDA device: {error}"
    return None if count > 0 else "no CUDA device"


def choose(operations: float, wish: Backend = "auto") -> Literal["cpu", "gpu"]:
    """Return the backend for work of so many floating-point operations.

    Raises InvalidValueError for an unknown wish; CoreError when "gpu" is forced and none is there.
    """
    if wish not in ("auto", "cpu", "gpu"):
        raise InvalidValueError("backend", f"{wish!r}", "pass auto, cpu or gpu")
    if wish == "cpu":
        return "cpu"
    problem = gpu_problem()
    if wish == "gpu":
        if problem is not None:
            raise CoreError("backend", problem, "pass auto or cpu")
        return "gpu"
    return "gpu" if problem is None and operations >= GPU_WORTHWHILE else "cpu"


def book_risks(
    exposures: Any, returns: Any, *, level: float = 0.99, backend: Backend = "auto"
) -> tuple[Vector, Vector]:
    """Return historical (VaR, ES) of books (books, N) over returns (T, N), on either backend.

    As ``risk.books.historical_books``; the two agree to rounding.
    """
    operations = 2.0 * exposures.shape[0] * exposures.shape[1] * returns.shape[0]
    if choose(operations, backend) == "cpu":
        return historical_books(exposures, returns, level=level)
    return _book_risks_gpu(exposures, returns, check_level(level))


def _book_risks_gpu(exposures: Any, returns: Any, level: float) -> tuple[Vector, Vector]:
    import cupy

    gains = cupy.asarray(exposures) @ cupy.asarray(returns).T
    count = gains.shape[1]
    worse = beyond(count, level)
    ordered = cupy.partition(-gains, count - 1 - worse, axis=1)[:, count - 1 - worse :]
    var = ordered[:, 0].astype(np.float64)
    share = count * (1.0 - level)
    total = ordered[:, 1:].sum(axis=1, dtype=np.float64)
    es = cupy.maximum(var, (total + (share - worse) * var) / share)
    return cupy.asnumpy(var), cupy.asnumpy(es)


def simulate(
    exposures: Vector,
    root: Matrix,
    random: np.random.Generator,
    *,
    scenarios: int,
    backend: Backend = "gpu",
) -> Vector:
    """Return losses (scenarios,) of a linear book, normal returns with covariance root root'.

    On the GPU the numbers come from cuRAND's Philox, seeded from `random`: repeatable there, but
    not the numbers of ``risk.montecarlo``. On the CPU it is NumPy's generator itself.
    """
    loading = root.T @ exposures
    if choose(4.0 * scenarios * loading.size, backend) == "cpu":
        answer: Vector = -(random.standard_normal((scenarios, loading.size)) @ loading)
        return answer
    import cupy

    generator = cupy.random.Generator(cupy.random.Philox4x3210(int(random.integers(0, 2**63))))
    shares = cupy.asarray(loading)
    parts = []
    for first in range(0, scenarios, 1 << 20):  # 1 M scenarios of 50 doubles: 0.4 GB at a time
        count = min(1 << 20, scenarios - first)
        parts.append(cupy.asnumpy(-(generator.standard_normal((count, loading.size)) @ shares)))
    return np.concatenate(parts)
