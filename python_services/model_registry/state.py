"""What the registry knows: a function of its own events alone, so that a restart knows the same."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alphamesh.audit.v1 import event_pb2
from alphamesh.model.v1 import events_pb2, model_pb2
from python_services.kit.journal import Journal

from . import lifecycle, observations
from .config import Rollouts
from .lifecycle import Places
from .monitor import LARGEST_LOSS, Monitor, Range
from .observations import Answer, Failure, Outcome, Rows
from .sequential import PairedTest

ALERTS_KEPT = 50
_WATCHED = (lifecycle.SHADOW, lifecycle.CANARY, lifecycle.CHAMPION)


@dataclass(kw_only=True)
class Version:
    """One version: the message that callers see, its signature, its monitor and its test against the champion."""

    message: model_pb2.ModelVersion
    manifest: str
    signature: bytes
    key_id: str
    monitor: Monitor
    test: PairedTest | None = None
    tested_against: int = 0
    alerts: deque[model_pb2.Alert] = field(default_factory=lambda: deque(maxlen=ALERTS_KEPT))
    quarantined: bool = False


@dataclass(kw_only=True)
class Model:
    """All versions of one model, who holds which place, and its names.

    `step_from`: requests of the canary when its share was last changed.
    """

    model_id: str
    versions: dict[int, Version] = field(default_factory=dict)
    rollout: model_pb2.Rollout | None = None
    aliases: dict[str, int] = field(default_factory=dict)
    transitions: list[model_pb2.Transition] = field(default_factory=list)
    step_from: int = 0

    @property
    def places(self) -> Places:
        """Who holds which place."""
        rollout = self.rollout or model_pb2.Rollout()
        return Places(
            stages={number: version.message.stage for number, version in self.versions.items()},
            champion=rollout.champion_version,
            canary=rollout.canary_version,
            shadows=tuple(rollout.shadow_versions),
            previous=rollout.previous_champion_version,
        )

    @property
    def named(self) -> dict[str, int]:
        """Aliases, with the two that follow the rollout by themselves."""
        places = self.places
        derived = {"champion": places.champion, "challenger": places.canary or max(places.shadows, default=0)}
        return {**self.aliases, **{name: version for name, version in derived.items() if version}}

    def reached(self, stage: int) -> bool:
        """Whether any version ever reached `stage`."""
        return any(transition.to_stage == stage for transition in self.transitions)


class RegistryState:
    """All models. `apply` takes the registry's events, new ones and those of the journal alike."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts
        self.models: dict[str, Model] = {}
        self.seq = 0

    def recover(self, journal: Journal) -> None:
        """Rebuilds everything from what is durable."""
        for frame in journal.read(1):
            for envelope in frame.events:
                self.apply(envelope)

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Takes one event."""
        handler = _HANDLERS.get(envelope.schema)
        self.seq = envelope.seq
        if handler is not None:
            kind, take = handler
            take(self, kind.FromString(envelope.payload), envelope.seq)

    def dump(self) -> bytes:
        """The state, canonical: equal states give equal bytes."""
        parts: list[str] = [str(self.seq)]
        for model_id, model in sorted(self.models.items()):
            rollout = b"" if model.rollout is None else model.rollout.SerializeToString(deterministic=True)
            parts += [model_id, rollout.hex(), repr(sorted(model.aliases.items())), str(model.step_from)]
            parts += [transition.SerializeToString(deterministic=True).hex() for transition in model.transitions]
            for number, version in sorted(model.versions.items()):
                alerts = [alert.SerializeToString(deterministic=True).hex() for alert in version.alerts]
                parts += [str(number), version.message.SerializeToString(deterministic=True).hex(), version.manifest]
                parts += [version.signature.hex(), version.key_id, repr(version.monitor), repr(version.test), *alerts]
                parts += [str(version.tested_against), str(version.quarantined)]
        return hashlib.sha256("\n".join(parts).encode()).digest()

    def version(self, model_id: str, number: int) -> Version | None:
        """One version; None when there is none."""
        model = self.models.get(model_id)
        return None if model is None else model.versions.get(number)

    # --- events -------------------------------------------------------------------------------------

    def _registered(self, event: events_pb2.ModelVersionRegistered, seq: int) -> None:
        message = event.model_version
        message.etag = str(seq)
        model = self.models.setdefault(message.model_id, Model(model_id=message.model_id))
        model.versions[message.version] = Version(
            message=message,
            manifest=event.manifest,
            signature=event.signature,
            key_id=event.key_id,
            monitor=new_monitor(message.signature),
        )

    def _validated(self, event: events_pb2.ModelVersionValidated, seq: int) -> None:
        version = self.models[event.model_id].versions[event.version].message
        version.validation.CopyFrom(event.validation)
        version.etag = str(seq)

    def _transitioned(self, event: events_pb2.ModelVersionTransitioned, seq: int) -> None:
        transition = event.transition
        model = self.models[transition.model_id]
        version = model.versions[transition.version]
        version.message.stage = transition.to_stage
        version.message.stage_time.CopyFrom(transition.time)
        version.message.etag = str(seq)
        model.transitions.append(transition)
        if transition.to_stage in _WATCHED:
            # What it was shown to predict in the shadow is what it is compared with later.
            shown = version.monitor.predictions
            version.monitor = new_monitor(version.message.signature)
            if transition.from_stage == lifecycle.SHADOW:
                version.monitor.predictions = shown
            self._new_test(model, version)

    def _rollout(self, event: events_pb2.RolloutChanged, seq: int) -> None:
        rollout = event.rollout
        rollout.etag = str(seq)
        model = self.models[rollout.model_id]
        before, model.rollout = model.rollout, rollout
        if before is None or _step(before) != _step(rollout):
            canary = model.versions.get(rollout.canary_version)
            model.step_from = canary.monitor.requests if canary else 0
        if before is None or before.champion_version != rollout.champion_version:
            for number in (rollout.canary_version, *rollout.shadow_versions):
                if number:
                    self._new_test(model, model.versions[number])

    def _alias_set(self, event: events_pb2.ModelAliasSet, seq: int) -> None:
        self.models[event.alias.model_id].aliases[event.alias.alias] = event.alias.version

    def _alias_deleted(self, event: events_pb2.ModelAliasDeleted, seq: int) -> None:
        del self.models[event.alias.model_id].aliases[event.alias.alias]

    def _observed(self, event: events_pb2.ModelObservationsRecorded, seq: int) -> None:
        model = self.models[event.model_id]
        own = model.versions[event.version]
        for record in observations.read(event.observations):
            match record:
                case Answer():
                    own.monitor.answer(record)
                case Failure():
                    others = [
                        model.versions[number].monitor
                        for number in served(model.places)
                        if number != event.version and model.versions[number].monitor.requests
                    ]
                    answered = bool(others) and all(other.last_ok for other in others)
                    own.monitor.failure(record, others_answered=answered)
                case Outcome():
                    taken = ~np.isnan(own.monitor.outcome(record))
                    if taken.any():
                        asked = record.question
                        self._pair(model, event.version, asked.key, asked.rows[taken], asked.ts_event_ns)

    def _alert(self, event: events_pb2.ModelAlertRaised, seq: int) -> None:
        alert = event.alert
        version = self.models[alert.model_id].versions[alert.version]
        version.alerts.appendleft(alert)
        version.monitor.alerted[alert.trigger] = version.monitor.requests

    def _quarantined(self, event: events_pb2.ModelVersionQuarantined, seq: int) -> None:
        self.models[event.model_id].versions[event.version].quarantined = True

    # --- comparing ----------------------------------------------------------------------------------

    def _new_test(self, model: Model, version: Version) -> None:
        champion = model.rollout.champion_version if model.rollout is not None else 0
        version.tested_against = champion
        version.test = (
            PairedTest(bound=LARGEST_LOSS, block_ns=self._rollouts.block_ns)
            if champion and version.message.stage != lifecycle.CHAMPION
            else None
        )

    def _pair(self, model: Model, number: int, key: str, rows: Rows, ts_event_ns: int) -> None:
        places = model.places
        if not places.champion:
            return
        champion = model.versions[places.champion].monitor.lost.get(key, rows)
        for challenger in (places.canary, *places.shadows) if number == places.champion else (number,):
            own = model.versions[challenger] if challenger else None
            if own is not None and own.test is not None:
                gap = champion - own.monitor.lost.get(key, rows)
                own.test.add(ts_event_ns, gap[~np.isnan(gap)])


def served(places: Places) -> tuple[int, ...]:
    """Versions that are asked, champion first."""
    return tuple(number for number in (places.champion, places.canary, *places.shadows) if number)


def new_monitor(signature: model_pb2.Signature) -> Monitor:
    """A monitor that knows how many values an answer has, and what they may be."""
    ranges: list[Range] = []
    for output in signature.outputs:
        count = 1
        for length in output.shape[1:]:
            count *= max(length, 1)
        minimum = output.minimum if output.HasField("minimum") else -math.inf
        maximum = output.maximum if output.HasField("maximum") else math.inf
        ranges += [Range(minimum=minimum, maximum=maximum)] * count
    probability = bool(ranges) and (ranges[0].minimum, ranges[0].maximum) == (0.0, 1.0)
    return Monitor(ranges=tuple(ranges), probability=probability)


def _step(rollout: model_pb2.Rollout) -> tuple[int, int]:
    return rollout.canary_version, rollout.config.canary_basis_points


_HANDLERS: dict[str, tuple[Any, Any]] = {
    kind.DESCRIPTOR.full_name: (kind, take)
    for kind, take in (
        (events_pb2.ModelVersionRegistered, RegistryState._registered),
        (events_pb2.ModelVersionValidated, RegistryState._validated),
        (events_pb2.ModelVersionTransitioned, RegistryState._transitioned),
        (events_pb2.RolloutChanged, RegistryState._rollout),
        (events_pb2.ModelAliasSet, RegistryState._alias_set),
        (events_pb2.ModelAliasDeleted, RegistryState._alias_deleted),
        (events_pb2.ModelObservationsRecorded, RegistryState._observed),
        (events_pb2.ModelAlertRaised, RegistryState._alert),
        (events_pb2.ModelVersionQuarantined, RegistryState._quarantined),
    )
}
