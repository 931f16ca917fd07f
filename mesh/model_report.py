"""Model versions as plain values, and as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alphamesh.model.v1 import model_pb2

from .tables import console, table

_STYLES = {"CHAMPION": "green", "CANARY": "yellow", "SHADOW": "cyan", "ROLLED_BACK": "red"}
_HEALTH = (
    "requests", "failures", "p50_latency_ns", "p99_latency_ns", "outcomes", "mean_loss", "brier_score",
    "calibration_error", "information_coefficient", "realized_return", "drawdown", "prediction_psi", "pairs",
    "loss_advantage", "better_evidence", "worse_evidence", "loaded",
)  # fmt: skip


def stage(number: int) -> str:
    """ "CANARY"."""
    return model_pb2.ModelStage.Name(model_pb2.ModelStage.ValueType(number)).removeprefix("MODEL_STAGE_")


def row(version: model_pb2.ModelVersion, rollout: model_pb2.Rollout) -> dict[str, Any]:
    """One line of a list. `share_bps`: of the questions that count; absent for one that answers nobody."""
    canary = rollout.config.canary_basis_points if rollout.canary_version else 0
    shares = {rollout.champion_version: 10_000 - canary, rollout.canary_version: canary}
    return {
        "model_id": version.model_id,
        "version": version.version,
        "stage": stage(version.stage),
        "share_bps": shares.get(version.version),
        "owner": version.owner,
        "registered": version.create_time.ToJsonString(),
        "since": version.stage_time.ToJsonString(),
        "sha256": version.artifact.sha256,
    }


def details(
    version: model_pb2.ModelVersion,
    health: model_pb2.GetModelHealthResponse,
    transitions: Iterable[model_pb2.Transition],
) -> dict[str, Any]:
    """Everything else about a version."""
    lineage = version.lineage
    return {
        "lineage": {field.name: getattr(lineage, field.name) for field in lineage.DESCRIPTOR.fields},
        "metrics": dict(sorted(version.metrics.items())),
        "validation": {
            "passed": version.validation.passed,
            "parity_error": version.validation.parity_error,
            "validator": version.validation.validator,
            "note": version.validation.note,
        }
        if version.HasField("validation")
        else None,
        "observed": _observed(health.health),
        "alerts": [
            {
                "trigger": model_pb2.Alert.Trigger.Name(alert.trigger).removeprefix("TRIGGER_"),
                "measured": alert.measured,
                "limit": alert.limit,
                "count": alert.count,
                "action": model_pb2.Alert.Action.Name(alert.action).removeprefix("ACTION_"),
                "detail": alert.detail,
                "time": alert.time.ToJsonString(),
            }
            for alert in health.alerts
        ],
        "transitions": [
            {
                "from": stage(each.from_stage),
                "to": stage(each.to_stage),
                "actor": each.actor,
                "reason": each.reason,
                "time": each.time.ToJsonString(),
            }
            for each in transitions
        ],
    }


def _observed(health: model_pb2.ModelHealth) -> dict[str, Any]:
    """By name; None for what was not computed."""
    present = {field.name for field, _ in health.ListFields()}
    optional = {field.name for field in health.DESCRIPTOR.fields if field.has_presence}
    return {name: None if name in optional - present else getattr(health, name) for name in _HEALTH}


def show_list(rows: Sequence[Mapping[str, Any]]) -> None:
    """All versions."""
    shown = table(
        "", "model", "version", "stage", "answers", "owner", "registered", "sha256", numbers=frozenset({"version"})
    )
    for each in rows:
        name = each["stage"]
        style = _STYLES.get(name, "dim")
        share = "" if each["share_bps"] is None else f"{each['share_bps'] / 100:g}%"
        shown.add_row(
            each["model_id"], str(each["version"]), f"[{style}]{name}[/{style}]", share, each["owner"],
            each["registered"][:19], each["sha256"][:12],
        )  # fmt: skip
    console.print(shown)


def show_version(content: Mapping[str, Any]) -> None:
    """One version."""
    facts = table(f"{content['model_id']}/{content['version']}, {content['stage']}", "", "")
    for name in ("owner", "registered", "since", "sha256"):
        facts.add_row(name, str(content[name]))
    for name, value in content["lineage"].items():
        facts.add_row(name, str(value))
    if content["validation"] is not None:
        verdict = content["validation"]
        text = "passed" if verdict["passed"] else "did not pass"
        facts.add_row("validation", f"{text}, by {verdict['validator']}: {verdict['note']}")
        facts.add_row("golden rows", f"largest difference {verdict['parity_error']:.2g}")
    console.print(facts)
    numbers = table("Metrics of the training", "metric", "value", numbers=frozenset({"value"}))
    for name, value in content["metrics"].items():
        numbers.add_row(name, f"{value:.5g}")
    if content["metrics"]:
        console.print(numbers)
    observed = table("Observed", "figure", "value", numbers=frozenset({"value"}))
    for name, value in content["observed"].items():
        observed.add_row(_title(name), _figure(name, value))
    console.print(observed)
    if content["alerts"]:
        alerts = table("Alerts", "time", "trigger", "measured", "limit", "action", "detail")
        for alert in content["alerts"]:
            alerts.add_row(
                alert["time"][:19], alert["trigger"], f"{alert['measured']:.4g}", f"{alert['limit']:.4g}",
                alert["action"], alert["detail"],
            )  # fmt: skip
        console.print(alerts)
    if content["transitions"]:
        way = table("Its way", "time", "from", "to", "by", "why")
        for each in content["transitions"]:
            way.add_row(each["time"][:19], each["from"], each["to"], each["actor"], each["reason"])
        console.print(way)


def show_comparison(model: str, content: Sequence[Mapping[str, Any]]) -> None:
    """Two versions side by side."""
    heads = [f"{each['version']} ({each['stage']})" for each in content]
    shown = table(f"{model}: {heads[0]} and {heads[1]}", "", *heads, numbers=frozenset(heads))
    names = sorted({name for each in content for name in each["metrics"]})
    for name in names:
        values = [each["metrics"].get(name) for each in content]
        shown.add_row(name, *("not stated" if value is None else f"{value:.5g}" for value in values))
    shown.add_section()
    for name in _HEALTH:
        shown.add_row(_title(name), *(_figure(name, each["observed"][name]) for each in content))
    shown.add_row("alerts", *(str(len(each["alerts"])) for each in content))
    console.print(shown)


def _title(name: str) -> str:
    return name.replace("_latency_ns", " latency").replace("_", " ")


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "not computed"
    if name.endswith("_ns"):
        return f"{value / 1e6:.2f} ms"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
