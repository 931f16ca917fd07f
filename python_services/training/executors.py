"""Where independent fits run: on this machine's cores through joblib, or on a Ray cluster. Same results either way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from .errors import TrainingError
from .recipes import Executor

T = TypeVar("T")
R = TypeVar("R")

NAMES = ("joblib", "ray")


class JoblibExecutor:
    """Processes of this machine; with one worker, this process."""

    name = "joblib"

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results in order, as they come."""
        import joblib

        parallel = joblib.Parallel(n_jobs=self._workers, return_as="generator")
        yield from parallel(joblib.delayed(function)(task) for task in tasks)


class RayExecutor:
    """A Ray cluster: the one that RAY_ADDRESS names, or one of this machine for as long as this process runs."""

    name = "ray"

    def __init__(self, workers: int) -> None:
        import os

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        if not ray.is_initialized():
            local: dict[str, Any] = (
                {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "_node_ip_address": "127.0.0.1"}
            )
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False, **local)
        self._ray = ray

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results in order, as they come. A task of which the machine was lost is run again by Ray."""
        remote = self._ray.remote(num_cpus=1)(function)
        for waiting in [remote.remote(task) for task in tasks]:
            yield self._ray.get(waiting)


def open_executor(name: str, workers: int) -> Executor:
    """Raises TrainingError (ENGINE_MISSING) when it is not installed."""
    if name not in NAMES:
        raise TrainingError("ENGINE_UNKNOWN", f"there is no executor {name!r}; use one of {', '.join(NAMES)}")
    try:
        return JoblibExecutor(workers) if name == "joblib" else RayExecutor(workers)
    except ImportError as error:
        remedy = "`make setup-train`" if name == "joblib" else "`make setup`, or train with --engine joblib"
        raise TrainingError("ENGINE_MISSING", f"{error.name} is not installed; run {remedy}") from error
