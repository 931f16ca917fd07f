"""The market's regime: a Gaussian hidden Markov model, filtered forward over the snapshot's window. Pure.

What it sees of each bar: the universe's equal-weighted return and the logarithm of its realised volatility over
`volatility_bars` bars, both standardised by the training data. Parameters were fitted with hmmlearn on bundled data
before 2009 (`python -m python_services.training.recipes._market_regime`) and lie in regimes/ with their card; only
NumPy is needed here. Filtering is forward only: the probability at a bar uses bars up to it. Source: Rabiner 1989, "A
Tutorial on Hidden Markov Models", section III.A (scaled forward procedure).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from .estimates import Floats

FOLDER = Path(__file__).with_name("regimes")
SHIPPED = "equal_weight"


@dataclass(frozen=True, kw_only=True)
class Model:
    """states x ... arrays; states are ordered by volatility, calmest first."""

    name: str
    labels: tuple[str, ...]
    start: Floats
    transition: Floats
    mean: Floats
    covariance: Floats
    centre: Floats
    scale: Floats
    volatility_bars: int
    minimum_bars: int


@dataclass(frozen=True, kw_only=True)
class Regime:
    """The most probable regime, and the filtered probability of each."""

    label: str
    labels: tuple[str, ...]
    probability: tuple[float, ...]
    model: str


@cache
def load(name: str = SHIPPED) -> Model:
    """The parameters in regimes/<name>.json."""
    content: dict[str, Any] = orjson.loads((FOLDER / f"{name}.json").read_bytes())
    arrays = {
        key: np.array(content["parameters"][key], np.float64)
        for key in ("start", "transition", "mean", "covariance", "centre", "scale")
    }
    return Model(
        name=f"{name}:{content['version']}",
        labels=tuple(content["labels"]),
        volatility_bars=content["volatility_bars"],
        minimum_bars=content["minimum_bars"],
        **arrays,
    )


def observations(close: Floats, volatility_bars: int) -> Floats:
    """Rows of (return, log realised volatility), oldest first; close: bars x instruments without gaps.

    Realised volatility is the root of the mean squared return over `volatility_bars` bars, the newest included.
    """
    returns = (close[1:] / close[:-1] - 1.0).mean(axis=1)
    squares = np.convolve(returns * returns, np.full(volatility_bars, 1.0 / volatility_bars), mode="valid")
    # A universe that did not move at all has no logarithm; a millionth is far below any market.
    return np.column_stack((returns[volatility_bars - 1 :], 0.5 * np.log(np.maximum(squares, 1e-12))))


def log_densities(model: Model, rows: Floats) -> Floats:
    """rows x states: log of the Gaussian density of each observation in each state."""
    standard = (rows - model.centre) / model.scale
    found = np.empty((len(rows), len(model.labels)))
    for state, (mean, covariance) in enumerate(zip(model.mean, model.covariance, strict=True)):
        (a, b), (_, c) = covariance
        determinant = a * c - b * b
        x, y = (standard - mean).T
        quadratic = (c * x * x - 2.0 * b * x * y + a * y * y) / determinant
        found[:, state] = -0.5 * (quadratic + np.log(determinant)) - np.log(2.0 * np.pi)
    return found


def filtered(model: Model, rows: Floats) -> Floats:
    """Probability of each state at the last row, given all rows up to it."""
    logs = log_densities(model, rows)
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True)).tolist()
    into = model.transition.T.tolist()  # by the state that is moved to
    belief = [p * seen for p, seen in zip(model.start.tolist(), likelihood[0], strict=True)]
    for row in likelihood[1:]:  # plain floats: NumPy's overhead on three states is ten times the arithmetic
        total = sum(belief)
        belief = [p / total for p in belief]
        belief = [seen * sum(map(mul, belief, moved)) for seen, moved in zip(row, into, strict=True)]
    return np.array(belief) / sum(belief)


def tell(close: Floats, model: Model) -> Regime | None:
    """The regime at the newest bar; None when the window is too short, or has a gap, or nothing complete.

    close: bars x instruments, adjusted, NaN where there is no bar. Instruments without any bar in the window (not
    listed yet) are left out; one with some bars missing is a gap.
    """
    there = ~np.isnan(close)
    listed = there.any(axis=0)
    window = close[:, listed]
    if not listed.any() or len(close) < model.minimum_bars or not there[:, listed].all():
        return None
    probability = filtered(model, observations(window, model.volatility_bars))
    return Regime(
        label=model.labels[int(np.argmax(probability))],
        labels=model.labels,
        probability=tuple(probability.tolist()),
        model=model.name,
    )
