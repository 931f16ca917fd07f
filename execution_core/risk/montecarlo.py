"""Monte Carlo VaR and ES: normal, Student-t, t-copula with any marginals, quasi-random Sobol.

Scenarios come in blocks of ``BLOCK``; every block has its own random streams (``random.py``), so
a seed gives the same scenarios on any number of threads. A linear book needs no scenario of its
assets: with Sigma = L L', its gain w' L z is (L'w)' z, one fused multiply-add a number.
Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import ndtr, ndtri, stdtr

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.jit import kernel
from execution_core.risk.covariance import Matrix, Vector, check_covariance, check_returns
from execution_core.risk.random import (
    Words,
    fill_normals,
    fill_uniforms,
    in_threads,
    key_of,
    streams,
)
from execution_core.risk.tail import TailRisk, check_level, tail
from execution_core.risk.var import check_book

BLOCK: Final = 1024  # scenarios; 8 KB a number, so a block's scratch stays in L1


def factor(covariance: Matrix) -> Matrix:
    """Return L (N, N) with L L' = covariance, also for a singular one (by its eigenvectors)."""
    try:
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        floor = -1e-8 * float(values[-1])
        if values[0] < floor:
            raise InvalidValueError(
                "covariance", f"eigenvalue {values[0]:.3g} below zero", "pass a semidefinite matrix"
            ) from None
        root: Matrix = vectors * np.sqrt(np.maximum(values, 0.0))
        return root


@kernel
def _chi_square(state: Words, words: Words, normals: Vector, uniforms: Vector, degrees: float, out: Vector) -> None:
    """Fill `out` with chi-square numbers: Marsaglia and Tsang (2000), twice gamma(degrees / 2).

    `degrees` above 2, so that the shape exceeds 1. Rejected places draw from the next filling.
    """
    d = 0.5 * degrees - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    done = 0
    while done < out.size:
        fill_normals(state, words, normals)
        fill_uniforms(state, words, uniforms)
        i = 0
        while i < normals.size and done < out.size:
            z, u = normals[i], uniforms[i]
            i += 1
            v = 1.0 + c * z
            if v <= 0.0:
                continue
            v = v * v * v
            if u < 1.0 - 0.0331 * z * z * z * z or np.log(u) < 0.5 * z * z + d - d * v + d * np.log(v):
                out[done] = 2.0 * d * v
                done += 1


@kernel(fastmath={"contract"})
def _linear(key: Words, first: int, last: int, loading: Vector, degrees: float, losses: Vector) -> None:
    """Losses of blocks first..last of a linear book; `degrees` 0 for normal returns."""
    words, normals = np.empty(BLOCK, np.uint64), np.empty(BLOCK)
    uniforms, squares = np.empty(BLOCK), np.empty(BLOCK)
    total = np.empty(BLOCK)
    for block in range(first, last):
        state = streams(key, block)
        total[:] = 0.0
        for k in range(loading.size):
            fill_normals(state, words, normals)
            share = loading[k]
            for i in range(BLOCK):
                total[i] -= share * normals[i]
        if degrees > 0.0:
            _chi_square(state, words, normals, uniforms, degrees, squares)
            # (degrees - 2) instead of degrees: keeps the covariance as given.
            for i in range(BLOCK):
                total[i] *= np.sqrt((degrees - 2.0) / squares[i])
        begin = block * BLOCK
        stop = min(begin + BLOCK, losses.size)
        for i in range(begin, stop):
            losses[i] = total[i - begin]


