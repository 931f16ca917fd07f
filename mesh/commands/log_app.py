"""`alphamesh log ...`: options and help. What the commands do is imported when one is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import DataDir, Json, finish

app = typer.Typer(
    help="Read and check the event log, of a run that is up or down.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Streams = Annotated[list[str] | None, typer.Option("--stream", "-s", help="Only this stream; may be repeated.")]
FromSeq = Annotated[int, typer.Option("--from-seq", min=1, help="Begin here; with one --stream.")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", "-t", help="Only events of this type, for example OrderFilled; may be repeated."),
]
Decision = Annotated[str | None, typer.Option("--decision", help="Only what belongs to this decision.")]
Correlation = Annotated[str | None, typer.Option("--correlation", help="Only events with this correlation id.")]


@app.command()
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="This many of the last events.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new ones until Ctrl-C.")] = False,
    stream: Streams = None,
    from_seq: FromSeq = 1,
    types: Types = None,
    decision: Decision = None,
    correlation: Correlation = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show the last events by market time.

    Examples:

    alphamesh log tail -n 50 --stream execution

    alphamesh log tail --follow --type OrderFilled --json
    """
    from .. import event_filter
    from . import log as commands

    finish(
        lambda: commands.tail(
            event_filter.wanted(stream, from_seq, types, decision, correlation), lines, follow, data_dir, json
        )
    )


@app.command()
def grep(
    pattern: Annotated[str, typer.Argument(help="Regular expression, over each event as JSON.")],
    stream: Streams = None,
    from_seq: FromSeq = 1,
    types: Types = None,
    decision: Decision = None,
    correlation: Correlation = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show the events that match. Exit code 1 when none does.

    Examples:

    alphamesh log grep AAPL --type OrderFilled

    alphamesh log grep '"state":"ORDER_STATE_DENIED"' --stream execution --json
    """
    from .. import event_filter
    from . import log as commands

    finish(
        lambda: commands.grep(
            event_filter.wanted(stream, from_seq, types, decision, correlation, pattern), data_dir, json
        )
    )


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="FILE.jsonl, FILE.parquet, or - for JSON lines on standard output.")],
    stream: Streams = None,
    from_seq: FromSeq = 1,
    types: Types = None,
    decision: Decision = None,
    correlation: Correlation = None,
    data_dir: DataDir = None,
) -> None:
    """Write events to a file: JSON lines or Parquet.

    Examples:

    alphamesh log export events.parquet

    alphamesh log export - --decision S-0042 | jq .payload
    """
    from .. import event_filter
    from . import log as commands

    finish(lambda: commands.export(event_filter.wanted(stream, from_seq, types, decision, correlation), file, data_dir))


@app.command()
def verify(stream: Streams = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Walk the hash chain of every journal and of its copy in the event log.

    Reports the first difference with both sides. Exit code 1 when a chain is broken or a copy differs. A copy that
    ends early is behind, which is no error: its outbox catches up.

    Examples:

    alphamesh log verify

    alphamesh log verify --stream execution --data-dir var/latest --json
    """
    from . import log as commands

    finish(lambda: commands.verify(stream or (), data_dir, json))
