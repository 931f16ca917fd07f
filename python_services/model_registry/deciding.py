"""From what is known to what happens: moves, alerts, promotions and rollbacks as payloads of events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from alphamesh.model.v1 import events_pb2, model_pb2

from . import lifecycle, triggers
from .config import Rollouts
from .lifecycle import Move
from .state import Model
from .triggers import Finding, Limits

Action = model_pb2.Alert.Action
HARD_OR_PROVEN = triggers.HARD | {model_pb2.Alert.TRIGGER_WORSE_THAN_CHAMPION}


def moved(
    model: Model, moves: Sequence[Move], actor: str, reason: str, at: Timestamp, rollouts: Rollouts
) -> list[Message]:
    """Events of `moves`: a transition each, then the rollout when it is another one. Raises LifecycleError."""
    places = lifecycle.after(model.places, moves)
    events: list[Message] = [
        events_pb2.ModelVersionTransitioned(
            transition=model_pb2.Transition(
                model_id=model.model_id,
                version=move.version,
                from_stage=model_pb2.ModelStage.ValueType(move.source),
                to_stage=model_pb2.ModelStage.ValueType(move.target),
                actor=actor,
                reason=reason,
                time=at,
            )
        )
        for move in moves
    ]
    config = model_pb2.RolloutConfig()
    config.CopyFrom(model.rollout.config if model.rollout is not None else default_config(rollouts))
    if places.canary != model.places.canary:
        config.canary_basis_points = lifecycle.STEPS[0]
    rollout = model_pb2.Rollout(
        model_id=model.model_id,
        champion_version=places.champion,
        canary_version=places.canary,
        shadow_versions=places.shadows,
        previous_champion_version=places.previous,
        config=config,
    )
    if model.rollout is not None:
        rollout.etag = model.rollout.etag
    reached = {move.target for move in moves} - {lifecycle.VALIDATED}
    if rollout != model.rollout and (model.rollout is not None or reached & {lifecycle.SHADOW, lifecycle.CHAMPION}):
        events.append(events_pb2.RolloutChanged(rollout=rollout))
    return events


def default_config(rollouts: Rollouts) -> model_pb2.RolloutConfig:
    """How a rollout begins."""
    return model_pb2.RolloutConfig(
        canary_basis_points=lifecycle.STEPS[0],
        maximum_error_basis_points=rollouts.error_bps,
        maximum_p99_latency_ns=rollouts.p99_ns,
        minimum_requests=rollouts.minimum_requests,
    )


def limits(model: Model, rollouts: Rollouts) -> Limits:
    """What versions of this model may do."""
    config = model.rollout.config if model.rollout is not None else default_config(rollouts)
    return Limits(
        error_rate=config.maximum_error_basis_points / 10_000,
        p99_ns=config.maximum_p99_latency_ns,
        drawdown=rollouts.drawdown,
        evidence=1.0 / rollouts.alpha,
    )


def findings(model: Model, number: int, rollouts: Rollouts) -> list[Finding]:
    """What is wrong with a version now and was not told lately."""
    own = model.versions[number]
    places = model.places
    champion = model.versions[places.champion].monitor if places.champion not in (0, number) else None
    found = triggers.judge(own.monitor, champion, own.test, limits(model, rollouts))
    return [
        each
        for each in found
        if each.trigger not in own.monitor.alerted
        or own.monitor.requests - own.monitor.alerted[each.trigger] >= rollouts.realert_requests
    ]


def quarantines(model: Model, number: int, finding: Finding, rollouts: Rollouts) -> bool:
    """Whether `finding` takes the version out of service.

    A canary goes for every trigger but drifting features, which are the data's; a shadow, which answers nobody, for
    faults and for being worse; a champion for faults only, while the one before is still loaded.
    """
    stage = model.versions[number].message.stage
    if finding.trigger == model_pb2.Alert.TRIGGER_FEATURE_DRIFT or stage == lifecycle.ROLLED_BACK:
        return False
    if stage == lifecycle.CHAMPION:
        return finding.hard and baking(model, rollouts)
    return stage == lifecycle.CANARY or finding.trigger in HARD_OR_PROVEN


def baking(model: Model, rollouts: Rollouts) -> bool:
    """Whether the champion before is kept loaded."""
    places = model.places
    if not places.previous or not places.champion:
        return False
    return model.versions[places.champion].monitor.requests < rollouts.bake_requests


def raised(
    model: Model, number: int, found: Iterable[Finding], actor: str, at: Timestamp, rollouts: Rollouts
) -> Iterator[Message]:
    """Alerts, and the quarantine that follows from the first that calls for one."""
    out: Finding | None = None
    for finding in found:
        goes = out is None and quarantines(model, number, finding, rollouts)
        out = finding if goes else out
        yield events_pb2.ModelAlertRaised(
            alert=model_pb2.Alert(
                model_id=model.model_id,
                version=number,
                trigger=model_pb2.Alert.Trigger.ValueType(finding.trigger),
                measured=finding.measured,
                limit=finding.limit,
                count=finding.count,
                action=Action.ACTION_QUARANTINE if goes else Action.ACTION_ALERT,
                detail=finding.detail,
                time=at,
            )
        )
    if out is not None:
        trigger = model_pb2.Alert.Trigger.ValueType(out.trigger)
        told = f"{model_pb2.Alert.Trigger.Name(trigger).removeprefix('TRIGGER_')}: {out.detail}"
        yield from moved(model, lifecycle.take_out(model.places, number), actor, told, at, rollouts)
        yield events_pb2.ModelVersionQuarantined(
            model_id=model.model_id, version=number, trigger=trigger, detail=out.detail
        )


def advanced(model: Model, actor: str, at: Timestamp, rollouts: Rollouts) -> list[Message]:
    """The step that the rollout takes by itself now: a shadow to canary, a larger share, a canary to champion."""
    rollout, places = model.rollout, model.places
    if rollout is None or rollout.config.manual:
        return []
    minimum = rollout.config.minimum_requests
    if not places.canary:
        for number in reversed(places.shadows if places.champion else ()):
            monitor = model.versions[number].monitor
            if monitor.requests >= minimum and not monitor.alerted:
                reason = f"{monitor.requests} questions in the shadow without an alert"
                return moved(model, lifecycle.promote(places, number, lifecycle.CANARY), actor, reason, at, rollouts)
        return []
    canary = model.versions[places.canary]
    if canary.monitor.requests - model.step_from < minimum:
        return []
    step = lifecycle.step_after(rollout.config.canary_basis_points)
    if step is not None:
        larger = model_pb2.Rollout()
        larger.CopyFrom(rollout)
        larger.config.canary_basis_points = step
        return [events_pb2.RolloutChanged(rollout=larger)]
    if blocked(model, places.canary, rollouts):
        return []
    test = canary.test
    assert test is not None
    reason = f"better than the champion on {test.pairs} questions: evidence {test.better.evidence:.1f}"
    return moved(model, lifecycle.promote(places, places.canary, lifecycle.CHAMPION), actor, reason, at, rollouts)


def blocked(model: Model, number: int, rollouts: Rollouts) -> str:
    """Why a canary is no champion yet, with the numbers; empty when it is better beyond chance."""
    version = model.versions[number]
    rollout, test = model.rollout, version.test
    if rollout is None or not rollout.champion_version:
        return ""
    minimum, needed = rollout.config.minimum_requests, 1.0 / rollouts.alpha
    if version.monitor.requests < minimum:
        return f"it has answered {version.monitor.requests} questions of the {minimum} that are the least"
    if test is None or test.pairs < minimum:
        pairs = test.pairs if test is not None else 0
        return f"{pairs} outcomes were compared with the champion's of the {minimum} that are the least"
    if test.better.evidence < needed:
        return f"the evidence that it is better is {test.better.evidence:.2f}, and {needed:.0f} is needed"
    return ""
