"""Calling models: Triton's KServe v2 API with what it takes to trust an answer.

Triton answers an empty version with the highest number, which is the canary; a model whose process has died may answer
OK and nothing. So the version is always named, and of every reply model, version, names, types, shapes, lengths and
finiteness are checked before anybody reads it. Nothing is repeated here: a caller that gets an InferenceError marks its
result degraded, or abstains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from inference import grpc_service_pb2, grpc_service_pb2_grpc

from .breaker import Breaker, BreakerOpenError
from .context import Context
from .errors import ServiceError, is_away

SERVICE = "triton"
DEFAULT_TIMEOUT_S = 1.0
Shape = tuple[int, ...]
Array = NDArray[Any]
# KServe v2 name -> little-endian NumPy type. BYTES is not here: text never travels to a model of ours.
DTYPES = {
    "BOOL": "?",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_TYPES = {name: np.dtype(code) for name, code in DTYPES.items()}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


class Reason(StrEnum):
    """Why there is no answer."""

    # No server, or its process died over the question; or no such version, as always for a moment after a restart.
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE = "DEADLINE"
    BREAKER_OPEN = "BREAKER_OPEN"  # failed too often; not asked
    BAD_REPLY = "BAD_REPLY"  # not the model, names, types, shapes or lengths that were asked for
    NOT_FINITE = "NOT_FINITE"  # a NaN or an infinity among the outputs
    REJECTED = "REJECTED"  # the question is at fault: its shape, its type, a NaN, or who asks


_CODES = {
    Reason.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.BREAKER_OPEN: grpc.StatusCode.UNAVAILABLE,
    Reason.BAD_REPLY: grpc.StatusCode.INTERNAL,
    Reason.NOT_FINITE: grpc.StatusCode.INTERNAL,
    Reason.REJECTED: grpc.StatusCode.INVALID_ARGUMENT,
}
_REJECTED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)


class InferenceError(ServiceError):
    """No usable answer; `reason` is one of `Reason`. As an answer of the caller it has a status code that fits."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(_CODES[reason], reason.value, message)

    @classmethod
    def of(cls, what: str, error: grpc.aio.AioRpcError) -> InferenceError:
        """From the status of a call."""
        code, text = error.code(), f"{what}: {error.details() or error.code().name}"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return cls(Reason.DEADLINE, text)
        if code in _REJECTED and not is_away(error):
            return cls(Reason.REJECTED, text)
        return cls(Reason.UNAVAILABLE, text)


class InferenceClient:
    """One for a service. Each version of each model has a breaker of its own: a bad canary is not the champion."""

    def __init__(
        self, stub: grpc_service_pb2_grpc.GRPCInferenceServiceStub, *, failures: int = 5, reset_s: float = 2.0
    ) -> None:
        self._infer: Any = stub.ModelInfer
        self._failures = failures
        self._reset_s = reset_s
        self._breakers: dict[tuple[str, int], Breaker] = {}

    @classmethod
    def of(cls, context: Context[Any], **breaker: Any) -> InferenceClient:
        """For a service that calls `triton` in the topology."""
        return cls(context.stub(grpc_service_pb2_grpc.GRPCInferenceServiceStub, SERVICE), **breaker)

    async def infer(
        self,
        model: str,
        version: int,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Shape],
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> dict[str, Array]:
        """The named outputs, read-only, each in the shape asked for; -1 in a shape takes any length.

        `inputs`: numeric arrays, sent in their own types, little-endian; all finite. Raises InferenceError.
        """
        request = _request(model, version, inputs, outputs)
        breaker = self._breakers.get((model, version))
        if breaker is None:
            breaker = Breaker(f"{model}/{version}", failures=self._failures, reset_s=self._reset_s)
            self._breakers[model, version] = breaker

        async def ask() -> dict[str, Array]:
            try:
                reply = await self._infer(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                raise InferenceError.of(f"{model}/{version}", error) from error
            return _checked(reply, model, version, outputs)

        try:
            return await breaker.call(ask)
        except BreakerOpenError as error:
            raise InferenceError(Reason.BREAKER_OPEN, error.message) from error

    def breaker_state(self, model: str, version: int) -> str:
        """ "closed", "open" or "half-open"."""
        breaker = self._breakers.get((model, version))
        return "closed" if breaker is None else breaker.state


def _request(
    model: str, version: int, inputs: Mapping[str, Array], outputs: Mapping[str, Shape]
) -> grpc_service_pb2.ModelInferRequest:
    what = f"{model}/{version}"
    if version < 1:
        raise InferenceError(Reason.REJECTED, f"{what}: a version is 1 or more; name the one to ask")
    request = grpc_service_pb2.ModelInferRequest(model_name=model, model_version=str(version))
    for name, value in inputs.items():
        datatype = _NAMES.get(value.dtype.newbyteorder("<"))
        if datatype is None:
            raise InferenceError(Reason.REJECTED, f"{what}: input {name} is {value.dtype}, which no tensor has")
        if not _finite(value):
            raise InferenceError(Reason.REJECTED, f"{what}: input {name} is not finite; leave such rows out")
        request.inputs.add(name=name, datatype=datatype, shape=value.shape)
        request.raw_input_contents.append(value.astype(_TYPES[datatype], copy=False).tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    return request


def _checked(
    reply: grpc_service_pb2.ModelInferResponse, model: str, version: int, outputs: Mapping[str, Shape]
) -> dict[str, Array]:
    def bad(problem: str) -> InferenceError:
        return InferenceError(Reason.BAD_REPLY, f"{model}/{version}: {problem}")

    if (reply.model_name, reply.model_version) != (model, str(version)):
        raise bad(f"{reply.model_name}/{reply.model_version} answered")
    if len(reply.outputs) != len(reply.raw_output_contents):
        raise bad(f"{len(reply.outputs)} outputs with {len(reply.raw_output_contents)} contents")
    found: dict[str, Array] = {}
    for tensor, content in zip(reply.outputs, reply.raw_output_contents, strict=True):
        name, dtype = tensor.name, _TYPES.get(tensor.datatype)
        if name not in outputs or dtype is None:
            raise bad(f"output {name!r} of type {tensor.datatype!r} was not asked for")
        shape, wanted = tuple(tensor.shape), outputs[name]
        if shape != wanted and not _fits(shape, wanted):
            raise bad(f"output {name} has the shape {shape}, not {wanted}")
        if len(content) != math.prod(shape) * dtype.itemsize:
            raise bad(f"output {name} has {len(content)} bytes for {shape} of {dtype}")
        found[name] = np.ndarray(shape, dtype, content)
    if missing := set(outputs) - set(found):
        raise bad(f"outputs {sorted(missing)} are missing")
    for name, value in found.items():
        if not _finite(value):
            raise InferenceError(Reason.NOT_FINITE, f"{model}/{version}: output {name} has a NaN or an infinity")
    return found


def _fits(shape: Shape, wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(w in (-1, n) for n, w in zip(shape, wanted, strict=True))


def _finite(value: Array) -> bool:
    return value.dtype.kind != "f" or np.count_nonzero(np.isfinite(value)) == value.size
