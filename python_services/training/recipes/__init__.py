"""Recipes: for each model one module that says which data, features, label, engine and evaluation it has.

A recipe module `python_services.training.recipes.<model_id>` offers `RECIPE`, an object with this interface. It runs
in a worker process of its own (`python -m python_services.training.worker`), so it imports its libraries inside
`train`: this package is imported by processes that have none of them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..cards import Card
from ..errors import TrainingError

T = TypeVar("T")
R = TypeVar("R")

Progress = Callable[[int, int, str], None]  # steps done, steps in all, what is done now


class Executor(Protocol):
    """Runs independent tasks, each in one thread: joblib by default, Ray on many machines."""

    name: str

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results in the order of `tasks`. What a task raises is raised here. Functions and tasks are picklable."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or output of a model, without the batch dimension: shape (30,) means [rows, 30]."""

    name: str
    shape: tuple[int, ...]
    datatype: str = "FP32"  # KServe v2's names: FP32, INT64, BYTES


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Rows whose answers every served copy must reproduce. Arrays are [rows, ...], a few rows of each."""

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    tolerance: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training gives. `card.onnx_sha256` and `card.code_version` are filled in by `artifacts.write`.

    files: what lies beside model.onnx, by name (a vocabulary, for example).
    fold_metrics: out of sample, one per test path, as FoldMetrics in the contract.
    """

    onnx_bytes: bytes
    card: Card
    golden: Golden
    max_batch_size: int = 1024
    files: Mapping[str, bytes] = field(default_factory=dict)
    fold_metrics: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """What a recipe is given.

    settings: the job's specification, as its JSON says it (see spec.py); {} for recipes that read files.
    folder: the job's own folder, where data that the service gathered lies and where a recipe may write.
    """

    seed: int
    folder: Path
    executor: Executor
    progress: Progress
    settings: Mapping[str, Any] = field(default_factory=dict)
    report_fold: Callable[[Mapping[str, Any]], None] = lambda _fold: None

    def rng(self) -> np.random.Generator:
        """Random numbers from the seed."""
        return np.random.default_rng(self.seed)


class Recipe(Protocol):
    """One model's way from data to an artefact.

    reads   "market": rows that the training service gathers from feature_store and market_data;
            "files": its own files, so no system is needed
    """

    model_id: str
    title: str
    reads: Literal["market", "files"]

    def defaults(self) -> Mapping[str, Any]:
        """The specification of the shipped version: what `alphamesh train <model_id>` trains without options."""

    def train(self, context: TrainContext) -> Trained:
        """Trains. Same context, same bytes. Raises TrainingError."""


def names() -> list[str]:
    """Models that have a recipe."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def find(model_id: str) -> Recipe:
    """The recipe of a model. Raises TrainingError (MODEL_UNKNOWN)."""
    if model_id not in names():
        raise TrainingError("MODEL_UNKNOWN", f"there is no recipe for {model_id!r}; there are {', '.join(names())}")
    recipe: Recipe = import_module(f"{__name__}.{model_id}").RECIPE
    return recipe
