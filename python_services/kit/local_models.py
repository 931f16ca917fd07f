"""Triton's part in the local transport: the same model files under the same runtime, in this process.

Each request is a run by itself on one thread, so it answers what Triton does for any model whose rows do not depend on
each other. A model is opened when it is first asked, or loaded by name.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from inference import grpc_service_pb2, grpc_service_pb2_grpc, model_config_pb2

from .errors import ServiceError
from .inference import DTYPES
from .inference_admin import CONFIG, MODEL, READY, read_config

_Key = tuple[str, int]
_Method = Callable[["LocalModels", Any, Any], Awaitable[Any]]


def _aborting(method: _Method) -> _Method:
    """The kit's chain is for our own contracts; here a failure is a status and a text, as from Triton."""

    @functools.wraps(method)
    async def wrapped(self: LocalModels, request: Any, context: Any) -> Any:
        try:
            return await method(self, request, context)
        except ServiceError as error:
            await context.abort(error.code, error.message)

    return wrapped


class LocalModels(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves a model repository: the calls that the kit's clients make."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._open: dict[_Key, Any] = {}
        self._served: dict[_Key, model_config_pb2.ModelConfig] = {}
        for path in models.glob(f"*/{CONFIG}"):
            self._serve(path.parent)

    @_aborting
    async def ModelInfer(
        self, request: grpc_service_pb2.ModelInferRequest, context: Any
    ) -> grpc_service_pb2.ModelInferResponse:
        """One run."""
        key = (request.model_name, int(request.model_version or 0))
        config = self._served.get(key)
        if config is None:
            text = f"Request for unknown model: {request.model_name!r} version {request.model_version} is not found"
            raise ServiceError(grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", text)
        feed = {
            tensor.name: np.frombuffer(content, DTYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        _check(config, request)
        if key not in self._open:
            self._open[key] = _session(self._models / key[0] / str(key[1]) / MODEL)
        reply = grpc_service_pb2.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        names = [output.name for output in request.outputs]
        types = {tensor.name: tensor.data_type for tensor in config.output}
        for name, value in zip(names, self._open[key].run(names, feed), strict=True):
            datatype = model_config_pb2.DataType.Name(types[name]).removeprefix("TYPE_")
            reply.outputs.add(name=name, datatype=datatype, shape=value.shape)
            reply.raw_output_contents.append(np.ascontiguousarray(value, DTYPES[datatype]).tobytes())
        return reply

    @_aborting
    async def RepositoryIndex(
        self, request: grpc_service_pb2.RepositoryIndexRequest, context: Any
    ) -> grpc_service_pb2.RepositoryIndexResponse:
        """What is served."""
        reply = grpc_service_pb2.RepositoryIndexResponse()
        for model, version in sorted(self._served):
            reply.models.add(name=model, version=str(version), state=READY)
        return reply

    @_aborting
    async def RepositoryModelLoad(
        self, request: grpc_service_pb2.RepositoryModelLoadRequest, context: Any
    ) -> grpc_service_pb2.RepositoryModelLoadResponse:
        """Every version in the repository and no other; those that are open stay open."""
        folder = self._models / request.model_name
        if not (folder / CONFIG).is_file():
            raise _invalid(f"load failed for model {request.model_name!r}: no {CONFIG}")
        for path in _versions(folder):
            key = (request.model_name, int(path.name))
            if key not in self._open:
                self._open[key] = _session(path / MODEL)
        self._forget(request.model_name)
        self._serve(folder)
        return grpc_service_pb2.RepositoryModelLoadResponse()

    @_aborting
    async def RepositoryModelUnload(
        self, request: grpc_service_pb2.RepositoryModelUnloadRequest, context: Any
    ) -> grpc_service_pb2.RepositoryModelUnloadResponse:
        """None of its versions."""
        self._forget(request.model_name)
        return grpc_service_pb2.RepositoryModelUnloadResponse()

    def _serve(self, folder: Path) -> None:
        config = read_config(folder / CONFIG)
        self._served |= {(folder.name, int(path.name)): config for path in _versions(folder)}
        self._open = {key: session for key, session in self._open.items() if key in self._served}

    def _forget(self, model: str) -> None:
        self._served = {key: config for key, config in self._served.items() if key[0] != model}


def _versions(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]


def _check(config: model_config_pb2.ModelConfig, request: grpc_service_pb2.ModelInferRequest) -> None:
    """As Triton does before a model sees the request."""
    sent = {tensor.name: tensor for tensor in request.inputs}
    known = {tensor.name for tensor in config.output}
    if set(sent) != {tensor.name for tensor in config.input} or not {out.name for out in request.outputs} <= known:
        raise _invalid(f"unexpected inputs or outputs for model {request.model_name!r}")
    for tensor in config.input:
        found = sent[tensor.name]
        dims = found.shape[1:] if config.max_batch_size else found.shape
        fits = len(dims) == len(tensor.dims) and all(w in (-1, n) for w, n in zip(tensor.dims, dims, strict=True))
        typed = f"TYPE_{found.datatype}" == model_config_pb2.DataType.Name(tensor.data_type)
        batch = not config.max_batch_size or 1 <= found.shape[0] <= config.max_batch_size
        if not (fits and typed and batch):
            shape = list(found.shape)
            raise _invalid(f"input {tensor.name!r} is {found.datatype} {shape}, which {request.model_name!r} has not")


def _session(path: Path) -> Any:
    try:
        import onnxruntime  # here, so that a process without models does not need it
    except ImportError as error:
        text = "models are served in this process with onnxruntime, which is not installed; run `make setup`"
        raise ServiceError(grpc.StatusCode.UNAVAILABLE, "NO_RUNTIME", text) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has many; each means that the file is no good
        raise _invalid(f"load failed: {path} cannot be loaded: {error}") from error


def _invalid(text: str) -> ServiceError:
    return ServiceError(grpc.StatusCode.INVALID_ARGUMENT, "BAD_MODEL_REQUEST", text)
