"""Tables for the terminal. Colours and drawing follow the terminal: none when piped, none with NO_COLOR."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 160  # a pipe has no width; ids and hashes stay whole
console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = PIPED_WIDTH
_STATE_STYLES = {
    "SERVING": "green",
    "FAILED": "red",
    "BACKING_OFF": "yellow",
    "STARTING": "yellow",
    "DRAINING": "yellow",
}


def table(title: str, *columns: str, numbers: frozenset[str] = frozenset()) -> Table:
    """An empty table; columns in `numbers` are aligned to the right."""
    made = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def status(
    path: Path,
    state: str,
    holder: int | None,
    processes: Mapping[str, Mapping[str, Any]],
    edge: Mapping[str, str] | None,
) -> None:
    """What `alphamesh status` shows."""
    console.print(f"[bold]{state}[/bold]" + (f", supervisor {holder}" if holder else "") + f", {path}")
    if edge and holder:
        console.print(f"edge {edge['address']}, authority {edge['authority']}", soft_wrap=True)
    if not processes:
        return
    rows = table(
        "", "process", "state", "health", "pid", "up", "restarts", "start ms", "version",
        numbers=frozenset({"pid", "up", "restarts", "start ms"}),
    )  # fmt: skip
    for name, facts in processes.items():
        style = _STATE_STYLES.get(facts["state"], "dim")
        startup = facts.get("startup_ms")
        rows.add_row(
            name,
            f"[{style}]{facts['state']}[/{style}]",
            facts.get("health", ""),
            str(facts["pid"] or ""),
            _age(facts["since"]) if facts["state"] == "SERVING" else "",
            str(facts["restarts"]),
            "" if startup is None else f"{startup:.0f}",
            facts["version"],
        )
    console.print(rows)


def replicas(
    services: Mapping[str, Mapping[str, Mapping[str, Any]]], processes: Mapping[str, Mapping[str, Any]]
) -> None:
    """Services that can have several processes: how calls are divided, and how many replicas serve."""
    if not services:
        return
    rows = table("Replicas", "service", "calls", "serving", "replicas", numbers=frozenset({"calls", "serving"}))
    for versions in services.values():
        for group, facts in versions.items():
            names = facts["replicas"]
            serving = sum(processes[name]["state"] == "SERVING" for name in names if name in processes)
            rows.add_row(group, f"{facts['weight']}%", f"{serving} of {len(names)}", ", ".join(names))
    console.print(rows)


def _age(since: str) -> str:
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())
    hours, rest = divmod(max(seconds, 0), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def summary(report: Mapping[str, Any]) -> None:
    """What a session ends with on the terminal."""
    session = report["session"]
    currency = session["currency"]
    facts = table(f"Session {session['start']} to {session['end']}, {', '.join(report['instruments'])}", "", "")
    for name, value in (
        ("state", session["state"]),
        ("cycles", f"{report['cycles']} in {session['elapsed_s']:.1f} s"),
        ("decisions", counts(report["decisions_by_outcome"])),
        ("signals by agent", counts(report["signals_by_agent"])),
        ("abstentions", counts(report["abstentions_by_agent"])),
        ("orders by outcome", counts(report["orders_by_outcome"])),
        ("denials by reason", counts(report["denials_by_reason"])),
        ("fills", str(report["fills"])),
        ("turnover", share(report["turnover"])),
        ("fees", money(report["fees"], currency)),
        ("P&L", money(report["pnl"], currency)),
        ("equity", money(report["equity"], currency)),
        ("Sharpe", number(report["sharpe"])),
        ("max drawdown", share(report["max_drawdown"])),
        ("data findings", counts(report["data_findings_by_kind"])),
        ("final event hash", report["final_event_hash"]),
    ):
        facts.add_row(name, value)
    console.print(facts)
    _agents(report["agents"], currency)
    if report["latency_ms"]:
        steps = table("Latency", "step", "p50 ms", "p99 ms", numbers=_NUMBERS)
        for step, values in report["latency_ms"].items():
            steps.add_row(step, f"{values['p50']:.2f}", f"{values['p99']:.2f}")
        console.print(steps)
    if report["positions"]:
        held = table("Positions", "instrument", "quantity", "mark", "value", numbers=_NUMBERS)
        for position in report["positions"]:
            value = money(position["value"], position["currency"]) if position["value"] else "not marked"
            held.add_row(position["instrument_id"], position["quantity"], position["mark"] or "", value)
        console.print(held)


def _agents(agents: Mapping[str, Any], currency: str) -> None:
    rows = table(
        "Agents", "agent", "version", "P&L", "traded", "weight", "scored", "right", "IC", "Brier", numbers=_NUMBERS
    )
    for row in agents["by_agent"]:
        rows.add_row(
            row["agent_id"],
            row["version"],
            money(row["pnl"], currency),
            money(row["traded_notional"], currency),
            number(row["mean_weight"]),
            str(row["forecasts_scored"]),
            *("" if row[name] is None else format(row[name], form) for name, form in _FORESIGHT),
        )
    rest = agents["unattributed"]
    rows.add_row("unattributed", "", money(rest["pnl"], currency), money(rest["traded_notional"], currency))
    console.print(rows)


def counts(values: Mapping[str, int]) -> str:
    """Names and numbers on one line, largest first."""
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"


def money(text: str, currency: str) -> str:
    """An exact decimal, shown with two places and thousands."""
    return f"{Decimal(text):,.2f} {currency}"


def share(value: float | None) -> str:
    """A share as a percentage; "not computed" when absent."""
    return "not computed" if value is None else f"{value:.2%}"


def number(value: float | None) -> str:
    """Two places; "not computed" when absent."""
    return "not computed" if value is None else f"{value:.2f}"


_NUMBERS = frozenset(
    {
        *("quantity", "mark", "value", "p50 ms", "p99 ms"),
        *("P&L", "traded", "weight", "scored", "right", "IC", "Brier"),
    }
)
_FORESIGHT = (("hit_rate", ".1%"), ("information_coefficient", ".3f"), ("brier", ".3f"))
