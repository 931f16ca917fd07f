"""The `alphamesh` command line: options and help. What the commands do is imported when one is run."""

from __future__ import annotations

from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..wish import Wish
from . import agent_app, control_app, train
from .agents_app import app as agents_app
from .features_app import app as features_app
from .log_app import app as log_app
from .models_app import app as models_app
from .options import DataDir, Json
from .options import finish as _finish
from .texts_app import app as texts_app

START, END = datetime.combine(Wish.start, time()), datetime.combine(Wish.end, time())

app = typer.Typer(
    name="alphamesh",
    help="A gRPC service mesh for AI-agent trading: agents propose, a risk core disposes.",
    epilog="Try it: `alphamesh session --up` starts everything, trades the bundled year and reports.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(agents_app, name="agents")
app.add_typer(features_app, name="features")
app.add_typer(log_app, name="log")
app.add_typer(models_app, name="models")
app.add_typer(texts_app, name="texts")
agent_app.register(app)
control_app.register(app)
train.register(app)

TopologyFile = Annotated[Path | None, typer.Option("--topology", metavar="FILE", help="Another topology.yaml.")]
NatsCluster = Annotated[
    int | None, typer.Option("--nats-cluster", metavar="N", help="Run the event log as a cluster of N servers: 3 or 5.")
]
Journal = Annotated[
    str | None,
    typer.Option(
        "--journal",
        metavar="sqlite|postgres|nats|ADDRESS",
        help="Where the journals lie: files, a PostgreSQL of this run, the event log's servers, or a server's address.",
    ),
]
State = Literal["ACTIVE", "REDUCE_ONLY", "CANCEL_ALL", "FLATTEN", "HALTED"]


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    data_dir: DataDir = None,
    topology: TopologyFile = None,
    nats_cluster: NatsCluster = None,
    journal: Journal = None,
) -> None:
    """Start all services and keep them running until Ctrl-C or `alphamesh down`.

    Examples:

    alphamesh up --detach

    alphamesh up --nats-cluster 3 --journal postgres
    """
    from . import system as commands

    _finish(lambda: commands.up(detach, data_dir, topology, nats_cluster, journal))


@app.command()
def topology(
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw it: methods on hover.")] = None,
    file: TopologyFile = None,
    as_json: Json = False,
) -> None:
    """Check a topology, and show who may call and read what.

    Examples:

    alphamesh topology --svg topology.svg

    alphamesh topology --topology mine.yaml --json
    """
    from . import topology as commands

    _finish(lambda: commands.topology(svg, file, as_json))


@app.command()
def down(data_dir: DataDir = None) -> None:
    """Stop the system that is up, in order.

    Example: alphamesh down
    """
    from . import system as commands

    _finish(lambda: commands.down(data_dir))


