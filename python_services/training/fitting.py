"""One direction and volatility model: fitted, calibrated and judged. Tasks are picklable, so any executor runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import engines, metrics, splits
from .errors import TrainingError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CALIBRATION_GROUPS = 3
_MINIMUM_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Complete rows only. features: rows x columns, single precision; `naive`: trailing variance, a forecast of it."""

    features: NDArray[np.float32]
    up: Floats
    ahead: Floats
    variance: Floats
    naive: Floats
    bar: Ints

    def take(self, chosen: Ints) -> Rows:
        """Only these rows."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})

    def __len__(self) -> int:
        return len(self.bar)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to fit: engine, parameters, seed, and what purging has to keep apart, in bars."""

    engine: str
    parameters: Mapping[str, Any]
    seed: int
    horizon: int
    embargo: int


@dataclass(frozen=True, kw_only=True)
class Model:
    """Both fitted parts; probability = 1 / (1 + exp(-(slope * score + offset)))."""

    direction: engines.Fitted
    variance: engines.Fitted
    slope: float
    offset: float

    def predict(self, features: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """(up probability, standard deviation of the return over the horizon) of each row."""
        logit = self.slope * self.direction.score(features) + self.offset
        probability: Floats = 1.0 / (1.0 + np.exp(-logit))
        deviation: Floats = np.exp(0.5 * self.variance.score(features))
        return probability, deviation


@dataclass(frozen=True, kw_only=True)
class Task:
    """Fit on the training rows of a split, judge on its tested rows."""

    rows: Rows
    split: splits.Split
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a task gives: the figures of its tested rows, and the predictions themselves."""

    split: splits.Split
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    probability: Floats
    deviation: Floats
    base_rate: float


def fit(rows: Rows, plan: Plan) -> Model:
    """Fits both parts on all `rows`; the calibration comes from rows that the fits behind it did not see."""
    if len(rows) < _MINIMUM_ROWS or rows.up.min() == rows.up.max():
        raise TrainingError(
            "DATA_TOO_SHORT", f"{len(rows)} complete rows of both directions are too few to fit; widen the range"
        )
    engine = engines.load(plan.engine)
    first, last = int(rows.bar.min()), int(rows.bar.max())
    scores, seen = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
    groups = splits.combinatorial(rows.bar - first, last - first + 1, CALIBRATION_GROUPS, 1, plan.horizon, plan.embargo)
    for split in groups:
        part = rows.take(split.train)
        if len(part) < _MINIMUM_ROWS // 2 or part.up.min() == part.up.max():
            continue
        fitted = engine.direction(part.features, part.up, plan.parameters, plan.seed)
        # Against the base rate of its training rows: where the tested group has many rises, the others have few, and
        # that alone would make good scores look wrong.
        scores[split.test] = fitted.score(rows.features[split.test]) - _log_odds(part.up)
        seen[split.test] = True
    slope, offset = calibration(scores[seen], rows.up[seen])
    return Model(
        direction=engine.direction(rows.features, rows.up, plan.parameters, plan.seed),
        variance=engine.variance(rows.features, rows.variance, plan.parameters, plan.seed),
        slope=slope,
        offset=round(offset - slope * _log_odds(rows.up), 6),
    )


def _log_odds(up: Floats) -> float:
    rate = float(up.mean())
    return float(np.log(rate / (1.0 - rate)))


def calibration(score: Floats, up: Floats) -> tuple[float, float]:
    """(slope, offset) of Platt's logistic calibration (1999), by Newton's method, with his smoothed targets.

    The slope is never below zero: scores that order rows the wrong way round are not turned, they say nothing.
    Rounded to six digits, so that the last bits of a sum do not change the artefact.
    """
    positive, n = float(up.sum()), len(up)
    target = np.where(up == 1.0, (positive + 1.0) / (positive + 2.0), 1.0 / (n - positive + 2.0))
    weights = np.array([1.0, 0.0])
    design = np.column_stack([score, np.ones(n)])
    for _ in range(50):
        probability = 1.0 / (1.0 + np.exp(-design @ weights))
        gradient = design.T @ (probability - target)
        hessian = (design * (probability * (1.0 - probability))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    if weights[0] <= 0.0 or not np.isfinite(weights).all():
        rate = float(np.mean(target))
        return 0.0, round(float(np.log(rate / (1.0 - rate))), 6)
    return round(float(weights[0]), 6), round(float(weights[1]), 6)


def judge(task: Task) -> Judged:
    """Fits and judges one split."""
    train, test = task.rows.take(task.split.train), task.rows.take(task.split.test)
    if not len(test):
        raise TrainingError("DATA_TOO_SHORT", "a group has no complete row to test; use fewer groups or a wider range")
    probability, deviation = fit(train, task.plan).predict(test.features)
    base_rate = float(train.up.mean())
    return Judged(
        split=task.split,
        metrics=figures(test, probability, deviation),
        baseline=naive_figures(test, base_rate),
        probability=probability,
        deviation=deviation,
        base_rate=base_rate,
    )


def figures(rows: Rows, probability: Floats, deviation: Floats) -> dict[str, float]:
    """All metrics of predictions of `rows`."""
    return {
        **metrics.direction(rows.up, probability, rows.ahead),
        **metrics.volatility(rows.variance, deviation),
    }


def naive_figures(rows: Rows, base_rate: float | Floats) -> dict[str, float]:
    """The same of who always says the base rate of the past, and the trailing volatility."""
    constant = np.broadcast_to(np.asarray(base_rate, dtype=np.float64), (len(rows),))
    found = figures(rows, constant, np.sqrt(rows.naive))
    return {name: value for name, value in found.items() if name != "calibration_error"}