@kernel(fastmath={"contract"})
def _copula(
    key: Words,
    first: int,
    last: int,
    root: Matrix,
    degrees: float,
    low: float,
    step: float,
    table: Matrix,
    exposures: Vector,
    losses: Vector,
) -> None:
    """Losses under a t (or normal) copula; table[i, g] is asset i's return at x = low + g * step."""
    assets = exposures.size
    words, uniforms = np.empty(BLOCK, np.uint64), np.empty(BLOCK)
    scale, total, mixed = np.ones(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    normals = np.empty((assets, BLOCK))
    top = table.shape[1] - 2
    for block in range(first, last):
        state = streams(key, block)
        for k in range(assets):
            fill_normals(state, words, normals[k])
        if degrees > 0.0:
            _chi_square(state, words, mixed, uniforms, degrees, scale)
            for i in range(BLOCK):
                scale[i] = np.sqrt(degrees / scale[i])
        total[:] = 0.0
        for k in range(assets):
            mixed[:] = 0.0
            for m in range(assets):
                share = root[k, m]
                if share != 0.0:
                    for i in range(BLOCK):
                        mixed[i] += share * normals[m, i]
            row, amount = table[k], exposures[k]
            for i in range(BLOCK):
                place = (mixed[i] * scale[i] - low) / step
                place = min(max(place, 0.0), float(top) + 1.0)
                g = min(int(place), top)
                total[i] -= amount * (row[g] + (place - g) * (row[g + 1] - row[g]))
        begin = block * BLOCK
        stop = min(begin + BLOCK, losses.size)
        for i in range(begin, stop):
            losses[i] = total[i - begin]


def _check_count(scenarios: int) -> int:
    if isinstance(scenarios, bool) or not isinstance(scenarios, (int, np.integer)) or scenarios < 1:
        raise InvalidValueError("scenarios", f"{scenarios!r}", "pass a number of scenarios >= 1")
    return int(scenarios)


def _check_degrees(degrees: float | None) -> float:
    if degrees is None:
        return 0.0
    if not (np.isfinite(degrees) and degrees > 2.0):
        raise InvalidValueError("degrees", f"{degrees!r}", "pass more than 2: variance is infinite")
    return float(degrees)


def simulate(
    exposures: Vector,
    covariance: Matrix,
    random: np.random.Generator,
    *,
    scenarios: int = 100_000,
    degrees: float | None = None,
    workers: int = 1,
) -> Vector:
    """Return losses (scenarios,) of a linear book under normal or multivariate t returns.

    covariance  (N, N) of the returns, also of t returns: the scale is adjusted for `degrees`
    random      draws two words, the key of all streams
    workers     threads; the result does not depend on them
    """
    covariance = check_covariance("covariance", covariance)
    exposures = check_book("exposures", exposures, covariance.shape[0])
    losses = np.empty(_check_count(scenarios))
    loading = np.ascontiguousarray(factor(covariance).T @ exposures)
    freedom, key = _check_degrees(degrees), key_of(random)
    blocks = -(-losses.size // BLOCK)
    in_threads(lambda a, b: _linear(key, a, b, loading, freedom, losses), blocks, workers)
    return losses


def value_at_risk(
    exposures: Vector,
    covariance: Matrix,
    random: np.random.Generator,
    *,
    level: float = 0.99,
    scenarios: int = 100_000,
    degrees: float | None = None,
    workers: int = 1,
) -> TailRisk:
    """Return VaR and ES of `simulate`'s losses."""
    level = check_level(level)
    losses = simulate(exposures, covariance, random, scenarios=scenarios, degrees=degrees, workers=workers)
    return tail(losses, level)


def simulate_copula(
    exposures: Vector,
    correlation: Matrix,
    returns: Matrix,
    random: np.random.Generator,
    *,
    scenarios: int = 100_000,
    degrees: float | None = 5.0,
    workers: int = 1,
) -> Vector:
    """Return losses (scenarios,) with the history's marginals joined by a t (or normal) copula.

    Each asset's return is the empirical quantile of its column in `returns` (T, N), interpolated,
    at the probability that the copula draws; `correlation` (N, N) and `degrees` (None for a
    normal copula) are the copula's (Demarta and McNeil 2005). No loss exceeds history's worst
    asset by asset; together they do.
    """
    returns = check_returns("returns", returns)
    correlation = check_covariance("correlation", correlation, returns.shape[1])
    if not np.allclose(np.diagonal(correlation), 1.0):
        raise InvalidValueError("correlation", "diagonal is not one", "divide by the deviations")
    exposures = check_book("exposures", exposures, returns.shape[1])
    losses = np.empty(_check_count(scenarios))
    freedom, key = _check_degrees(degrees), key_of(random)
    # A grid of the copula's variable fine enough that neighbours differ by less than 1 / (4 T).
    reach = 9.0 if freedom == 0.0 else 60.0
    grid = np.linspace(-reach, reach, 8192)
    chances = ndtr(grid) if freedom == 0.0 else stdtr(freedom, grid)
    places = np.clip(chances * returns.shape[0] - 0.5, 0.0, returns.shape[0] - 1.0)
    ordered = np.sort(returns, axis=0)
    table = np.empty((returns.shape[1], grid.size))
    for asset in range(returns.shape[1]):
        table[asset] = np.interp(places, np.arange(returns.shape[0]), ordered[:, asset])
    root = np.ascontiguousarray(factor(correlation))
    low, step = float(grid[0]), float(grid[1] - grid[0])

    def work(a: int, b: int) -> None:
        _copula(key, a, b, root, freedom, low, step, table, exposures, losses)

    in_threads(work, -(-losses.size // BLOCK), workers)
    return losses


def simulate_sobol(
    exposures: Vector,
    covariance: Matrix,
    random: np.random.Generator,
    *,
    exponent: int = 16,
) -> Vector:
    """Return 2^exponent losses of a linear book from a scrambled Sobol sequence.

    Normal returns; Owen-scrambled points (SciPy, directions of Joe and Kuo 2008) through the
    inverse normal, the largest loading first, where the sequence is most even. The error falls
    nearly as 1 / n, against 1 / sqrt(n) for random points.
    """
    from scipy.stats import qmc

    covariance = check_covariance("covariance", covariance)
    exposures = check_book("exposures", exposures, covariance.shape[0])
    if not 1 <= exponent <= 24:
        raise InvalidValueError("exponent", f"{exponent!r}", "pass 1 to 24")
    if exposures.size > 21_201:
        raise InvalidArrayError("exposures", f"{exposures.size} assets", "at most 21,201 dimensions")
    loading = factor(covariance).T @ exposures
    loading = loading[np.argsort(-np.abs(loading), kind="stable")]
    engine = qmc.Sobol(loading.size, scramble=True, rng=random)
    points = engine.random_base2(exponent)
    # Scrambled points can round to 0 or 1, where the inverse is infinite.
    np.clip(points, 2.0**-53, 1.0 - 2.0**-53, out=points)
    losses: Vector = -(ndtri(points) @ loading)
    return losses


def warm() -> None:
    """Compile every kernel of this module."""
    key = np.zeros(2, np.uint64)
    one, losses = np.ones(1), np.empty(2)
    _linear(key, 0, 1, one, 5.0, losses)
    _copula(key, 0, 1, np.ones((1, 1)), 5.0, -1.0, 1.0, np.ones((1, 3)), one, losses)
