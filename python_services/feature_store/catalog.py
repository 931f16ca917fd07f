"""Which features and sets there are: a function of the service's own events. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from alphamesh.audit.v1 import event_pb2
from alphamesh.feature.v1 import events_pb2, feature_pb2
from python_services.kit.errors import ServiceError, aborted, invalid, not_found, precondition

from .definitions import KERNELS, Definition, FeatureSet
from .definitions.base import feature_version, hash_of, set_version
from .logic import Computable

Key = tuple[str, str]
State = feature_pb2.Feature.State


class Catalog:
    """Features by (id, version), in the order of registration, and sets by version. Commands return events."""

    def __init__(self) -> None:
        self.features: dict[Key, feature_pb2.Feature] = {}
        self.sets: dict[str, feature_pb2.FeatureSet] = {}
        self._computable: dict[str, tuple[Computable, ...]] = {}
        self._apply = {
            kind.DESCRIPTOR.full_name: partial(self._parsed, kind, handler)
            for kind, handler in (
                (events_pb2.FeatureRegistered, self._registered),
                (events_pb2.FeatureDeprecated, self._deprecated),
                (events_pb2.FeatureSetRegistered, self._set_registered),
            )
        }

    # --- commands -----------------------------------------------------------------------------------

    def register(
        self, feature_id: str, definition: feature_pb2.FeatureDefinition, now_ns: int
    ) -> tuple[feature_pb2.Feature, list[Message]]:
        """The feature, and the event when it is new.

        Raises ServiceError: INVALID_ARGUMENT, NOT_FOUND (an input), FAILED_PRECONDITION (KERNEL_CHANGED, INPUT_CYCLE).
        """
        version = feature_version(feature_id, definition)
        known = self.features.get((feature_id, version))
        if known is not None:
            return known, []
        self._check(feature_id, definition)
        feature = feature_pb2.Feature(
            feature_id=feature_id, version=version, definition=definition, state=State.STATE_ACTIVE
        )
        feature.create_time.CopyFrom(_timestamp(now_ns))
        feature.etag = _etag(feature)
        return feature, [events_pb2.FeatureRegistered(feature=feature)]

    def deprecate(self, reference: feature_pb2.FeatureReference, etag: str, reason: str) -> list[Message]:
        """The event; none when it is deprecated already. Raises ServiceError: NOT_FOUND, ABORTED."""
        feature = self.feature(reference.feature_id, reference.version)
        if etag and etag != feature.etag:
            raise aborted(
                "ETAG_MISMATCH", f"feature {reference.feature_id} changed since it was read; read it again", etag=etag
            )
        if feature.state == State.STATE_DEPRECATED:
            return []
        return [events_pb2.FeatureDeprecated(feature=reference, reason=reason)]

    def register_set(
        self, display_name: str, references: Iterable[feature_pb2.FeatureReference], now_ns: int
    ) -> tuple[feature_pb2.FeatureSet, list[Message]]:
        """The set, and the event when it is new. Raises ServiceError: INVALID_ARGUMENT, NOT_FOUND,
        FAILED_PRECONDITION (FEATURE_DEPRECATED)."""
        listed = list(references)
        version = set_version(listed)
        known = self.sets.get(version)
        if known is not None:
            return known, []
        names = [reference.feature_id for reference in listed]
        for i, reference in enumerate(listed):
            if reference.feature_id in names[:i]:
                raise invalid(
                    f"features[{i}].feature_id", f"{reference.feature_id!r} is there twice", "name each column once"
                )
            if self.feature(reference.feature_id, reference.version).state == State.STATE_DEPRECATED:
                raise precondition(
                    "FEATURE_DEPRECATED",
                    f"feature {reference.feature_id} is deprecated in version {reference.version[:12]}; use another",
                    feature_id=reference.feature_id,
                )
        made = feature_pb2.FeatureSet(feature_set_version=version, display_name=display_name, features=listed)
        made.create_time.CopyFrom(_timestamp(now_ns))
        return made, [events_pb2.FeatureSetRegistered(feature_set=made)]

    def register_code(self, features: Iterable[Definition], sets: Iterable[FeatureSet], now_ns: int) -> list[Message]:
        """Registers what is defined as code and applies it; returns the events, none when all of it was there."""
        events: list[Message] = []
        for definition in features:
            _, new = self.register(definition.feature_id, definition.message, now_ns)
            events += self.take(new)
        for feature_set in sets:
            references = [feature.reference for feature in feature_set.features]
            _, new = self.register_set(feature_set.display_name, references, now_ns)
            events += self.take(new)
        return events

    # --- what there is ------------------------------------------------------------------------------

    def feature(self, feature_id: str, version: str = "") -> feature_pb2.Feature:
        """One version; the newest active one when none is named. Raises ServiceError (NOT_FOUND)."""
        if version:
            found = self.features.get((feature_id, version))
        else:
            versions = (each for (name, _), each in self.features.items() if name == feature_id)
            active = [each for each in versions if each.state == State.STATE_ACTIVE]
            found = active[-1] if active else None
        if found is None:
            named = f"{feature_id}@{version}" if version else feature_id
            raise not_found("feature", named, "ListFeatures names the known ones")
        return found

    def feature_set(self, version: str) -> feature_pb2.FeatureSet:
        """Raises ServiceError (NOT_FOUND)."""
        found = self.sets.get(version)
        if found is None:
            raise not_found("feature_set", version, "ListFeatureSets names the known ones")
        return found

    def computable(self, set_version: str) -> tuple[Computable, ...]:
        """A set, ready to be computed. Raises ServiceError: NOT_FOUND, FAILED_PRECONDITION (KERNEL_CHANGED)."""
        found = self._computable.get(set_version)
        if found is None:
            made: dict[Key, Computable] = {}
            references = self.feature_set(set_version).features
            found = tuple(self._made(reference, made) for reference in references)
            self._computable[set_version] = found
        return found

    # --- events -------------------------------------------------------------------------------------

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Takes the next event of the journal."""
        handler = self._apply.get(envelope.schema)
        if handler is not None:
            handler(envelope.payload)

    def take(self, events: list[Message]) -> list[Message]:
        """Applies events that were just decided."""
        for event in events:
            self._apply[event.DESCRIPTOR.full_name](event.SerializeToString())
        return events

    def _parsed(self, kind: type[Message], handler: object, payload: bytes) -> None:
        handler(kind.FromString(payload))  # type: ignore[operator]

    def _registered(self, event: events_pb2.FeatureRegistered) -> None:
        self.features[event.feature.feature_id, event.feature.version] = event.feature

    def _deprecated(self, event: events_pb2.FeatureDeprecated) -> None:
        feature = self.features[event.feature.feature_id, event.feature.version]
        feature.state = State.STATE_DEPRECATED
        feature.etag = _etag(feature)

    def _set_registered(self, event: events_pb2.FeatureSetRegistered) -> None:
        self.sets[event.feature_set.feature_set_version] = event.feature_set

    # --- checks -------------------------------------------------------------------------------------

    def _check(self, feature_id: str, definition: feature_pb2.FeatureDefinition) -> None:
        kernel = KERNELS.get(definition.kernel)
        if kernel is None:
            raise invalid(
                "definition.kernel",
                f"{definition.kernel!r} is no kernel here",
                f"use one of {', '.join(sorted(KERNELS))}",
            )
        if definition.code_sha256 != kernel.sha256:
            raise _changed(definition.kernel, kernel.sha256)
        if set(definition.parameters) != set(kernel.parameters):
            names = ", ".join(kernel.parameters) or "none"
            raise invalid("definition.parameters", f"kernel {kernel.name} takes {names}", "state exactly these")
        for name, value in definition.parameters.items():
            if value != int(value) or value < 0:
                raise invalid(f"definition.parameters[{name}]", f"{value} is no number of bars", "use 0 or more")
        shortest = kernel.shortest(definition.parameters)
        if definition.minimum_bars < shortest:
            raise invalid(
                "definition.minimum_bars", f"{definition.minimum_bars} is too few", f"it needs {shortest} or more"
            )
        columns = tuple(each.bar_column for each in definition.inputs if each.HasField("bar_column"))
        needed = [each.feature for each in definition.inputs if each.HasField("feature")]
        if columns != kernel.columns or len(needed) != kernel.features:
            raise invalid(
                "definition.inputs",
                f"kernel {kernel.name} reads the columns ({', '.join(kernel.columns)}) and {kernel.features} features",
                "name these, in this order",
            )
        for reference in needed:
            found = self.feature(reference.feature_id, reference.version)
            if feature_id in self._behind(found):
                raise precondition(
                    "INPUT_CYCLE", f"{feature_id} would be computed from itself, through {reference.feature_id}"
                )
            if found.definition.minimum_bars > definition.minimum_bars:
                raise invalid(
                    "definition.minimum_bars",
                    f"its input {reference.feature_id} needs {found.definition.minimum_bars} bars",
                    "state as many or more",
                )

    def _behind(self, feature: feature_pb2.Feature) -> set[str]:
        """Names of all features that it is computed from, and its own."""
        names = {feature.feature_id}
        for each in feature.definition.inputs:
            if each.HasField("feature"):
                names |= self._behind(self.feature(each.feature.feature_id, each.feature.version))
        return names

    def _made(self, reference: feature_pb2.FeatureReference, made: dict[Key, Computable]) -> Computable:
        key = reference.feature_id, reference.version
        if key not in made:
            definition = self.feature(*key).definition
            kernel = KERNELS.get(definition.kernel)
            if kernel is None or kernel.sha256 != definition.code_sha256:
                raise _changed(definition.kernel, kernel.sha256 if kernel else "")
            inputs = (self._made(each.feature, made) for each in definition.inputs if each.HasField("feature"))
            made[key] = Computable(
                feature_id=reference.feature_id,
                version=reference.version,
                kernel=kernel,
                parameters=dict(definition.parameters),
                minimum_bars=definition.minimum_bars,
                maximum_age_ns=definition.maximum_age_ns,
                inputs=tuple(inputs),
            )
        return made[key]


def _changed(kernel: str, sha256: str) -> ServiceError:
    return ServiceError(
        grpc.StatusCode.FAILED_PRECONDITION,
        "KERNEL_CHANGED",
        f"kernel {kernel} is not what the definition was written for; register the feature anew with its present "
        "source, and train what rests on it again",
        metadata={"kernel": kernel, "code_sha256": sha256},
    )


def _etag(feature: feature_pb2.Feature) -> str:
    return hash_of(feature.version.encode(), str(feature.state).encode())[:16]


def _timestamp(now_ns: int) -> Timestamp:
    made = Timestamp()
    made.FromNanoseconds(now_ns)
    return made
