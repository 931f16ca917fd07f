"""`python -m python_services.training.recipes.<model_id>`: trains the shipped version here, without a system."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .. import artifacts
from ..errors import TrainingError
from ..executors import open_executor
from . import Recipe, TrainContext


def main(recipe: Recipe, **parameters: str) -> int:
    """Options: --into FOLDER (default triton_models), --set name=value; `parameters` are names and their help."""
    parser = argparse.ArgumentParser(prog=f"python -m python_services.training.recipes.{recipe.model_id}")
    parser.add_argument("--into", type=Path, default=artifacts.ROOT / "triton_models", help="model repository")
    for name, text in parameters.items():
        parser.add_argument(f"--{name}", dest=name, help=text)
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in parameters if getattr(arguments, name) is not None}
    settings = dict(recipe.defaults())
    settings["parameters"] = {**settings["parameters"], **given}
    with tempfile.TemporaryDirectory() as folder:
        context = TrainContext(
            seed=int(settings["seed"]),
            folder=Path(folder),
            executor=open_executor("joblib", 1),
            progress=lambda done, total, stage: print(f"{done}/{total} {stage}", file=sys.stderr, flush=True),
            settings=settings,
        )
        try:
            trained = recipe.train(context)
        except TrainingError as error:
            print(f"{error.reason}: {error.message}", file=sys.stderr)
            return 1
    written = artifacts.write(arguments.into, trained, 1, replace=True)
    for name, value in trained.card.metrics.items():
        print(f"{name:36} {value:.6f}")
    print(f"model.onnx sha256 {trained.card.onnx_sha256}, in {written}")
    return 0
