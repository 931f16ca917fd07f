"""train: a model from its recipe, to a version that can be served."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import DataDir, Json, finish

DEFAULT_OUT = Path("var") / "models"


def register(app: typer.Typer) -> None:
    """Adds `alphamesh train`."""
    app.command()(train)


def train(
    model: Annotated[str | None, typer.Argument(help="Model; none: list those that have a recipe.")] = None,
    engine: Annotated[
        Literal["joblib", "ray"] | None,
        typer.Option(help="Where the fits run: this machine, or a Ray cluster (RAY_ADDRESS, else one started here)."),
    ] = None,
    algorithm: Annotated[
        str | None, typer.Option(metavar="gradient_boosting|ridge", help="What is fitted; the recipe's without.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=0, max=500, help="Search for parameters with Optuna.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Fits at a time.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every random number.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another parameter of the algorithm.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Model repository that the version goes to.")] = DEFAULT_OUT,
    version: Annotated[int | None, typer.Option(min=1, help="Its number there; the next free one without.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Train a model from its recipe: same data, same seed, same bytes.

    With a system up, its training service does it; without one, what is needed is started for as long as it takes.

    Examples:

    alphamesh train daily_direction

    alphamesh train daily_direction --engine ray --workers 8 --trials 50

    alphamesh train daily_direction --algorithm ridge --seed 3 --out my_models

    alphamesh train daily_direction --set trees=60 --set leaves=5
    """
    changes = {"executor": engine, "trials": trials, "workers": workers}
    given = {name: value for name, value in changes.items() if value is not None}
    finish(lambda: _train(model, algorithm, seed, given, setting or [], out, version, data_dir, json))


async def _train(
    model: str | None,
    algorithm: str | None,
    seed: int | None,
    given: Mapping[str, Any],
    settings: list[str],
    out: Path,
    version: int | None,
    data_dir: Path | None,
    as_json: bool,
) -> int:
    from .. import topology, training
    from ..errors import MeshError

    recipes, shipped_models = training.recipes(), topology.ROOT / "triton_models"
    if model is None:
        return _list(recipes, as_json)
    if model not in recipes:
        raise MeshError(f"there is no recipe for {model!r}; there are {', '.join(recipes)}")
    training.check_free(model, out, version)
    wanted = dict(recipes[model]["defaults"])
    wanted["parameters"] = {**wanted.get("parameters", {}), **given, **dict(map(_setting, settings))}
    if algorithm is not None:
        wanted["engine"] = algorithm
    if seed is not None:
        wanted["seed"] = seed
    progress = _Progress(model, quiet=as_json)
    with progress.bar:
        if recipes[model]["reads"] == "files":
            with tempfile.TemporaryDirectory(prefix="alphamesh-") as folder:
                result = await training.train_from_files(Path(folder), wanted, progress.show)
                shipped = training.same_as(result, shipped_models)
                installed = training.install(result, out, version)
        else:
            async with training.system_for(data_dir) as (system, folder_of):
                result = await training.train(system, folder_of, wanted, progress.show)
                shipped = training.same_as(result, shipped_models)
                installed = training.install(result, out, version)
    _show(result, installed, shipped, as_json)
    return 0


def _setting(text: str) -> tuple[str, Any]:
    from ..errors import MeshError

    name, sign, value = text.partition("=")
    if not sign or not name:
        raise MeshError(f"--set {text}: write it like trees=60")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _list(recipes: Mapping[str, Any], as_json: bool) -> int:
    from .. import tables

    if as_json:
        import orjson

        print(orjson.dumps(recipes, option=orjson.OPT_INDENT_2).decode())
        return 0
    shown = tables.table("", "model", "what it is", "data")
    for name, facts in recipes.items():
        shown.add_row(name, facts["title"], "the system's" if facts["reads"] == "market" else "files of the project")
    tables.console.print(shown)
    return 0


def _show(result: Any, installed: Path, shipped: int | None, as_json: bool) -> None:
    from .. import tables

    card = result.card
    if as_json:
        import orjson

        content = {
            **result.job,
            "model_id": card["model_id"],
            "artifact": str(installed),
            "onnx_sha256": result.onnx_sha256,
            "same_as_shipped_version": shipped,
            "metrics": card["metrics"],
            "baseline": card["baseline"],
        }
        print(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode())
        return
    shown = tables.table("", "metric", "model", "naive", numbers=frozenset({"model", "naive"}))
    for name, value in card["metrics"].items():
        naive = card["baseline"].get(name)
        shown.add_row(name, f"{value:.4f}", "" if naive is None else f"{naive:.4f}")
    tables.console.print(shown)
    print(f"sha256 of model.onnx: {result.onnx_sha256}")
    if shipped is not None:
        print(f"the same bytes as version {shipped} of {card['model_id']} that ships with the project")
    print(f"version: {installed}")


class _Progress:
    """A bar on a terminal, a line for each stage when piped."""

    def __init__(self, model: str, *, quiet: bool) -> None:
        from ..progress import Bar

        self.bar = Bar(model, "{task.fields[stage]}", quiet=quiet, stage="")
        self._quiet, self._stage, self._model = quiet, "", model

    def show(self, done: int, total: int, stage: str) -> None:
        """A step was done."""
        if self.bar.update(done, total or None, stage=stage) or self._quiet or stage in ("", self._stage):
            return
        self._stage = stage
        print(f"{self._model}: {stage}" + (f" ({done}/{total})" if total else ""), flush=True)
