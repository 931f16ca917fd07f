"""The registry's servicer, what changes something. Decisions are made in lifecycle.py, deciding.py, triggers.py."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import grpc

from alphamesh.model.v1 import events_pb2, model_pb2, model_pb2_grpc
from python_services.kit import telemetry
from python_services.kit.clock import RealClock
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import ServiceError, aborted, invalid, not_found, precondition

from . import bootstrap, lifecycle, mirror
from .artifacts import Intake, Store
from .config import Config
from .reading import Reading
from .registry import OwnView, Registry
from .serving import AwayError, Serving, TritonServing
from .signing import Signer
from .state import Version
from .syncing import Syncer
from .watching import Watching

PAGE = 100
DERIVED = ("champion", "challenger")


class ModelRegistry(Reading):
    """ModelRegistryService. One model is changed by one call at a time where files are involved."""

    def __init__(
        self, context: Context[Config], registry: Registry, intake: Intake, syncer: Syncer | None, watching: Watching
    ) -> None:
        super().__init__(context.config, registry, syncer, watching)
        self._intake = intake
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def RegisterModelVersion(
        self, request: model_pb2.RegisterModelVersionRequest, context: object
    ) -> model_pb2.RegisterModelVersionResponse:
        """Checks the file, numbers and signs it."""
        registry = self._registry
        async with self._locks[request.model_id]:
            number = registry.next_version(request.model_id)
            try:
                taken = await asyncio.to_thread(self._intake.take, request, number, keep=not request.validate_only)
            except ServiceError as error:
                if not request.validate_only:
                    registry.refuse(request, error)
                    await registry.journal.commit()
                raise
            if request.validate_only:
                found = registry.described(request, number)
                return model_pb2.RegisterModelVersionResponse(model_version=found)
            found = registry.register(request, number, taken)
        response = model_pb2.RegisterModelVersionResponse(model_version=found)
        await registry.journal.commit(response)
        return response

    async def RecordValidation(
        self, request: model_pb2.RecordValidationRequest, context: object
    ) -> model_pb2.RecordValidationResponse:
        """A pass moves the version on."""
        version = self._version(request.model_id, request.version, request.etag)
        self._registry.validated(
            request.model_id, request.version, request.validation, _actor(), causation_id=request.request_id
        )
        response = model_pb2.RecordValidationResponse(model_version=version.message)
        await self._registry.journal.commit(response)
        return response

    async def PromoteModelVersion(
        self, request: model_pb2.PromoteModelVersionRequest, context: object
    ) -> model_pb2.PromoteModelVersionResponse:
        """One stage on, once it was loaded and proved."""
        registry = self._registry
        async with self._locks[request.model_id]:
            version = self._version(request.model_id, request.version, request.etag)
            model = registry.model(request.model_id)
            registry.allowed(lambda: lifecycle.promote(model.places, request.version, request.to_stage))
            self._guard(request)
            if not request.validate_only:
                await self._prove(request.model_id, request.version)
                moves = registry.allowed(lambda: lifecycle.promote(model.places, request.version, request.to_stage))
                registry.move(model, moves, _actor(), request.reason, causation_id=request.request_id)
        response = model_pb2.PromoteModelVersionResponse(model_version=version.message, rollout=model.rollout)
        if not request.validate_only:
            await registry.journal.commit(response)
        return response

    async def RollbackModel(
        self, request: model_pb2.RollbackModelRequest, context: object
    ) -> model_pb2.RollbackModelResponse:
        """The route first; what is not needed any more is unloaded after it."""
        registry = self._registry
        async with self._locks[request.model_id]:
            model = registry.model(request.model_id)
            self._same_rollout(request.model_id, request.etag)
            moves = registry.allowed(lambda: lifecycle.roll_back(model.places))
            for move in moves:
                if move.target == lifecycle.CHAMPION:
                    await self._prove(request.model_id, move.version)
            moves = registry.allowed(lambda: lifecycle.roll_back(model.places))
            registry.move(model, moves, _actor(), request.reason, causation_id=request.request_id)
        rolled_back = model.versions[moves[0].version].message
        response = model_pb2.RollbackModelResponse(rolled_back=rolled_back, rollout=model.rollout)
        await registry.journal.commit(response)
        return response

    async def RetireModelVersion(
        self, request: model_pb2.RetireModelVersionRequest, context: object
    ) -> model_pb2.RetireModelVersionResponse:
        """A shadow or canary out of use."""
        registry = self._registry
        version = self._version(request.model_id, request.version, request.etag)
        model = registry.model(request.model_id)
        moves = registry.allowed(lambda: lifecycle.retire(model.places, request.version))
        registry.move(model, moves, _actor(), request.reason, causation_id=request.request_id)
        response = model_pb2.RetireModelVersionResponse(model_version=version.message)
        await registry.journal.commit(response)
        return response

    async def SetAlias(self, request: model_pb2.SetAliasRequest, context: object) -> model_pb2.SetAliasResponse:
        """A name for people."""
        self._registry.version(request.model_id, request.version)
        expected = request.expected_version if request.HasField("expected_version") else None
        self._check_alias(request.model_id, request.alias, expected)
        alias = model_pb2.Alias(model_id=request.model_id, alias=request.alias, version=request.version)
        self._registry.decide([events_pb2.ModelAliasSet(alias=alias)], request.request_id)
        response = model_pb2.SetAliasResponse(alias=alias)
        await self._registry.journal.commit(response)
        return response

    async def DeleteAlias(
        self, request: model_pb2.DeleteAliasRequest, context: object
    ) -> model_pb2.DeleteAliasResponse:
        """The name is gone, the version stays."""
        expected = request.expected_version if request.HasField("expected_version") else None
        present = self._check_alias(request.model_id, request.alias, expected)
        if not present:
            raise not_found("alias", f"{request.model_id}/{request.alias}", "list names with ListAliases")
        alias = model_pb2.Alias(model_id=request.model_id, alias=request.alias, version=present)
        self._registry.decide([events_pb2.ModelAliasDeleted(alias=alias)], request.request_id)
        response = model_pb2.DeleteAliasResponse(alias=alias)
        await self._registry.journal.commit(response)
        return response

    async def UpdateRollout(
        self, request: model_pb2.UpdateRolloutRequest, context: object
    ) -> model_pb2.UpdateRolloutResponse:
        """Another share or other guardrails."""
        self._same_rollout(request.model_id, request.etag)
        changed = model_pb2.Rollout()
        changed.CopyFrom(self._rollout(request.model_id))
        changed.config.CopyFrom(request.config)
        self._registry.decide([events_pb2.RolloutChanged(rollout=changed)], request.request_id)
        response = model_pb2.UpdateRolloutResponse(rollout=self._rollout(request.model_id))
        await self._registry.journal.commit(response)
        return response

    async def RecordObservations(
        self, request: model_pb2.RecordObservationsRequest, context: object
    ) -> model_pb2.RecordObservationsResponse:
        """Records, judges, and acts before it answers."""
        alerts, unmatched = self._registry.observe(request)
        stage = self._registry.version(request.model_id, request.version).message.stage
        response = model_pb2.RecordObservationsResponse(stage=stage, alerts=alerts, unmatched_outcomes=unmatched)
        await self._registry.journal.commit(response)
        return response

    # --- checks -------------------------------------------------------------------------------------

    def _version(self, model_id: str, number: int, etag: str) -> Version:
        version = self._registry.version(model_id, number)
        if etag and etag != version.message.etag:
            raise aborted(
                "ETAG_MISMATCH", f"{model_id}/{number} has etag {version.message.etag!r}, not {etag!r}; read it again"
            )
        return version

    def _same_rollout(self, model_id: str, etag: str) -> None:
        present = self._rollout(model_id).etag
        if etag and etag != present:
            problem = f"the rollout of {model_id} has etag {present!r}, not {etag!r}; read it again"
            raise aborted("ETAG_MISMATCH", problem)

    def _check_alias(self, model_id: str, name: str, expected: int | None) -> int:
        """Version that the name points at now, 0 for none."""
        if name in DERIVED:
            raise invalid("alias", f"{name!r} follows the rollout by itself", "promote a version, or use another name")
        present = self._registry.model(model_id).aliases.get(name, 0)
        if expected is not None and expected != present:
            raise aborted("ALIAS_MOVED", f"{name!r} points at {present}, not at {expected}; read it again")
        return present

    def _guard(self, request: model_pb2.PromoteModelVersionRequest) -> None:
        """A person may judge that a version is better; that it was tried at all is not a judgement."""
        model = self._registry.model(request.model_id)
        if request.to_stage != lifecycle.CHAMPION or model.rollout is None or not model.places.champion:
            return
        seen, needed = model.versions[request.version].monitor.requests, model.rollout.config.minimum_requests
        if seen < needed:
            raise precondition(
                "GUARDRAILS_NOT_MET",
                f"{request.model_id}/{request.version} has answered {seen} questions as canary of the {needed} that "
                "are the least; wait, or lower minimum_requests with UpdateRollout",
            )

    async def _prove(self, model_id: str, number: int) -> None:
        if self._syncer is None:
            return
        try:
            wrong = await self._syncer.prove(model_id, number)
        except AwayError as error:
            problem = f"the model server is away, so {model_id}/{number} cannot be proved: {error}"
            raise ServiceError(grpc.StatusCode.UNAVAILABLE, "SERVING_AWAY", problem) from error
        if wrong:
            await self._registry.journal.commit()
            raise precondition("VERSION_REFUSED", f"{model_id}/{number} is out of service: {wrong}; register another")


def _actor() -> str:
    return telemetry.user.get() or telemetry.caller.get() or "unknown"


async def _follow(config: Config, registry: Registry, store: Store, syncer: Syncer) -> None:
    """Shipped models are registered where they can be proved: before a model server."""
    await bootstrap.register(config, registry, store)
    await syncer.run()


async def build(context: Context[Config], serving: Serving | None = None) -> None:
    """Recovers from the journal, then registers what is shipped and follows the model server in the background."""
    config, folder = context.config, context.data_dir
    if serving is None and config.serving == "triton":
        if context.model_server is None:  # all services in one process, or a topology without the server
            telemetry.logger().warning("there is no model server; versions wait for one to be validated")
        else:
            serving = TritonServing(context)
    store = Store(folder / "blobs")
    signer = await asyncio.to_thread(Signer, folder / "keys", config.publishers)
    registry = Registry(config, context.open_journal(), signer, RealClock().now_ns)
    inbox = folder / "inbox" if not config.inbox else folder / config.inbox
    await asyncio.to_thread(inbox.mkdir, parents=True, exist_ok=True, mode=0o700)
    syncer = Syncer(config, registry, store, signer, serving, folder / "staging") if serving is not None else None

    context.serve_view(OwnView(registry, config.rollouts))
    servicer = ModelRegistry(context, registry, Intake(store, inbox, signer), syncer, Watching(context, registry))
    context.add(
        model_pb2_grpc.add_ModelRegistryServiceServicer_to_server,
        servicer,
        "alphamesh.model.v1.ModelRegistryService",
    )
    if syncer is not None:
        context.spawn(_follow(config, registry, store, syncer), "serving")
    if config.mlflow and context.logs is not None:  # not where all services are one process: tests, replays, readers
        mirrored = mirror.run(registry.state, store, registry.changed, folder / "mlflow", config.mlflow_wait_s)
        context.spawn(mirrored, "mlflow")


DEFINITION = ServiceDefinition(name="model_registry", version="0.1.0", config=Config, build=build, niceness=5)
