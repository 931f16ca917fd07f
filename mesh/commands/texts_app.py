"""`alphamesh texts ...`: options and help. What the commands do is imported when one is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import DataDir, Json, finish

app = typer.Typer(
    help="Texts about instruments, which the sentiment agents read.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def texts() -> None:
    """Texts about instruments, which the sentiment agents read."""


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Texts: .jsonl or .csv (docs/data.md).")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Take texts from a file into the system that is up. A repeat changes nothing.

    Examples:

    alphamesh texts import news_2009.jsonl

    alphamesh texts import news_2009.csv --json
    """
    from . import texts as commands

    finish(lambda: commands.import_(file, data_dir, json))
