"""Risk: Monte Carlo and historical VaR, covariances, options. The peers' environment is construction.py's."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.construction import peer
from benchmarks.runner import Case
from execution_core.risk import books, covariance, montecarlo, options

Arrays = dict[str, NDArray[Any]]
THREADS = 2


def _seed() -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(1))


@cache
def book() -> Arrays:
    """50 assets with factors; a million scenarios."""
    random = _seed()
    loads = random.normal(0, 0.01, (50, 4))
    matrix = loads @ loads.T + np.diag(random.uniform(0.005, 0.02, 50) ** 2)
    return {"covariance": matrix, "book": random.dirichlet(np.ones(50)) * 1e6, "scenarios": np.array(1_000_000)}


@cache
def history() -> Arrays:
    """Ten years of 500 assets, and 1,000 books."""
    random = _seed()
    returns = random.normal(0, 0.01, (2520, 500)) + random.normal(0, 0.008, (2520, 1))
    return {"returns": returns, "books": random.normal(0, 1, (1000, 500))}


@cache
def chain() -> Arrays:
    """200,000 options with digits left above intrinsic value."""
    random = _seed()
    count = 200_000
    data = {
        "call": random.random(count) < 0.5,
        "spot": random.uniform(80, 120, count),
        "strike": np.full(count, 100.0),
        "years": random.uniform(0.1, 2, count),
        "rate": np.full(count, 0.03),
        "dividend": np.full(count, 0.02),
        "volatility": random.uniform(0.15, 0.6, count),
    }
    data["price"] = _greeks(data).price
    return data


def _greeks(data: Arrays) -> options.Greeks:
    inputs = [data[name] for name in ("call", "spot", "strike", "years", "rate", "volatility")]
    return options.greeks(*inputs, carry=data["rate"] - data["dividend"])


def _implied(data: Arrays) -> NDArray[np.float64]:
    inputs = [data[name] for name in ("call", "price", "spot", "strike", "years", "rate")]
    return options.implied_volatility(*inputs, carry=data["rate"] - data["dividend"])


def _simulated(degrees: float | None) -> Any:
    data = book()
    return montecarlo.value_at_risk(
        data["book"], data["covariance"], _seed(), scenarios=1_000_000, degrees=degrees, workers=THREADS
    )


def timed(work: Callable[[], object], scale: float) -> float:
    """Run once; return seconds * scale."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * scale


def asked(task: str, data: Callable[[], Arrays], scale: float, check: Callable[[Arrays], None]) -> float:
    """Let the peer run once and compare its answer with ours."""
    seconds, result, _ = peer().run(task, data())
    check(result)
    return seconds * scale


def _near_risk(degrees: float | None, result: Arrays) -> None:
    risk = _simulated(degrees)
    np.testing.assert_allclose(result["risk"], [risk.var, risk.es], rtol=0.02)  # different draws


def _books() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    data = history()
    return books.historical_books(data["books"], data["returns"], workers=THREADS)


def _same_books(result: Arrays) -> None:
    np.testing.assert_allclose(_books(), [result["var"], result["es"]], rtol=1e-9)


def _same_shrinkage(result: Arrays) -> None:
    matrix, shrinkage = covariance.ledoit_wolf(history()["returns"])
    np.testing.assert_allclose(matrix, result["matrix"], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(shrinkage, result["shrinkage"], rtol=1e-8)


def _same_ewma(result: Arrays) -> None:
    np.testing.assert_allclose(covariance.ewma(history()["returns"]), result["matrix"], rtol=1e-6, atol=1e-10)


def _same_greeks(result: Arrays) -> None:
    np.testing.assert_allclose(np.array(_greeks(chain())), result["greeks"], rtol=1e-9, atol=1e-10)


def _same_volatility(result: Arrays) -> None:
    part = result["volatility"].size
    np.testing.assert_allclose(_implied(chain())[:part], result["volatility"], rtol=1e-8)


def cases() -> list[Case]:
    """Each against the best idiom of its peer, results compared on every run; histories are 2520 x 500."""

    def shrunk() -> object:
        return covariance.ledoit_wolf(history()["returns"])

    def priced() -> object:
        return _greeks(chain())

    def solved() -> object:
        return _implied(chain())

    def weighed() -> object:
        return covariance.ewma(history()["returns"])

    normal, student = partial(_simulated, None), partial(_simulated, 5.0)
    near, near_t = partial(_near_risk, None), partial(_near_risk, 5.0)
    table: list[tuple[str, Callable[[], object], str, Callable[[], Arrays], Callable[[Arrays], None], str, str]] = [
        ("normal VaR, 1M x 50", normal, "normal_var", book, near, "NumPy", "ratio >= 6"),
        ("Student-t VaR, 1M x 50", student, "t_var", book, near_t, "NumPy", "ratio >= 6"),
        ("Student-t VaR, 1M x 50", student, "scipy_t_var", book, near_t, "SciPy", "ratio >= 20"),
        ("VaR of 1000 books", _books, "books", history, _same_books, "NumPy", "ratio >= 1.4"),
        ("Ledoit-Wolf", shrunk, "ledoit_wolf", history, _same_shrinkage, "scikit-learn", "ratio >= 3"),
        ("EWMA covariance", weighed, "ewma", history, _same_ewma, "skfolio", "ratio >= 2"),
        ("price and five Greeks", priced, "greeks", chain, _same_greeks, "NumPy, SciPy", "ours <= 32"),
        ("implied volatility", solved, "implied", chain, _same_volatility, "vollib", "ours <= 300"),
    ]
    for module in (books, covariance, montecarlo, options):
        module.warm()
    found: list[Case] = []
    for name, work, task, data, check, who, goal in table:
        per_option = task in ("greeks", "implied")
        scale = 1e9 / chain()["spot"].size if per_option else 1e3
        found.append(
            Case(
                name=name,
                unit="ns/option" if per_option else "ms",
                ours=partial(timed, work, scale),
                peer=partial(asked, task, data, scale, check),
                peer_name=who,
                goal=goal,
            )
        )
    return found
