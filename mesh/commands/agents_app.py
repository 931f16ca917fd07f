"""`alphamesh agents ...`: options and help. What the commands do is imported when one is run."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DataDir, Json, finish

app = typer.Typer(
    help="Agents: who is heard, what came of their forecasts; pause and resume.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Agent = Annotated[str, typer.Argument(help="Agent, for example technical.trend.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]


@app.command("list")
def list_(data_dir: DataDir = None, json: Json = False) -> None:
    """List the agents that were seen, with state and track record.

    Examples:

    alphamesh agents list

    alphamesh agents list --json
    """
    from . import agents as commands

    finish(lambda: commands.list_agents(data_dir, json))


@app.command()
def show(agent: Agent, data_dir: DataDir = None, json: Json = False) -> None:
    """Show one agent: state, track record by version and market regime, calibration.

    Examples:

    alphamesh agents show technical.trend

    alphamesh agents show technical.trend --json
    """
    from . import agents as commands

    finish(lambda: commands.show(agent, data_dir, json))


@app.command()
def pause(agent: Agent, reason: Reason, data_dir: DataDir = None, json: Json = False) -> None:
    """From the next decision on the agent is recorded and weighs nothing. The system must be up.

    Example: alphamesh agents pause technical.trend --reason "looks wrong since the split"
    """
    from . import agents as commands

    finish(lambda: commands.pause(agent, reason, data_dir, json))


@app.command()
def resume(agent: Agent, reason: Reason, data_dir: DataDir = None, json: Json = False) -> None:
    """The agent is heard again, whether it was paused or quarantined. The system must be up.

    Example: alphamesh agents resume technical.trend --reason "checked"
    """
    from . import agents as commands

    finish(lambda: commands.resume(agent, reason, data_dir, json))