@app.command()
def status(data_dir: DataDir = None, json: Json = False) -> None:
    """Show every process: state, health, restarts. Exit code 1 when something is not serving.

    Example: alphamesh status --json
    """
    from . import system as commands

    _finish(lambda: commands.status(data_dir, json))


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="Only this process, for example execution or nats.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Begin with this many of the last lines.")] = 50,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Print logs, by time.

    Example: alphamesh logs execution -f
    """
    from . import system as commands

    _finish(lambda: commands.print_logs(service, follow, lines, data_dir, json))


@app.command()
def session(
    up: Annotated[bool, typer.Option("--up", help="Start the system first and stop it at the end.")] = False,
    local: Annotated[bool, typer.Option("--local", help="All services in this process, without sockets.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as JSON, too.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="With --up: stay up afterwards until Ctrl-C.")] = False,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First trading day.")] = START,
    end: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Last trading day.")] = END,
    instruments: Annotated[str, typer.Option(help="Universe, separated by commas.")] = ",".join(Wish.instruments),
    account: Annotated[str, typer.Option(help="Account that trades.")] = Wish.account,
    cash: Annotated[str, typer.Option(help="Starting cash.")] = Wish.cash,
    currency: Annotated[str, typer.Option(help="Currency of the account.")] = Wish.currency,
    method: Annotated[Literal["MEAN_VARIANCE", "RISK_PARITY"], typer.Option(help="Portfolio.")] = "MEAN_VARIANCE",
    lookback: Annotated[int, typer.Option(min=2, max=5000, help="Bars of history in each decision.")] = Wish.lookback,
    risk_aversion: Annotated[float, typer.Option(help="Weight of variance against return.")] = Wish.risk_aversion,
    maximum_weight: Annotated[float, typer.Option(help="Largest weight of one instrument.")] = Wish.maximum_weight,
    maximum_turnover: Annotated[float, typer.Option(help="Largest one-way turnover of a day.")] = Wish.maximum_turnover,
    short: Annotated[bool, typer.Option("--short", help="Allow short positions.")] = False,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="How the agents decide together. Default: mesh/policy.yaml.")
    ] = Wish.policy,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random number.")] = Wish.seed,
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="Your bars (CSV or Parquet).")] = None,
    instruments_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Your instruments (YAML).")] = None,
    texts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Texts to take in first (JSON Lines, CSV).")
    ] = None,
    data_dir: DataDir = None,
    topology: TopologyFile = None,
    nats_cluster: NatsCluster = None,
    journal: Journal = None,
) -> None:
    """Trade a range of days and report what happened.

    Examples:

    alphamesh session --up --report report.json

    alphamesh session --local --method RISK_PARITY --start 2010-01-04 --end 2010-03-31

    alphamesh session --local --policy my-policy.yaml
    """
    from . import session as commands

    wish = Wish(
        start=start.date(),
        end=end.date(),
        instruments=tuple(name.strip() for name in instruments.split(",") if name.strip()),
        account=account,
        cash=cash,
        currency=currency,
        method=method,
        lookback=lookback,
        risk_aversion=risk_aversion,
        maximum_weight=maximum_weight,
        maximum_turnover=maximum_turnover,
        short_allowed=short,
        policy=policy,
        seed=seed,
    )
    how = commands.How(
        up=up,
        local=local,
        serve=serve,
        report=report,
        data=data,
        instruments_file=instruments_file,
        texts=texts,
        data_dir=data_dir,
        topology=topology,
        nats_cluster=nats_cluster,
        journal=journal,
    )
    _finish(lambda: commands.session(wish, how))


@app.command()
def explain(
    identifier: Annotated[
        str | None, typer.Argument(metavar="[DECISION_ID|CLIENT_ORDER_ID]", help="A decision, or one of its orders.")
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="The latest decision.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show why: one decision with everything that led to it and followed, or one order; up or down.

    Examples:

    alphamesh explain --last

    alphamesh explain 7a2c74efede1-0003-AAPL
    """
    from . import decision as commands

    _finish(lambda: commands.explain(identifier, last, data_dir, json))


