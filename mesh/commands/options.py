"""What all commands share: options, and how a command ends the program."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Data directory of the run. Default: a new one, or the latest."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def finish(command: Callable[[], Awaitable[int]]) -> None:
    """Runs a command and ends the program with its exit code."""
    from .. import interrupts

    try:
        code = interrupts.run(command)
    except Exception as error:
        from ..failures import explained

        message = explained(error)
        if message is None:
            raise
        print(f"alphamesh: {message}", file=sys.stderr)
        code = 1
    raise typer.Exit(code)
