"""How a decision weighed its agents: regime, voices, conflict rules, and what became of earlier forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alphamesh.decision.v1 import decision_pb2, roster_pb2

from . import tables

_NUMBERS = frozenset({"skill", "share", "weight", "IC", "Brier", "observations", "scored", "right", "error"})


def regime(decision: decision_pb2.Decision) -> dict[str, Any] | None:
    """None where it could not be told."""
    if not decision.HasField("regime"):
        return None
    found = decision.regime
    probabilities = dict(zip(found.labels, found.probability, strict=True))
    return {"label": found.label, "probability": probabilities, "model": found.model}


def voice(message: decision_pb2.Voice) -> dict[str, Any]:
    """What an agent's voice weighed, and why."""
    return {
        "agent_id": message.agent_id,
        "version": message.version,
        "state": state_name(message.state),
        "observations": message.observations,
        "information_coefficient": message.information_coefficient,
        "brier": message.brier,
        "skill": message.skill,
        "share": message.share,
        "weight": message.weight,
    }


def rule(message: decision_pb2.AppliedRule, names: Sequence[str]) -> dict[str, Any]:
    """A conflict rule that applied."""
    return {
        "rule": message.rule,
        "kind": message.kind,
        "agents": list(message.agent_id),
        "instruments": [names[index] for index in message.instrument_index],
        "effect": message.effect,
    }


def score(message: decision_pb2.ForecastScore) -> dict[str, Any]:
    """What became of an agent's forecasts that ended with this bar."""
    stated = sum(message.stated)
    return {
        "agent_id": message.agent_id,
        "version": message.version,
        "horizon_bars": message.horizon_bars,
        "regime": message.regime if message.HasField("regime") else None,
        "forecasts": message.forecasts,
        "directions": stated,
        "hits": sum(message.hits),
        "brier": message.sum_brier / stated if stated else None,
        "mean_absolute_error": message.sum_absolute_error / message.forecasts,
    }


def show(content: Mapping[str, Any]) -> None:
    """The same as tables."""
    found = content["regime"]
    if found is not None:
        shares = ", ".join(f"{label} {share:.0%}" for label, share in found["probability"].items())
        tables.console.print(f"regime: {found['label']} ({shares}), model {found['model']}")
    if content["voices"]:
        rows = tables.table(
            "Voices", "agent", "version", "state", "observations", "IC", "Brier", "skill", "share", "weight",
            numbers=_NUMBERS,
        )  # fmt: skip
        for line in content["voices"]:
            rows.add_row(
                line["agent_id"],
                line["version"],
                line["state"],
                f"{line['observations']:.1f}",
                f"{line['information_coefficient']:.3f}",
                f"{line['brier']:.3f}",
                f"{line['skill']:.2f}",
                f"{line['share']:.2f}",
                f"{line['weight']:.2f}",
            )
        tables.console.print(rows)
    for line in content["rules"]:
        who, where = ", ".join(line["agents"]), ", ".join(line["instruments"])
        tables.console.print(f"rule {line['rule']} ({line['kind']}) of {who}: {line['effect']}: {where}", markup=False)
    if content["scores"]:
        rows = tables.table(
            "Earlier forecasts that ended with this bar", "agent", "bars", "regime then", "scored", "right", "error",
            numbers=_NUMBERS,
        )  # fmt: skip
        for line in content["scores"]:
            rows.add_row(
                line["agent_id"],
                str(line["horizon_bars"]),
                line["regime"] or "",
                str(line["forecasts"]),
                f"{line['hits']} of {line['directions']}",
                f"{line['mean_absolute_error']:.2%}",
            )
        tables.console.print(rows)


def state_name(state: roster_pb2.AgentState.ValueType) -> str:
    """ACTIVE, PAUSED, QUARANTINED or PROBATION."""
    return roster_pb2.AgentState.Name(state).removeprefix("AGENT_STATE_")