@app.command()
def decisions(
    session: Annotated[str | None, typer.Option(help="Of this session. Default: the newest.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """List the decisions of a session.

    Example: alphamesh decisions --json
    """
    from . import decision as commands

    _finish(lambda: commands.decisions(session, data_dir, json))


@app.command()
def trace(
    identifier: Annotated[
        str | None, typer.Argument(metavar="[DECISION_ID|TRACE_ID]", help="A decision, or any trace by its id.")
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="The latest decision.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Which traces there are, newest first.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Which traces have a failed call.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show where the time went: one trace as a tree, from the snapshot to the fills; up or down.

    Examples:

    alphamesh trace --last

    alphamesh trace 7a2c74efede1-0003 --json
    """
    from . import trace as commands

    _finish(lambda: commands.trace(identifier, last, listed, failed, data_dir, json))


@app.command()
def metrics(
    service: Annotated[str | None, typer.Argument(help="The text of this service, as Prometheus reads it.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show what the running services count: requests, failures and durations of every edge.

    Examples:

    alphamesh metrics

    alphamesh metrics execution
    """
    from . import trace as commands

    _finish(lambda: commands.show_metrics(service, data_dir, json))


@app.command()
def risk(
    account: Annotated[str | None, typer.Option(help="Account. Default: the only one.")] = None,
    backtest: Annotated[bool, typer.Option("--backtest", help="Compare past forecasts with what came.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show what an account risks: value at risk by three methods, stress table, use of limits, up or down.

    Example: alphamesh risk --backtest
    """
    from . import risk as commands

    _finish(lambda: commands.risk(account, backtest, data_dir, json))


@app.command()
def replay(
    run: Annotated[
        Path | None,
        typer.Argument(help="Data directory of a stopped run, or a file by `alphamesh archive`. Default: the latest."),
    ] = None,
    json: Json = False,
) -> None:
    """Run a recorded session again from its inputs and compare every event, hash for hash.

    The session runs in a folder of its own, all services in this process; the recording stays as it is. Exit code 1
    when an event differs: the first one is shown field by field. Refused when versions or data are not the recorded.

    Examples:

    alphamesh replay

    alphamesh replay var/runs/20260101T120000.000000Z --json

    alphamesh replay session.tar.gz
    """
    from . import replay as commands

    _finish(lambda: commands.replay(run, json))


@app.command()
def archive(
    file: Annotated[Path, typer.Argument(help="Where to write it, for example session.tar.gz.")],
    data_dir: DataDir = None,
) -> None:
    """Write the recording of a stopped run into one file, for `alphamesh replay` here or on another machine.

    Example: alphamesh archive session.tar.gz --data-dir var/latest
    """
    from . import replay as commands

    _finish(lambda: commands.archive(data_dir, file))


@app.command("trading-state")
def trading_state(
    state: Annotated[State, typer.Argument(help="Step of the kill ladder.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    account: Annotated[str, typer.Option(help="Account.")] = Wish.account,
    data_dir: DataDir = None,
) -> None:
    """Move an account along the kill ladder. Needs nothing but execution and venue.

    Example: alphamesh trading-state HALTED --reason "prices look wrong"
    """
    from . import decision as commands

    _finish(lambda: commands.trading_state(state, reason, account, data_dir))


@app.command()
def convert(
    amount: Annotated[str, typer.Argument(help="How much to give, for example 60000 or 1500.50.")],
    sell: Annotated[str, typer.Argument(help="Currency that is given.")],
    buy: Annotated[str, typer.Argument(help="Currency that is received.")],
    account: Annotated[str, typer.Option(help="Account.")] = "demo",
    data_dir: DataDir = None,
) -> None:
    """Exchange cash of one currency for another, at the rate of the account's last valuation.

    Example: alphamesh convert 60000 USD EUR
    """
    from . import decision as commands

    _finish(lambda: commands.convert(amount, sell, buy, account, data_dir))


@app.command()
def token(
    role: Annotated[str, typer.Option(help="Role of the topology's edge, for example viewer.")],
    subject: Annotated[
        str, typer.Option(help="Whose token it is; it stands in logs and is what rates are counted by.")
    ],
    hours: Annotated[float, typer.Option(help="How long it is valid.")] = 8.0,
    data_dir: DataDir = None,
) -> None:
    """Print a bearer token for the edge of a run. It is a secret, and it is nowhere else.

    Example: alphamesh token --role viewer --subject alice --hours 8
    """
    from . import token as commands

    _finish(lambda: commands.token(role, subject, hours, data_dir))


@app.command()
def verify(data_dir: DataDir = None, json: Json = False) -> None:
    """Rebuild every view from the journals and compare it with the one served, up or down. Exit code 1 on a difference.

    Example: alphamesh verify --json
    """
    from . import verify as commands

    _finish(lambda: commands.verify(data_dir, json))


@app.command()
def drill(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Drills; none: all of them.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", "-n", min=1, help="Rounds of each.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Chooses victims and moments.")] = 1,
    list_: Annotated[bool, typer.Option("--list", help="Say what there is, and break nothing.")] = False,
    keep: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the runs here, with their logs.")] = None,
    json: Json = False,
) -> None:
    """Break something in the middle of a session of its own, and judge the event log; exit code 1: a promise broke.

    Examples:

    alphamesh drill --list

    alphamesh drill kill hang --rounds 5

    alphamesh drill certificate --seed 3 --keep var/drills
    """
    from . import drill as commands

    _finish(lambda: commands.drill(tuple(names or ()), rounds, seed, list_, keep, json))
