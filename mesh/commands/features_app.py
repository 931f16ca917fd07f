"""`alphamesh features ...`: options and help. What the commands do is imported when one is run."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from .options import DataDir, Json, finish

app = typer.Typer(
    help="Point-in-time features: what there is, past rows on disk, and whether online equals historical.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SetName = Annotated[
    str, typer.Option("--set", metavar="NAME|VERSION", help="Feature set: its name (the newest), or its hash.")
]
Start = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day (UTC). Default: all.")]
End = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day (UTC). Default: all.")]
DEFAULT_SET = "daily_technical"


@app.command("list")
def list_(
    feature_set: Annotated[
        str | None, typer.Option("--set", metavar="NAME|VERSION", help="Only the features of this set.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """List features with version, owner and lineage, and the feature sets; of a run that is up or down.

    Examples:

    alphamesh features list

    alphamesh features list --set daily_technical --json
    """
    from . import features as commands

    finish(lambda: commands.show(feature_set, data_dir, json))


@app.command()
def check(
    feature_set: SetName = DEFAULT_SET,
    start: Start = None,
    end: End = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Largest relative difference; 0 means equal bit for bit.")
    ] = 0.0,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Compare what was served online with what the historical path gives, up or down. Exit code 1 on a difference.

    Examples:

    alphamesh features check

    alphamesh features check --start 2009-07-01 --end 2009-12-31 --tolerance 1e-12
    """
    from . import features as commands

    finish(lambda: commands.check(feature_set, start, end, tolerance, data_dir, json))


@app.command()
def backfill(
    feature_set: SetName = DEFAULT_SET,
    start: Start = None,
    end: End = None,
    instruments: Annotated[str | None, typer.Option(help="Separated by commas. Default: all.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it and return.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Compute past rows onto disk, in the system that is up, and show how far it is. Ctrl-C stops the job.

    What is written is complete and correct whenever it stops; a repeat computes only what is missing.

    Examples:

    alphamesh features backfill

    alphamesh features backfill --instruments AAPL,MSFT --start 2009-01-01 --end 2010-06-30
    """
    from . import features as commands

    finish(lambda: commands.backfill(feature_set, start, end, instruments, detach, data_dir, json))
