"""Keeps the model server as the registry wants it, and proves every version before it answers.

Wanted: champion, canary, shadows, and the champion before while the new one is baking. Each version is proved when it
is loaded: signature, hashes, load, golden rows. What fails is quarantined; a server that is away is asked again. The
route changes first (the journal), then names (MLflow), then this loop unloads.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

from alphamesh.model.v1 import model_pb2
from python_services.kit import telemetry
from python_services.kit.errors import ServiceError
from python_services.kit.files import replace_file
from python_services.kit.golden import Golden, GoldenError
from python_services.kit.ids import content_id
from python_services.kit.signal import within

from . import deciding, lifecycle, serving, signing
from .artifacts import CARD, GOLDEN, MODEL, SIGNATURE, DamagedError, Store, companions
from .config import Config
from .registry import AUTOMATIC, BOOTSTRAP, Registry
from .serving import AwayError, RefusedError, Serving
from .signing import Manifest, SignatureError, Signer
from .state import Model
from .triggers import Finding

Trigger = model_pb2.Alert.Trigger


class Syncer:
    """One loop; `prove` is also called before a promotion."""

    def __init__(
        self, config: Config, registry: Registry, store: Store, signer: Signer, server: Serving, staging: Path
    ) -> None:
        self._config = config
        self._registry = registry
        self._store = store
        self._signer = signer
        self._server = server
        self._staging = staging
        self._turn = asyncio.Lock()
        self._away = False
        self.proved: dict[str, set[int]] = {}  # versions that answered their golden rows since they were loaded
        self.loaded: Mapping[str, frozenset[int]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            changed = self._registry.changed.next()
            await self.once()
            await within(changed, self._config.serving_wait_s)

    async def once(self) -> None:
        """One look at everything."""
        async with self._turn:
            try:
                self.loaded = await self._server.loaded()
                for model in list(self._registry.state.models.values()):
                    await self._model(model)
                self._away = False
            except AwayError as error:
                if not self._away:
                    telemetry.logger().warning("the model server is away; asking again", error=str(error))
                self._away = True
                self.proved.clear()

    async def prove(self, model_id: str, number: int) -> str:
        """Loads a version beside the others and asks its golden rows. Empty when all is well, else what is wrong.

        What is the version's own fault quarantines it. Raises AwayError.
        """
        async with self._turn:
            model = self._registry.model(model_id)
            self.loaded = await self._server.loaded()
            keep = self.wanted(model) & self.loaded.get(model_id, frozenset())
            finding, _ = await self._load(model, keep, number)
            return finding.detail if finding is not None else ""

    def wanted(self, model: Model) -> frozenset[int]:
        """Versions that must be loaded."""
        places = model.places
        found = {places.champion, places.canary, *places.shadows}
        if deciding.baking(model, self._config.rollouts):
            found.add(places.previous)
        return frozenset(found - {0})

    async def _model(self, model: Model) -> None:
        model_id = model.model_id
        proved = self.proved.setdefault(model_id, set())
        proved &= self.loaded.get(model_id, frozenset())
        for number in sorted(self.wanted(model) - proved, key=lambda number: (number != model.places.champion, number)):
            await self._load(model, self._present(model), number)
        for number, version in sorted(model.versions.items()):
            if version.message.stage == lifecycle.REGISTERED and version.message.validation.validator == "":
                await self._validate(model, number)
        self._crown(model)
        await self._registry.journal.commit()  # the route is durable before anything is unloaded
        wanted, present = self.wanted(model), self._present(model)
        if present and not wanted:
            await self._server.unload(model_id)
        elif present - wanted:
            await self._server.load(model_id, self._folders(model, wanted & present), self._pbtxt(model))
        self.loaded = {**self.loaded, model_id: wanted & present}
        proved &= wanted

    def _crown(self, model: Model) -> None:
        """The newest shipped version answers when nobody does."""
        shipped = [
            number
            for number, version in model.versions.items()
            if version.message.owner == BOOTSTRAP and version.message.stage == lifecycle.VALIDATED
        ]
        waiting = any(
            version.message.owner == BOOTSTRAP and version.message.stage == lifecycle.REGISTERED
            for version in model.versions.values()
        )
        if shipped and not waiting and not model.places.champion and not model.reached(lifecycle.CHAMPION):
            self._registry.crown(model, max(shipped))

    async def _validate(self, model: Model, number: int) -> None:
        """The registry's own verdict, where golden rows came with the version; without them somebody else judges."""
        if not Manifest.parse(model.versions[number].manifest).golden_sha256:
            return
        finding, error = await self._load(model, self._present(model), number)
        version = model.versions[number].message
        metrics = dict(list(version.metrics.items())[:250])
        verdict = model_pb2.Validation(
            passed=finding is None,
            metrics={**metrics, "golden_parity_error": error},
            parity_error=error,
            validator=AUTOMATIC,
            note="loaded and answered its golden rows as recorded" if finding is None else finding.detail[:4096],
        )
        if version.stage == lifecycle.REGISTERED:
            self._registry.validated(model.model_id, number, verdict, AUTOMATIC)

    async def _load(self, model: Model, present: frozenset[int], number: int) -> tuple[Finding | None, float]:
        """(what is wrong or None, parity error): proves the files, loads beside `present`, asks the golden rows."""
        error = 0.0
        try:
            files = await asyncio.to_thread(self._files, model, number)
            await self._check_served(model, number, files)
            if number not in present:
                await self._add(model, present, number, files)
            error = await self._golden(model, number, files.get(GOLDEN, b""))
        except _WrongError as wrong:
            finding = Finding(
                trigger=wrong.trigger, measured=wrong.measured, limit=wrong.limit, count=0, detail=str(wrong)
            )
            telemetry.logger().error("a model version is refused", model=model.model_id, version=number, why=str(wrong))
            self._registry.found(model.model_id, number, finding)
            return finding, wrong.measured
        self.proved.setdefault(model.model_id, set()).add(number)
        return None, error

    async def _add(self, model: Model, present: frozenset[int], number: int, files: Mapping[str, bytes]) -> None:
        folders = self._folders(model, present | {number})
        await asyncio.to_thread(serving.stage, folders[number], files)
        try:
            await self._server.load(model.model_id, folders, self._pbtxt(model))
        except RefusedError as refusal:
            raise _WrongError(Trigger.TRIGGER_LOAD, str(refusal)) from refusal
        except FileExistsError as taken:
            raise _WrongError(Trigger.TRIGGER_ARTIFACT, str(taken)) from taken
        finally:
            shutil.rmtree(folders[number])
        self.loaded = {**self.loaded, model.model_id: present | {number}}

    async def _golden(self, model: Model, number: int, content: bytes) -> float:
        if not content:
            return 0.0
        try:
            golden = Golden.parse(content)
            found = await self._server.infer(model.model_id, number, golden.inputs, golden.shapes)
            _, error = golden.difference(found)
        except RefusedError as refusal:
            if number not in (await self._server.loaded()).get(model.model_id, ()):
                raise AwayError("the server was started anew while it was asked") from refusal
            raise _WrongError(Trigger.TRIGGER_GOLDEN_ROWS, str(refusal)) from refusal
        except GoldenError as bad:
            raise _WrongError(Trigger.TRIGGER_GOLDEN_ROWS, str(bad)) from bad
        if error > golden.tolerance:
            raise _WrongError(
                Trigger.TRIGGER_GOLDEN_ROWS, f"golden rows are off by {error:g}", measured=error, limit=golden.tolerance
            )
        return error

    def _files(self, model: Model, number: int) -> dict[str, bytes]:
        """The files of a version, with its signature checked. In a thread."""
        version = model.versions[number]
        try:
            manifest = self._signer.verify(version.manifest, version.signature, version.key_id)
            if (manifest.model_id, manifest.version) != (model.model_id, number):
                raise SignatureError(f"the signature is for {manifest.model_id}/{manifest.version}")
            files = {MODEL: self._store.read(manifest.sha256)}
            for name, sha256 in ((CARD, manifest.card_sha256), (GOLDEN, manifest.golden_sha256)):
                if sha256:
                    files[name] = self._store.read(sha256)
            for name, sha256 in companions(files.get(CARD, b"")).items():
                files[name] = self._store.read(sha256)
        except (SignatureError, DamagedError, ServiceError) as error:
            raise _WrongError(Trigger.TRIGGER_ARTIFACT, str(error)) from error
        files[SIGNATURE] = signing.to_file(version.manifest, version.signature, version.key_id)
        return files

    async def _check_served(self, model: Model, number: int, files: Mapping[str, bytes]) -> None:
        """A copy that the server has already must be the signed one, with the signature beside it."""
        folder = self._server.served(model.model_id, number)
        if folder is None:
            return
        signature = folder / SIGNATURE
        try:
            if signature.exists() and signature.read_bytes() != files[SIGNATURE]:
                self._signer.verify(*signing.from_file(signature.read_bytes()))
                raise SignatureError("model.sig in the model repository is another version's")
        except SignatureError as error:
            raise _WrongError(Trigger.TRIGGER_ARTIFACT, str(error)) from error
        try:
            content = await asyncio.to_thread((folder / MODEL).read_bytes)
        except FileNotFoundError:
            content = b""
        if content_id(content) != content_id(files[MODEL]):
            raise _WrongError(Trigger.TRIGGER_ARTIFACT, "model.onnx in the model repository is not the signed one")
        if not signature.exists():
            replace_file(signature, files[SIGNATURE])

    def _present(self, model: Model) -> frozenset[int]:
        return frozenset(self.loaded.get(model.model_id, frozenset()))

    def _folders(self, model: Model, versions: frozenset[int]) -> dict[int, Path]:
        return {number: self._staging / f"{model.model_id}-{number}" for number in sorted(versions)}

    def _pbtxt(self, model: Model) -> str:
        newest = model.versions[max(model.versions)].message
        return serving.triton_config(model.model_id, newest.signature)


class _WrongError(Exception):
    def __init__(self, trigger: int, detail: str, *, measured: float = 0.0, limit: float = 0.0) -> None:
        super().__init__(detail)
        self.trigger = trigger
        self.measured = measured
        self.limit = limit
