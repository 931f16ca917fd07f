"""Portfolio construction against skfolio, PyPortfolioOpt and Riskfolio-Lib, whichever is fastest.

The peers run in an environment of their own, .bench/quant: `make bench-peers`.

Every run compares the answers: ours must reach the peer's objective to 1e-6 of it, or its weights.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.client import Peer
from benchmarks.runner import Case
from execution_core.construction import hrp as hrp_module
from execution_core.construction import risk_parity as risk_parity_module
from execution_core.construction.hrp import hrp
from execution_core.construction.mean_variance import optimise
from execution_core.construction.min_cvar import min_cvar
from execution_core.construction.risk_parity import risk_parity, risk_shares
from execution_core.risk import covariance
from execution_core.risk.tail import tail

Arrays = dict[str, NDArray[Any]]
Weights = NDArray[np.float64]
AVERSION = 10.0
SHORT_MS, CALLS = 1.0, 101


@cache
def peer() -> Peer:
    """The process with the peers of the quantitative parts; shared with risk.py and indicators.py."""
    return Peer("quant", "quant.py", "run `make bench-peers`")


@cache
def market(size: int, days: int = 1000) -> Arrays:
    """Daily returns with one strong factor, fat tails and different drifts."""
    random = np.random.Generator(np.random.SFC64(size))
    returns = random.standard_t(5, (days, size)) * random.uniform(0.005, 0.015, size)
    returns += random.normal(0, 0.008, (days, 1)) * random.uniform(0.5, 1.5, size)
    returns += random.normal(0.0003, 0.0004, size)
    return {
        "returns": returns,
        "expected": returns.mean(axis=0),
        "covariance": np.cov(returns.T),
        "aversion": np.array(AVERSION),
    }


def _utility(data: Arrays, w: Weights) -> float:
    return float(data["expected"] @ w - AVERSION / 2 * w @ data["covariance"] @ w)


def _mean_variance(data: Arrays) -> Weights:
    return optimise(data["expected"], data["covariance"], risk_aversion=AVERSION).weights


def _check_utility(data: Arrays, ours: Weights, theirs: Weights) -> None:
    mine, other = _utility(data, ours), _utility(data, theirs)
    assert mine >= other - 1e-6 * abs(other), (mine, other)
    assert mine <= other + 1e-5 * abs(other), (mine, other)


def _check_parity(data: Arrays, ours: Weights, theirs: Weights) -> None:
    count = ours.size
    misses = [np.abs(risk_shares(w / w.sum(), data["covariance"]) * count - 1.0).max() for w in (ours, theirs)]
    assert misses[0] < 1e-6, misses
    np.testing.assert_allclose(ours, theirs, atol=2e-3 / count**0.5)


def _check_equal(data: Arrays, ours: Weights, theirs: Weights) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def _check_shortfall(data: Arrays, ours: Weights, theirs: Weights) -> None:
    mine, other = (tail(-(data["returns"] @ w), 0.95).es for w in (ours, theirs))
    assert mine <= other * (1 + 1e-6), (mine, other)


def _ours(work: Callable[[Arrays], Weights], data: Arrays) -> float:
    """Milliseconds of a call; of a short one, in which the caches decide, the median of many."""
    times: list[float] = []
    while not times or (times[0] < SHORT_MS and len(times) < CALLS):
        started = time.perf_counter()
        work(data)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def _theirs(
    task: str, work: Callable[[Arrays], Weights], data: Arrays, check: Callable[[Arrays, Weights, Weights], None]
) -> float:
    seconds, result, _ = peer().run(task, data)
    check(data, work(data), result["weights"])
    return seconds * 1e3


def cases() -> list[Case]:
    """Mean-variance, risk parity, HRP and least expected shortfall."""
    rivals = "best of skfolio, PyPortfolioOpt"
    both = "best of skfolio, Riskfolio-Lib"

    def row(
        name: str,
        task: str,
        size: int,
        work: Callable[[Arrays], Weights],
        check: Callable[[Arrays, Weights, Weights], None],
        who: str,
        goal: str,
    ) -> Case:
        data = market(size)
        return Case(
            name=name,
            unit="ms",
            ours=partial(_ours, work, data),
            peer=partial(_theirs, task, work, data, check),
            peer_name=who,
            goal=goal,
        )

    def cvar(data: Arrays) -> Weights:
        return min_cvar(data["returns"], level=0.95).weights

    def parity(data: Arrays) -> Weights:
        return risk_parity(data["covariance"])

    def tree(data: Arrays) -> Weights:
        return hrp(data["covariance"])

    for module in (covariance, risk_parity_module, hrp_module):
        module.warm()
    goals = {20: "ratio >= 100", 100: "ratio >= 20", 500: "ratio >= 6"}
    rows = [
        row(f"mean-variance, {n}", f"mean_variance_{n}", n, _mean_variance, _check_utility, rivals, goal)
        for n, goal in goals.items()
    ]
    rows.append(row("risk parity, 500", "risk_parity", 500, parity, _check_parity, both, "ratio >= 25"))
    rows.append(row("HRP, 500", "hrp", 500, tree, _check_equal, "best of all three", "ratio >= 20"))
    for n in (100, 500):
        name = f"least expected shortfall, {n} x 1000"
        rows.append(row(name, f"min_cvar_{n}", n, cvar, _check_shortfall, both, "ratio >= 3"))
    return rows
