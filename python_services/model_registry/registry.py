"""Decisions made durable: every change of the registry is an event first, applied as a restart would apply it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from alphamesh.audit.v1 import state_pb2
from alphamesh.model.v1 import events_pb2, model_pb2
from python_services.kit.errors import ServiceError, aborted, not_found, precondition
from python_services.kit.journal import Event, Journal
from python_services.kit.signal import Signal

from . import deciding, lifecycle, observations
from .artifacts import Taken, manifest_of
from .config import Config, Rollouts
from .lifecycle import LifecycleError, Move
from .observations import Outcome
from .signing import Signer
from .state import Model, RegistryState, Version
from .triggers import Finding

T = TypeVar("T")
AUTOMATIC = "model_registry"  # actor of what the registry does by itself
BOOTSTRAP = "bootstrap"
# Nothing is loaded, unloaded or named after these, and they come with every decision.
_WATCHED_ONLY = (events_pb2.ModelObservationsRecorded, events_pb2.ModelAlertRaised)


class Registry:
    """State and journal together. `changed` is notified of what changes a version, the rollout or a name; `now_ns` is
    the operator's time."""

    def __init__(self, config: Config, journal: Journal, signer: Signer, now_ns: Callable[[], int]) -> None:
        self._config = config
        self._signer = signer
        self._now_ns = now_ns
        self.journal = journal
        self.state = RegistryState(config.rollouts)
        self.state.recover(journal)
        self.changed = Signal()
        for model in self.state.models.values():
            for number in model.versions:
                self._judge(model, number)  # what was observed before a kill, and not yet acted on

    def model(self, model_id: str) -> Model:
        """Raises ServiceError (NOT_FOUND)."""
        found = self.state.models.get(model_id)
        if found is None:
            raise not_found("model", model_id, "list models with ListModelVersions")
        return found

    def version(self, model_id: str, number: int) -> Version:
        """Raises ServiceError (NOT_FOUND)."""
        found = self.model(model_id).versions.get(number)
        if found is None:
            raise not_found("version", f"{model_id}/{number}", "list versions with ListModelVersions")
        return found

    def next_version(self, model_id: str) -> int:
        """The number that a new version gets."""
        model = self.state.models.get(model_id)
        return 1 + max(model.versions, default=0) if model is not None else 1

    def register(
        self, request: model_pb2.RegisterModelVersionRequest, number: int, taken: Taken
    ) -> model_pb2.ModelVersion:
        """A checked artifact becomes a version, signed."""
        version = self.described(request, number)
        manifest = manifest_of(request.model_id, number, taken)
        version.stage = lifecycle.REGISTERED
        self.decide(
            [
                events_pb2.ModelVersionRegistered(
                    model_version=version,
                    manifest=manifest.text(),
                    signature=self._signer.sign(manifest),
                    key_id=self._signer.key_id,
                ),
            ],
            request.request_id,
        )
        return self.version(request.model_id, number).message

    def described(self, request: model_pb2.RegisterModelVersionRequest, number: int) -> model_pb2.ModelVersion:
        """The version as it would be registered."""
        now = self._now()
        return model_pb2.ModelVersion(
            model_id=request.model_id,
            version=number,
            stage=model_pb2.MODEL_STAGE_REGISTERED,
            artifact=request.artifact,
            signature=request.signature,
            lineage=request.lineage,
            metrics=request.metrics,
            owner=request.owner,
            create_time=now,
            stage_time=now,
        )

    def refuse(self, request: model_pb2.RegisterModelVersionRequest, error: ServiceError) -> None:
        """Keeps that an artifact was refused."""
        refused = events_pb2.ModelArtifactRefused(
            model_id=request.model_id,
            path=request.artifact.path,
            sha256=request.artifact.sha256,
            reason=error.reason,
            detail=error.message[:1024],
        )
        self.decide([refused], request.request_id)

    def validated(
        self, model_id: str, number: int, validation: model_pb2.Validation, actor: str, causation_id: str = ""
    ) -> None:
        """Records a verdict; a pass moves the version on. Raises ServiceError."""
        model = self.model(model_id)
        self.version(model_id, number)
        moves = self.allowed(lambda: lifecycle.validate(model.places, number))
        recorded = events_pb2.ModelVersionValidated(model_id=model_id, version=number, validation=validation)
        self.decide([recorded], causation_id)
        if validation.passed:
            self.move(model, moves, actor, validation.note or "passed its validation", causation_id)

    def move(self, model: Model, moves: Sequence[Move], actor: str, reason: str, causation_id: str = "") -> None:
        """Makes `moves`. Raises ServiceError."""
        at, rollouts = self._now(), self._config.rollouts
        self.decide(self.allowed(lambda: deciding.moved(model, moves, actor, reason, at, rollouts)), causation_id)

    def crown(self, model: Model, number: int) -> None:
        """A first version all the way to champion: there is nothing that it could be compared with."""
        for stage in (lifecycle.SHADOW, lifecycle.CANARY, lifecycle.CHAMPION):
            reason = "first version of the model: there is none to compare it with"
            self.move(model, lifecycle.promote(model.places, number, stage), BOOTSTRAP, reason)

    def observe(self, request: model_pb2.RecordObservationsRequest) -> tuple[list[model_pb2.Alert], int]:
        """(new alerts, outcomes without an answer): records, judges, promotes and rolls back."""
        model = self.model(request.model_id)
        version = self.version(request.model_id, request.version)
        if version.message.stage in (lifecycle.REGISTERED, lifecycle.VALIDATED):
            raise precondition(
                "NOT_SERVED",
                f"{request.model_id}/{request.version} is {lifecycle.name(version.message.stage)} and answers nobody; "
                "promote it to SHADOW first",
            )
        records = observations.read(request.observations)
        before = version.monitor.losses.count
        newest = version.alerts[0].seq if version.alerts else 0
        self.decide(
            [
                events_pb2.ModelObservationsRecorded(
                    model_id=request.model_id, version=request.version, observations=request.observations
                )
            ],
            request.request_id,
        )
        outcomes = sum(len(each.question.rows) for each in records if isinstance(each, Outcome))
        unmatched = outcomes - (version.monitor.losses.count - before)
        self._judge(model, request.version, request.request_id)
        if request.version == model.places.champion:
            for number in (model.places.canary, *model.places.shadows):
                if number:
                    self._judge(model, number, request.request_id)
        return [alert for alert in version.alerts if alert.seq > newest], unmatched

    def found(self, model_id: str, number: int, finding: Finding) -> bool:
        """Something wrong that no observation shows (a file, a load, golden rows). Whether the version is out now."""
        model = self.model(model_id)
        version = model.versions[number]
        if finding.trigger in version.monitor.alerted and version.alerts and version.alerts[0].detail == finding.detail:
            return version.quarantined
        self._raise(model, number, [finding])
        return version.quarantined

    def decide(self, payloads: Iterable[Message], causation_id: str = "") -> None:
        """Adds events and applies them. A transition or alert carries the number of its own event."""
        now, changed = self._now_ns(), False
        for payload in payloads:
            changed = changed or not isinstance(payload, _WATCHED_ONLY)
            seq = self.journal.last_seq + 1
            if isinstance(payload, events_pb2.ModelVersionTransitioned):
                payload.transition.seq = seq
            elif isinstance(payload, events_pb2.ModelAlertRaised):
                payload.alert.seq = seq
            elif isinstance(payload, events_pb2.RolloutChanged):
                payload.rollout.etag = str(seq)
            event = Event(payload=payload, ts_event_ns=now, ts_init_ns=now, causation_id=causation_id)
            for envelope in self.journal.add([event]):
                self.state.apply(envelope)
        self.journal.commit_later()  # whoever promises something commits itself
        if changed:
            self.changed.notify()

    def _judge(self, model: Model, number: int, causation_id: str = "") -> None:
        if model.versions[number].message.stage in (lifecycle.SHADOW, lifecycle.CANARY, lifecycle.CHAMPION):
            found = deciding.findings(model, number, self._config.rollouts)
            if found:
                self._raise(model, number, found, causation_id)
            self.decide(deciding.advanced(model, AUTOMATIC, self._now(), self._config.rollouts), causation_id)

    def _raise(self, model: Model, number: int, found: Sequence[Finding], causation_id: str = "") -> None:
        events = list(deciding.raised(model, number, found, AUTOMATIC, self._now(), self._config.rollouts))
        self.decide(events, causation_id)

    def allowed(self, make: Callable[[], T]) -> T:
        """What `make` gives; a move that is not allowed becomes a ServiceError."""
        try:
            return make()
        except LifecycleError as error:
            raise (aborted if error.held else precondition)(error.reason, str(error)) from error

    def _now(self) -> Timestamp:
        stamp = Timestamp()
        stamp.FromNanoseconds(self._now_ns())
        return stamp


class OwnView:
    """The state against the same state rebuilt from the journal, for `alphamesh verify`."""

    def __init__(self, registry: Registry, rollouts: Rollouts) -> None:
        self._registry = registry
        self._rollouts = rollouts

    async def compare(self) -> state_pb2.ViewComparison:
        """Both after the last event."""
        registry = self._registry
        await registry.journal.barrier()
        again = RegistryState(self._rollouts)
        again.recover(registry.journal)
        return state_pb2.ViewComparison(
            view="model_registry.state",
            applied_stream_seqs={registry.journal.stream: registry.state.seq},
            served_sha256=hashlib.sha256(registry.state.dump()).digest(),
            rebuilt_sha256=hashlib.sha256(again.dump()).digest(),
            events=again.seq,
        )
