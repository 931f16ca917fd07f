"""Agents as plain values, for JSON and for tables: who is heard, and what came of their forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alphamesh.decision.v1 import roster_pb2

from . import deciding, explanation, tables

_NUMBERS = frozenset(
    {"forecasts", "observations", "IC", "cross-sectional IC", "right", "Brier", "error", "stated", "observed", "count"}
)


def plain(agent: roster_pb2.RegisteredAgent) -> dict[str, Any]:
    """What was not computed is None."""
    return {
        "agent_id": agent.agent_id,
        "service": agent.service,
        "kind": agent.kind,
        "version": agent.version,
        "state": deciding.state_name(agent.state),
        "reason": agent.reason,
        "registered": explanation.moment(agent.registered_ns),
        "state_since": explanation.moment(agent.state_since_ns),
        "errors": agent.errors,
        "stale": agent.stale,
        "decisions_in_state": agent.decisions_in_state,
        "records": [_record(record) for record in agent.records],
    }


def show_list(agents: Sequence[Mapping[str, Any]]) -> None:
    """One line each, with the record of the version that answers now."""
    rows = tables.table(
        "", "agent", "kind", "service", "version", "state", "forecasts", "IC", "right", "Brier", "why", numbers=_NUMBERS
    )
    for agent in agents:
        record = current(agent)
        rows.add_row(
            agent["agent_id"],
            agent["kind"],
            agent["service"],
            agent["version"],
            agent["state"],
            str(record["forecasts"]) if record else "0",
            *_figures(record, ("information_coefficient", ".3f"), ("hit_rate", ".1%"), ("brier", ".3f")),
            agent["reason"],
        )
    tables.console.print(rows)


def show(agent: Mapping[str, Any]) -> None:
    """All records, and the calibration of the version that answers now."""
    console = tables.console
    why = f", {agent['reason']}" if agent["reason"] else ""
    console.print(f"[bold]{agent['agent_id']}[/bold] {agent['version']}, {agent['kind']}, of {agent['service']}")
    console.print(f"{agent['state']} since {agent['state_since']}{why}", markup=False)
    console.print(f"first seen {agent['registered']}, errors in a row {agent['errors']}, stale {agent['stale']}")
    if not agent["records"]:
        console.print("nothing of it was scored yet: no forecast of a return has reached its horizon")
        return
    rows = tables.table(
        "Track record", "version", "regime", "forecasts", "observations", "IC", "cross-sectional IC", "right", "Brier",
        "error", numbers=_NUMBERS,
    )  # fmt: skip
    for record in agent["records"]:
        rows.add_row(
            record["version"],
            record["regime"] or "all",
            str(record["forecasts"]),
            f"{record['observations']:.1f}",
            *_figures(
                record,
                ("information_coefficient", ".3f"),
                ("cross_sectional_coefficient", ".3f"),
                ("hit_rate", ".1%"),
                ("brier", ".3f"),
                ("mean_absolute_error", ".2%"),
            ),
        )
    console.print(rows)
    record = current(agent)
    if record and record["calibration"]:
        rows = tables.table("Calibration", "stated between", "count", "stated", "observed", numbers=_NUMBERS)
        for line in record["calibration"]:
            rows.add_row(
                f"{line['from']:.0%} and {line['to']:.0%}",
                f"{line['count']:.1f}",
                f"{line['stated']:.1%}",
                f"{line['observed']:.1%}",
            )
        console.print(rows)


def current(agent: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the version that answers now, in all regimes; None when nothing of it was scored."""
    wanted = (agent["version"], None)
    found = [record for record in agent["records"] if (record["version"], record["regime"]) == wanted]
    return found[0] if found else None


def _record(record: roster_pb2.TrackRecord) -> dict[str, Any]:
    def known(name: Any) -> float | None:
        return getattr(record, name) if record.HasField(name) else None

    return {
        "version": record.version,
        "regime": record.regime if record.HasField("regime") else None,
        "forecasts": record.forecasts,
        "observations": record.observations,
        "information_coefficient": known("information_coefficient"),
        "cross_sectional_coefficient": known("cross_sectional_coefficient"),
        "hit_rate": known("hit_rate"),
        "brier": known("brier"),
        "mean_absolute_error": known("mean_absolute_error"),
        "calibration": [
            {
                "from": getattr(each, "from"),
                "to": each.to,
                "count": each.count,
                "stated": each.stated,
                "observed": each.observed,
            }
            for each in record.calibration
        ],
    }


def _figures(record: Mapping[str, Any] | None, *columns: tuple[str, str]) -> list[str]:
    return ["" if record is None or record[name] is None else format(record[name], form) for name, form in columns]
