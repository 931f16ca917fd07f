"""Options and help of the commands that change a system while it is up."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DataDir
from .options import finish as _finish

certificates_app = typer.Typer(name="certificates", help="Identities of services and clients.", no_args_is_help=True)


def scale(
    service: Annotated[str, typer.Argument(help="Service, or service@version.")],
    replicas: Annotated[int, typer.Argument(min=1, max=32, help="How many there shall be.")],
    data_dir: DataDir = None,
) -> None:
    """Start or stop replicas of a service while calls flow; returns when it is done. No call fails.

    Example: alphamesh scale technical_agent 3
    """
    from . import control as commands

    _finish(lambda: commands.scale(service, replicas, data_dir))


def drain(
    replica: Annotated[str, typer.Argument(help="As `alphamesh status` names it.")], data_dir: DataDir = None
) -> None:
    """Stop one replica: no new calls, those that it has are answered, then it ends.

    Example: alphamesh drain technical_agent-2
    """
    from . import control as commands

    _finish(lambda: commands.drain(replica, data_dir))


def weights(
    service: Annotated[str, typer.Argument(help="Service.")],
    shares: Annotated[list[str], typer.Argument(metavar="VERSION=PERCENT...", help="They sum to 100.")],
    data_dir: DataDir = None,
) -> None:
    """Divide the calls of a service between the versions that the topology has.

    Example: alphamesh weights technical_agent stable=90 v2=10
    """
    from . import control as commands

    _finish(lambda: commands.weights(service, shares, data_dir))


@certificates_app.callback()
def certificates() -> None:
    """Identities of services and clients."""


@certificates_app.command()
def rotate(
    identity: Annotated[str | None, typer.Argument(help="Service or client. Default: all.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Give new certificates now; the supervisor does it by itself at half of their lifetime. No call is dropped.

    Example: alphamesh certificates rotate technical_agent
    """
    from . import control as commands

    _finish(lambda: commands.rotate(identity, data_dir))


def register(app: typer.Typer) -> None:
    """Adds the commands to `alphamesh`."""
    for command in (scale, drain, weights):
        app.command()(command)
    app.add_typer(certificates_app)
