"""`alphamesh agent ...` and `alphamesh conformance`: options and help. What they do is imported when one is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, finish

app = typer.Typer(
    help="Bring your own agent.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the service, for example gap_agent.")],
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the package is made; importable by Python.")
    ] = Path(),
) -> None:
    """Make a working agent with its test, and show the one topology entry that registers it.

    Examples:

    alphamesh agent new gap_agent

    alphamesh agent new gap_agent --dir my_agents
    """
    from . import new_agent as commands

    finish(lambda: commands.run(name, folder))


def conformance(
    target: Annotated[
        str | None, typer.Option(metavar="HOST:PORT|unix:PATH", help="An agent that is up, in any language.")
    ] = None,
    module: Annotated[
        str | None, typer.Option(metavar="PACKAGE", help="A Python agent, which is started for the test.")
    ] = None,
    config: Annotated[str, typer.Option(metavar="JSON", help="Configuration of --module.")] = "{}",
    market_data: Annotated[
        str, typer.Option(metavar="HOST:PORT|unix:PATH", help="Where snapshots are served to --target.")
    ] = "127.0.0.1:7400",
    deadline: Annotated[float, typer.Option(metavar="SECONDS", min=0.05, help="Time that an answer may take.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Test any agent, in any language, against the contract. Exit code 1 when it does not conform.

    Examples:

    alphamesh conformance --module python_services.technical_agent

    alphamesh conformance --target 127.0.0.1:7001 --market-data 127.0.0.1:7400
    """
    from . import conformance as commands

    finish(lambda: commands.run(target, module, config, market_data, deadline, as_json))


def register(main: typer.Typer) -> None:
    """Adds both to the command line."""
    main.add_typer(app, name="agent")
    main.command()(conformance)
