"""Search for better parameters with Optuna: a seeded TPE sampler (Bergstra et al. 2011) over purged k-fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from . import splits
from .errors import TrainingError
from .fitting import Plan, Rows, Task, judge
from .recipes import Executor

MOST_TRIALS = 500

# name -> (lowest, highest, on a logarithmic scale)
SPACES: Mapping[str, Mapping[str, tuple[float, float, bool]]] = {
    "gradient_boosting": {
        "trees": (40, 200, False),
        "leaves": (3, 15, False),
        "learning_rate": (0.01, 0.1, True),
        "minimum_leaf_rows": (50, 500, True),
        "feature_fraction": (0.3, 1.0, False),
        "l2": (0.1, 100.0, True),
        "direction_l2": (100.0, 100_000.0, True),
        "direction_trees": (0, 60, False),
    },
    "ridge": {"l2": (0.1, 10_000.0, True)},
}


def best(
    rows: Rows, bars: int, plan: Plan, groups: int, trials: int, executor: Executor, done: Callable[[int], None]
) -> Plan:
    """`plan` with the parameters that did best in purged k-fold over `rows`, against the naive forecasts.

    The score is the sum of log loss and QLIKE, each in shares of the naive one. Raises TrainingError.
    """
    if not 0 < trials <= MOST_TRIALS:
        raise TrainingError("PARAMETER_RANGE", f"trials is {trials}; use 1 to {MOST_TRIALS}, or 0 for no search")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folds = list(splits.combinatorial(rows.bar, bars, groups, 1, plan.horizon, plan.embargo))

    def objective(trial: Any) -> float:
        chosen = {**plan.parameters, **_suggested(trial, plan)}
        tried = replace(plan, parameters=chosen)
        results = list(executor.map(judge, [Task(rows=rows, split=fold, plan=tried) for fold in folds]))
        done(trial.number + 1)
        shares = [
            each.metrics[name] / each.baseline[name] for each in results for name in ("log_loss", "volatility_qlike")
        ]
        return float(np.mean(shares))

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=plan.seed))
    study.enqueue_trial({name: plan.parameters[name] for name in SPACES[plan.engine]})  # the search never does worse
    study.optimize(objective, n_trials=trials)
    found = {name: type(plan.parameters[name])(value) for name, value in study.best_params.items()}
    return replace(plan, parameters={**plan.parameters, **found})


def _suggested(trial: Any, plan: Plan) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, (low, high, logarithmic) in SPACES[plan.engine].items():
        if isinstance(plan.parameters[name], int):
            chosen[name] = trial.suggest_int(name, int(low), int(high), log=logarithmic)
        else:
            chosen[name] = trial.suggest_float(name, low, high, log=logarithmic)
    return chosen
