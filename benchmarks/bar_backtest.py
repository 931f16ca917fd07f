"""Twenty parameter sets on a hundred instruments and five years of daily bars, against vectorbt 1.2.

The peer runs in its own environment, which `make bench-peers` installs.

Both sides get the same bars (a seeded random walk) and the same target positions (moving-average
crossovers, decided at a close, traded at the next open), one portfolio with shared cash for each
parameter set, 5 bp of slippage and 5 bp of fees, and deliver the equity after each bar. Ours runs
every order through the pre-trade gate, which vectorbt has none of. The equities must agree within
one part in a million: we round slippage to the tick.
"""

from __future__ import annotations

import time
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.client import Peer
from benchmarks.runner import Case
from execution_core.gate.facts import InstrumentFacts, Policy
from execution_core.gate.gate import Gate
from execution_core.simulation.backtest import KEEP, BacktestResult, open_gate, run
from execution_core.simulation.bars import fill_models
from execution_core.simulation.fees import FeeModel
from execution_core.types import BAR, NANO

STEPS, INSTRUMENTS, PATHS = 1_260, 100, 20
LOTS, CASH = 100, 100_000_000
TICKS = 10_000  # of one unit of money
COST_PPM = 500
DAY_NS = 86_400 * 10**9


@cache
def prices() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Opens and closes in ticks."""
    generator = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(generator.standard_normal((STEPS, INSTRUMENTS)) * 0.015, axis=0))
    opened = np.vstack([close[:1], close[:-1]]) * np.exp(generator.standard_normal(close.shape) * 0.003)
    return np.rint(opened * TICKS).astype(np.int64), np.rint(close * TICKS).astype(np.int64)


@cache
def bars() -> NDArray[np.void]:
    opened, close = prices()
    matrix = np.zeros((STEPS, INSTRUMENTS), BAR)
    matrix["ts_event_ns"] = (1 + np.arange(STEPS))[:, None] * DAY_NS
    matrix["open"], matrix["close"] = opened, close
    matrix["high"], matrix["low"] = np.maximum(opened, close), np.minimum(opened, close)
    matrix["volume"] = 1_000_000
    return matrix


@cache
def targets() -> NDArray[np.int64]:
    """Long LOTS while the fast average is above the slow one; KEEP where nothing changes."""
    _, close = prices()
    total = np.cumsum(np.vstack([np.zeros((1, INSTRUMENTS)), close]), axis=0)
    found = np.full((PATHS, STEPS, INSTRUMENTS), KEEP)
    for path in range(PATHS):
        fast, slow = 5 + path, 20 + 3 * path
        averages = [(total[n:] - total[:-n]) / n for n in (fast, slow)]
        above = averages[0][slow - fast :] > averages[1]
        changed = np.vstack([above[:1], above[1:] != above[:-1]])
        found[path, slow - 1 :] = np.where(changed, np.where(above, LOTS, 0), KEEP)
    return found


@cache
def account() -> Gate:
    facts = [InstrumentFacts(tick_value=NANO // TICKS, fee_ppm=COST_PPM) for _ in range(INSTRUMENTS)]
    money = CASH * NANO
    policy = Policy(
        version=1,
        ts_ns=0,
        max_age_ns=10**18,
        price_max_age_ns=2 * DAY_NS,
        gross_limit=money,
        concentration_limit=money // 10,
        drawdown_limit=money // 2,
        leverage_limit_bps=10_000,
    )
    return open_gate(facts, policy, cash=money)


def backtest(threads: int) -> tuple[float, BacktestResult]:
    models = fill_models(INSTRUMENTS, half_spread_ppm=COST_PPM)
    fees = FeeModel(taker_rate_e8=COST_PPM * 100, rounding_nano=1)
    arguments: dict[str, Any] = {"gate": account(), "models": models, "fees": fees, "threads": threads}
    matrix, wanted = bars(), targets()
    started = time.perf_counter()
    result = run(matrix, wanted, **arguments)
    return time.perf_counter() - started, result


def ours(threads: int) -> float:
    return backtest(threads)[0] / targets().size * 1e9


PEER = Peer("vectorbt", "vectorbt_bars.py", "uv pip install -p .bench/vectorbt vectorbt==1.2.0")


@cache
def task() -> dict[str, NDArray[Any]]:
    """The same bars and targets for the peer, each target in the bar that it trades in."""
    opened, close = prices()
    size = np.where(targets() == KEEP, np.nan, targets())
    size = np.concatenate([np.full((PATHS, 1, INSTRUMENTS), np.nan), size[:, :-1]], axis=1)
    rate = np.array(COST_PPM / 1e6)
    return {
        "open": opened / TICKS,
        "close": close / TICKS,
        "size": size.transpose(1, 0, 2).reshape(STEPS, PATHS * INSTRUMENTS),
        "paths": np.array(PATHS),
        "cash": np.array(CASH),
        "fees": rate,
        "slippage": rate,
    }


def peer() -> float:
    """One run of the peer, compared with one of ours."""
    seconds, answer, _ = PEER.run("portfolios", task())
    _, result = backtest(1)
    if len(result.fills) != answer["orders"]:
        raise AssertionError(f"{len(result.fills)} fills, the peer has {answer['orders']}")
    worst = float(np.abs(result.equity.T / NANO / answer["equity"] - 1).max())
    if worst > 1e-6:
        raise AssertionError(f"equities differ by {worst:.2e}")
    return seconds / targets().size * 1e9


def cases() -> list[Case]:
    """The same backtest on one thread and on two."""
    return [
        Case(
            name=f"portfolios on {threads} thread{'s' * (threads > 1)}",
            unit="ns/bar",
            ours=partial(ours, threads),
            peer=peer,
            peer_name="vectorbt 1.2.0, no gate",
            goal="ratio >= 10",
        )
        for threads in (1, 2)
    ]
