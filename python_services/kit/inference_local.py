"""The model server of the local transport: the same KServe v2 answers, from ONNX Runtime in this process.

Triton's models run on the same version of ONNX Runtime, with the same settings, so a session in one process decides
as one with Triton, bit for bit. Imported only where no Triton is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime

from inference import grpc_service_pb2, grpc_service_pb2_grpc

from .inference import DTYPES

MODEL = "model.onnx"
_ONNX = {"float16": "FP16", "float": "FP32", "double": "FP64"}  # others have KServe's names, in small letters
Session = Any  # onnxruntime has no types


class LocalInference(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves the versions in a repository of Triton's layout: those that were loaded, as Triton would."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._sessions: dict[str, Mapping[int, Session]] = {}

    async def load_all(self) -> None:
        """Every model of the repository. One that cannot be loaded is not served."""
        for folder in sorted(path for path in self._models.iterdir() if path.is_dir()):
            self._sessions[folder.name] = await asyncio.to_thread(_open, folder)

    async def ModelInfer(
        self, request: grpc_service_pb2.ModelInferRequest, context: Any
    ) -> grpc_service_pb2.ModelInferResponse:
        """One answer, in this thread: a model takes less than a message."""
        session: Session = self._sessions.get(request.model_name, {}).get(int(request.model_version))
        if session is None:
            text = f"{request.model_name}/{request.model_version} is not loaded"
            await context.abort(grpc.StatusCode.UNAVAILABLE, text)
        feed = {
            tensor.name: np.frombuffer(content, DTYPES[tensor.datatype]).reshape(tuple(tensor.shape))
            for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        names = [output.name for output in request.outputs] or [output.name for output in session.get_outputs()]
        try:
            found = session.run(names, feed)
        except Exception as error:  # the runtime has many; all mean that the question does not fit the model
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = grpc_service_pb2.ModelInferResponse(
            model_name=request.model_name, model_version=request.model_version, id=request.id
        )
        types = {output.name: _datatype(output.type) for output in session.get_outputs()}
        for name, value in zip(names, found, strict=True):
            response.outputs.add(name=name, datatype=types[name], shape=value.shape)
            response.raw_output_contents.append(np.ascontiguousarray(value, DTYPES[types[name]]).tobytes())
        return response

    async def RepositoryIndex(
        self, request: grpc_service_pb2.RepositoryIndexRequest, context: Any
    ) -> grpc_service_pb2.RepositoryIndexResponse:
        """What is loaded."""
        response = grpc_service_pb2.RepositoryIndexResponse()
        for model, versions in sorted(self._sessions.items()):
            for version in sorted(versions):
                response.models.add(name=model, version=str(version), state="READY")
        return response

    async def RepositoryModelLoad(
        self, request: grpc_service_pb2.RepositoryModelLoadRequest, context: Any
    ) -> grpc_service_pb2.RepositoryModelLoadResponse:
        """Exactly the versions that lie in the repository; what was served goes on when one of them is refused."""
        folder = self._models / request.model_name
        try:
            self._sessions[request.model_name] = await asyncio.to_thread(_open, folder)
        except Exception as error:  # as above: whatever it is, the file is no good
            await context.abort(grpc.StatusCode.INTERNAL, f"load failed for model {request.model_name!r}: {error}")
        return grpc_service_pb2.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: grpc_service_pb2.RepositoryModelUnloadRequest, context: Any
    ) -> grpc_service_pb2.RepositoryModelUnloadResponse:
        """No version of the model answers any more."""
        self._sessions.pop(request.model_name, None)
        return grpc_service_pb2.RepositoryModelUnloadResponse()

    async def ServerMetadata(
        self, request: grpc_service_pb2.ServerMetadataRequest, context: Any
    ) -> grpc_service_pb2.ServerMetadataResponse:
        """What this is."""
        return grpc_service_pb2.ServerMetadataResponse(name="local", version=onnxruntime.__version__)


def _open(folder: Path) -> Mapping[int, Session]:
    """Settings as in triton_backends/onnxruntime: one thread, so that sums come out the same everywhere."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    return {
        int(path.name): onnxruntime.InferenceSession(str(path / MODEL), options, providers=["CPUExecutionProvider"])
        for path in folder.iterdir()
        if path.name.isdecimal() and (path / MODEL).is_file()
    }


def _datatype(onnx: str) -> str:
    name = onnx.removeprefix("tensor(").removesuffix(")")
    return _ONNX.get(name, name.upper())
