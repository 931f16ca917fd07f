"""`alphamesh models ...`: options and help. What the commands do is imported when one is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import DataDir, Json, finish

app = typer.Typer(
    help="Model versions: what exists, which one answers, how they do.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[str, typer.Argument(help="Model, for example daily_direction.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """List all versions with stage, share of the questions and names.

    Examples:

    alphamesh models list

    alphamesh models list daily_direction --json
    """
    from . import models as commands

    finish(lambda: commands.list_versions(model, data_dir, json))


@app.command()
def show(
    model: Model,
    version: Annotated[int | None, typer.Argument(min=1, help="Version. Default: the champion, or the newest.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show one version: lineage, metrics, validation, what was observed of it, alerts, its way so far.

    Examples:

    alphamesh models show daily_direction

    alphamesh models show daily_direction 2 --json
    """
    from . import models as commands

    finish(lambda: commands.show(model, version, data_dir, json))


@app.command()
def register(
    folder: Annotated[Path, typer.Argument(help="Folder of a version: model.onnx, card.json, golden.json.")],
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Default: the name of the folder above.")] = None,
    owner: Annotated[str, typer.Option(help="Team or person who answers for it.")] = "operator",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Register a trained version with the system that is up: it is checked, numbered, signed, loaded and proved.

    Examples:

    alphamesh models register models/daily_direction/1

    alphamesh train daily_direction --out models && alphamesh models register models/daily_direction/1 --owner quant
    """
    from . import models as commands

    finish(lambda: commands.register(folder, model or folder.resolve().parent.name, owner, data_dir, json))


@app.command()
def promote(
    model: Model,
    version: Annotated[int, typer.Argument(min=1, help="Version.")],
    reason: Reason,
    check: Annotated[bool, typer.Option("--check", help="Check only and change nothing.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Move a version one stage on: VALIDATED to SHADOW, to CANARY, to CHAMPION. The system must be up.

    Examples:

    alphamesh models promote daily_direction 2 --reason "retrained on 2009"

    alphamesh models promote daily_direction 2 --reason "enough seen" --check
    """
    from . import models as commands

    finish(lambda: commands.promote(model, version, reason, check, data_dir, json))


@app.command()
def rollback(model: Model, reason: Reason, data_dir: DataDir = None, json: Json = False) -> None:
    """Take the canary, or else the champion, out of service at once; the champion before answers again.

    Example: alphamesh models rollback daily_direction --reason "forecasts look wrong"
    """
    from . import models as commands

    finish(lambda: commands.rollback(model, reason, data_dir, json))


@app.command()
def compare(
    model: Model,
    first: Annotated[int | None, typer.Argument(min=1, help="Version. Default: the champion.")] = None,
    second: Annotated[int | None, typer.Argument(min=1, help="Version. Default: the challenger.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Compare two versions: metrics of their training, and what was observed of them.

    Examples:

    alphamesh models compare daily_direction

    alphamesh models compare daily_direction 1 2 --json
    """
    from . import models as commands

    finish(lambda: commands.compare(model, first, second, data_dir, json))
