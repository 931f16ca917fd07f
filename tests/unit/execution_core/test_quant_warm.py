"""After warm() nothing compiles: whatever memory an array lives in, a request meets compiled code.

To Numba a read-only or strided array is another type. Arrays out of Arrow or shared memory are
read-only, so the boundaries must bring them to the one type that warm() compiled.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from execution_core import indicators
from execution_core.construction.constraints import Constraints
from execution_core.construction.hrp import hrp
from execution_core.construction.mean_variance import optimise
from execution_core.construction.risk_parity import risk_parity
from execution_core.risk import american, books, covariance, montecarlo, options, var
from execution_core.warm import WARM

PARTS = tuple(f"execution_core.{part}" for part in ("indicators", "risk", "construction"))


def signatures() -> dict[str, int]:
    """How many signatures each kernel of our parts has been compiled for."""
    return {
        f"{name}.{attribute}": len(value.signatures)
        for name, module in list(sys.modules.items())
        if name.startswith(PARTS)
        for attribute, value in list(vars(module).items())
        if isinstance(value, Dispatcher)
    }


def plain(x: np.ndarray) -> np.ndarray:
    return x.copy()


def read_only(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.setflags(write=False)
    return y


def strided(x: np.ndarray) -> np.ndarray:
    return np.repeat(x, 2, axis=-1)[..., ::2]


MEMORY: dict[str, Callable[[np.ndarray], np.ndarray]] = {"plain": plain, "read-only": read_only, "strided": strided}


@pytest.mark.parametrize("memory", MEMORY)
def test_public_calls_compile_nothing_after_warm(memory: str) -> None:
    for name in WARM:
        if name.startswith(PARTS):
            importlib.import_module(name).warm()
    before = signatures()
    assert before

    change = MEMORY[memory]
    random = np.random.Generator(np.random.SFC64(1))
    prices = np.exp(np.cumsum(random.normal(0, 0.01, (80, 5)), axis=0))
    panel = plain(prices) if memory == "strided" else change(prices)  # panels must be contiguous
    returns = change(np.diff(np.log(prices), axis=0))
    for indicator in (indicators.sma, indicators.wma, indicators.rsi, indicators.zscore, indicators.slope):
        indicator(panel, 5)
    indicators.macd(panel)
    indicators.adx(panel, panel, panel)
    indicators.stochastic(panel, panel, panel)
    indicators.yang_zhang(panel, panel, panel, panel)
    indicators.obv(panel, panel)
    matrix = change(covariance.estimate(returns).matrix)
    book, spots = change(np.full(5, 0.2)), change(np.array([90.0, 100.0]))
    optimise(book, matrix)
    optimise(book, matrix, constraints=Constraints(lower=-0.5, gross=2.0, turnover=1.0), previous=book, cost=1e-3)
    risk_parity(matrix, book)
    hrp(matrix)
    var.historical(book, returns, method="filtered")
    books.historical_books(change(np.ones((3, 5))), returns)
    montecarlo.simulate(book, matrix, random, scenarios=2000, degrees=5.0)
    montecarlo.simulate_copula(book, change(np.eye(5)), returns, random, scenarios=2000)
    prices_now = options.greeks(True, 100.0, spots, 1.0, 0.05, 0.2).price
    options.greeks(change(np.array([True, False])), spots, 100.0, 1.0, 0.05, 0.2)
    options.implied_volatility(True, change(prices_now), 100.0, spots, 1.0, 0.05)
    american.leisen_reimer(False, spots, 100.0, 1.0, 0.05, 0.2)
    american.barone_adesi_whaley(False, spots, 100.0, 1.0, 0.05, 0.2)

    late = {name: count for name, count in signatures().items() if count != before.get(name, 0)}
    assert late == {}
