"""Engines: ways to fit the two parts of a direction model. Described here without their libraries.

A fitted part gives a raw score; a direction's is a log-odds, a volatility's is the logarithm of a variance. Both the
library and its ONNX nodes give that score, so they can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import TrainingError

Floats = NDArray[np.float64]
Parameters = Mapping[str, Any]


class Fitted(Protocol):
    """One fitted part."""

    def score(self, features: NDArray[np.float32]) -> Floats:
        """Raw score of each row, in double precision, by the library itself."""

    def nodes(self, prefix: str, features: str, score: str) -> tuple[list[Any], list[Any]]:
        """ONNX nodes and initializers that make `score` [n, 1] from `features` [n, k]; names begin with `prefix`."""


class Engine(Protocol):
    """Fits both parts; the same data, parameters and seed give the same part, bit for bit."""

    def direction(self, features: NDArray[np.float32], up: Floats, parameters: Parameters, seed: int) -> Fitted:
        """up: 0 or 1 of each row."""

    def variance(self, features: NDArray[np.float32], variance: Floats, parameters: Parameters, seed: int) -> Fitted:
        """variance: realised variance of each row, above zero."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What ListEngines says of an engine. `defaults`: numbers, choices and switches by name."""

    name: str
    distribution: str
    module: str
    text: str
    defaults: Parameters

    @property
    def version(self) -> str:
        """Of the library; empty when it is not installed."""
        try:
            return f"{self.distribution} {metadata.version(self.distribution)}"
        except metadata.PackageNotFoundError:
            return ""


# Parameters of the training itself, which every engine understands.
COMMON: Parameters = {
    "executor": "joblib",  # where fits run: joblib or ray
    "workers": 1,  # fits at a time
    "trials": 0,  # of the search for better parameters; 0: none
    "holdout_bars": 126,  # at the end of the range: never trained on, the last judge
    "walk_forward_folds": 8,
    "minimum_train_bars": 500,  # before the first walk-forward test
}

ENGINES: Mapping[str, Description] = {
    each.name: each
    for each in (
        Description(
            name="gradient_boosting",
            distribution="lightgbm",
            module="gradient_boosting",
            text="Gradient-boosted trees (LightGBM), one thread, deterministic.",
            defaults={
                "trees": 120,
                "leaves": 7,
                "learning_rate": 0.03,
                "minimum_leaf_rows": 200,
                "feature_fraction": 0.6,
                "row_fraction": 0.7,
                "l2": 10.0,
                "direction_l2": 10_000.0,  # of the line that the trees of the direction begin from
                "direction_trees": 0,
            },
        ),
        Description(
            name="ridge",
            distribution="scikit-learn",
            module="ridge",
            text="Linear baseline (scikit-learn): logistic regression and ridge, both L2-regularised.",
            defaults={"l2": 100.0},
        ),
    )
}


def describe(name: str) -> Description:
    """Raises TrainingError (ENGINE_UNKNOWN)."""
    if name not in ENGINES:
        raise TrainingError("ENGINE_UNKNOWN", f"there is no engine {name!r}; there are {', '.join(ENGINES)}")
    return ENGINES[name]


def parameters(name: str, given: Parameters) -> dict[str, Any]:
    """All parameters of a job: the defaults, and what differs. Raises TrainingError (PARAMETER_UNKNOWN)."""
    known = {**COMMON, **describe(name).defaults}
    for key, value in given.items():
        if key not in known:
            raise TrainingError("PARAMETER_UNKNOWN", f"{name} has no parameter {key!r}; it has {', '.join(known)}")
        wanted = type(known[key])
        if isinstance(value, bool) != (wanted is bool) or not isinstance(
            value, (int, float) if wanted is float else wanted
        ):
            raise TrainingError("PARAMETER_TYPE", f"{key} is {value!r}; give it as {wanted.__name__}")
    return {key: type(default)(given.get(key, default)) for key, default in known.items()}


def load(name: str) -> Engine:
    """The engine itself, with its library. Raises TrainingError (ENGINE_UNKNOWN, ENGINE_MISSING)."""
    try:
        engine: Engine = import_module(f"{__name__}.{describe(name).module}").ENGINE
    except ImportError as error:
        raise TrainingError("ENGINE_MISSING", f"{error.name} is not installed; run `make setup-train`") from error
    return engine
