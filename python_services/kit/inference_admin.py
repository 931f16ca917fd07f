"""What is loaded in Triton, and what lies in its model repository: for the registry, and for the supervisor.

The repository belongs to one run and is in Triton's layout: <model>/config.pbtxt and <model>/<version>/model.onnx with
what is beside it. A version appears there in one step, is never changed, and is loaded and unloaded by name only.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format

from inference import grpc_service_pb2, grpc_service_pb2_grpc, model_config_pb2

from .context import Context, ModelServer
from .errors import precondition
from .golden import Golden, GoldenError
from .inference import SERVICE, InferenceClient, InferenceError, Reason

# Triton's name of a key's header; the server is started with the same key.
ADMIN_HEADER = "triton-grpc-protocol-admin-key"
LOAD_TIMEOUT_S = 60.0
CONFIG, MODEL, GOLDEN = "config.pbtxt", "model.onnx", "golden.json"
READY = "READY"
INCOMING = "incoming"  # beside the repository, on the same disk


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A version as Triton knows it. `state`: READY, LOADING, UNLOADING, UNAVAILABLE; `reason` says why."""

    model: str
    version: int
    state: str
    reason: str = ""


class InferenceAdmin:
    """Loads and unloads. Only who is given the key may."""

    def __init__(self, stub: grpc_service_pb2_grpc.GRPCInferenceServiceStub, server: ModelServer) -> None:
        self._stub: Any = stub
        self._metadata = ((ADMIN_HEADER, server.admin_key),)
        self.models = server.models

    @classmethod
    def of(cls, context: Context[Any]) -> InferenceAdmin:
        """For a service whose `calls` of triton have the Repository methods. Raises ServiceError for another."""
        if context.model_server is None:
            problem = f"{context.name} may not load models; add RepositoryModelLoad to its calls of {SERVICE}"
            raise precondition("NO_MODEL_SERVER", problem)
        return cls(context.stub(grpc_service_pb2_grpc.GRPCInferenceServiceStub, SERVICE), context.model_server)

    async def load(self, model: str, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """Every version of `model` in the repository serves after this, and no other; those that did go on meanwhile.

        Raises InferenceError REJECTED with Triton's words when a version is refused. A model that was not loaded has
        none then; one that was keeps what it had.
        """
        request = grpc_service_pb2.RepositoryModelLoadRequest(model_name=model)
        await self._call(self._stub.RepositoryModelLoad, request, f"load {model}", timeout_s, refusals=True)

    async def unload(self, model: str, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """No version of `model` serves after this. Raises InferenceError."""
        request = grpc_service_pb2.RepositoryModelUnloadRequest(model_name=model)
        await self._call(self._stub.RepositoryModelUnload, request, f"unload {model}", timeout_s)

    async def index(self, timeout_s: float = 5.0) -> list[Loaded]:
        """Every version that Triton has tried to load. Raises InferenceError."""
        request = grpc_service_pb2.RepositoryIndexRequest()
        reply = await self._call(self._stub.RepositoryIndex, request, "index", timeout_s)
        return [
            Loaded(model=one.name, version=int(one.version), state=one.state, reason=one.reason)
            for one in reply.models
            if one.version
        ]

    async def server_version(self) -> str:
        """Of the program. Raises InferenceError."""
        request = grpc_service_pb2.ServerMetadataRequest()
        return str((await self._call(self._stub.ServerMetadata, request, "metadata", 5.0)).version)

    def install(self, model: str, version: int, source: Path, config: Path | None = None) -> Path:
        """Copies a version into the repository in one step; `config`: its model's config.pbtxt, where there is none.

        It is not loaded yet. Raises FileExistsError when another version of that number is there, and ValueError for a
        configuration that cannot be read.
        """
        if config is not None and not (self.models / model / CONFIG).exists():
            install_config(self.models, model, read_config(config))
        return install_version(self.models, model, version, source)

    def remove(self, model: str, version: int) -> None:
        """Takes a version out of the repository, in one step. It serves until the next `load` or `unload`."""
        folder = self.models / model / str(version)
        if folder.exists():
            away = self._incoming() / f"{model}-{version}.removed"
            shutil.rmtree(away, ignore_errors=True)
            folder.rename(away)
            shutil.rmtree(away)

    def _incoming(self) -> Path:
        return _made(self.models.parent / INCOMING)

    async def _call(self, method: Any, request: Any, what: str, timeout_s: float, *, refusals: bool = False) -> Any:
        try:
            return await method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            found = InferenceError.of(what, error)
            # A backend's refusal comes as INTERNAL or INVALID_ARGUMENT, whatever is wrong with the file.
            refused = refusals and error.code() is grpc.StatusCode.INTERNAL and "load failed" in (error.details() or "")
            raise (InferenceError(Reason.REJECTED, found.message) if refused else found) from error


def read_config(path: Path) -> model_config_pb2.ModelConfig:
    """A config.pbtxt. Raises ValueError with file, line and problem."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        line = error.GetLine() or 1
        raise ValueError(f"{path}:{line}: {error}; see third_party/inference/model_config.proto") from error


def install_config(models: Path, model: str, config: model_config_pb2.ModelConfig) -> None:
    """Writes the configuration of a model in one step: every version in the repository serves, on one process each.

    An `instance_group` of the author stays as it is; Triton's own default is two processes, and twice the memory.
    """
    config.name = model
    config.version_policy.all.SetInParent()
    if not config.instance_group:
        config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    new = _made(models.parent / INCOMING) / f"{model}.pbtxt"
    new.write_text(text_format.MessageToString(config), encoding="utf-8")
    _made(models / model)
    new.replace(models / model / CONFIG)


def install_version(models: Path, model: str, version: int, source: Path) -> Path:
    """Copies the folder `source` to <models>/<model>/<version> by a rename. The same content again changes nothing."""
    target = models / model / str(version)
    if target.exists():
        if (target / MODEL).read_bytes() != (source / MODEL).read_bytes():
            raise FileExistsError(f"{target} holds another model; a version is never changed: use a new number")
        return target
    new = _made(models.parent / INCOMING) / f"{model}-{version}"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(source, new)
    _made(target.parent)
    return new.rename(target)


async def check_golden(client: InferenceClient, model: str, version: int, folder: Path, timeout_s: float) -> bool:
    """Whether the version answered the rows of golden.json in `folder` as recorded; False: there is no such file.

    Raises InferenceError: BAD_REPLY when the numbers are others, or what `infer` raises.
    """
    path = folder / GOLDEN
    if not path.exists():
        return False
    try:
        golden = Golden.parse(path.read_bytes())
    except GoldenError as error:
        raise InferenceError(Reason.REJECTED, f"{path}: {error}") from error
    found = await client.infer(model, version, dict(golden.inputs), golden.shapes, timeout_s)
    name, off = golden.difference(found)
    if off > golden.tolerance:
        raise InferenceError(Reason.BAD_REPLY, f"{model}/{version}: golden rows: {name} is off by {off:g}")
    return True


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
