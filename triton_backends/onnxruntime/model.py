"""Triton's `onnxruntime` backend, as a python-based one: PyPI ships the server and not the native backend.

A model is what the native backend of a stock image takes: config.pbtxt with `backend: "onnxruntime"`, and
<version>/model.onnx. Numeric tensors only. Differences: one CPU thread unless `intra_op_thread_count` says more, so
that sums come out the same everywhere; and a version with golden.json beside it is loaded only if it answers those
rows as recorded. This file runs in .tools/triton-py and imports nothing of AlphaMesh.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

_DTYPES = {
    "TYPE_BOOL": "bool",
    "TYPE_INT8": "int8",
    "TYPE_INT16": "int16",
    "TYPE_INT32": "int32",
    "TYPE_INT64": "int64",
    "TYPE_UINT8": "uint8",
    "TYPE_UINT16": "uint16",
    "TYPE_UINT32": "uint32",
    "TYPE_UINT64": "uint64",
    "TYPE_FP16": "float16",
    "TYPE_FP32": "float32",
    "TYPE_FP64": "float64",
}
_ONNX = {"float16": "float16", "float": "float32", "double": "float64"}  # others have NumPy's names
_TOLERANCE = 1e-5


class TritonPythonModel:
    """One version of one model."""

    def initialize(self, args: dict[str, Any]) -> None:
        """Loads and proves the version; whatever it raises is why Triton refuses it."""
        if int(np.__version__.partition(".")[0]) >= 2:
            raise _refuse(f"NumPy is {np.__version__}: this server answers nothing with 2; run `make setup`")
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / str(args["model_version"])
        self._batched = config["max_batch_size"] > 0
        self._inputs = {item["name"]: item for item in config["input"]}
        self._outputs = {item["name"]: item for item in config["output"]}
        self._session = _open(folder / (config.get("default_model_filename") or "model.onnx"), config)
        self._check("input", self._inputs, self._session.get_inputs())
        self._check("output", self._outputs, self._session.get_outputs())
        golden = folder / "golden.json"
        if golden.exists():
            self._prove(json.loads(golden.read_bytes()))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer each, in order. Requests that fit together are one run; a failure is its own request's only."""
        feeds = [self._feed(request) for request in requests]
        answers: list[Any] = [None] * len(requests)
        for group in self._groups(feeds):
            try:
                found = self._run_together([feeds[i] for i in group])
            except Exception:  # somebody's values: each by itself says whose
                found = [self._run_alone(feeds[i]) for i in group]
            for i, result in zip(group, found, strict=True):
                answers[i] = self._response(requests[i], result)
        return answers

    def _feed(self, request: Any) -> dict[str, np.ndarray]:
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}

    def _groups(self, feeds: list[dict[str, np.ndarray]]) -> list[list[int]]:
        if not self._batched:
            return [[i] for i in range(len(feeds))]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, feed in enumerate(feeds):
            groups.setdefault(tuple(value.shape[1:] for value in feed.values()), []).append(i)
        return list(groups.values())

    def _run_together(self, feeds: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        if len(feeds) == 1:
            return [self._run(feeds[0])]
        together = self._run({name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs})
        ends = list(itertools.accumulate(len(next(iter(feed.values()))) for feed in feeds))
        return [
            {name: value[begin:end] for name, value in together.items()}
            for begin, end in itertools.pairwise([0, *ends])
        ]

    def _run_alone(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray] | str:
        try:
            return self._run(feed)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = self._session.run(list(self._outputs), feed)
        rows = len(next(iter(feed.values()))) if self._batched else 0
        for name, value in zip(self._outputs, values, strict=True):
            if self._batched and (value.ndim == 0 or len(value) != rows):
                raise ValueError(f"output {name} has the shape {value.shape} for {rows} rows")
        return dict(zip(self._outputs, values, strict=True))

    def _response(self, request: Any, result: dict[str, np.ndarray] | str) -> Any:
        if isinstance(result, str):
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(result))
        wanted = request.requested_output_names()
        tensors = [
            pb_utils.Tensor(name, np.ascontiguousarray(value, _DTYPES[self._outputs[name]["data_type"]]))
            for name, value in result.items()
            if name in wanted
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _check(self, kind: str, configured: dict[str, Any], actual: list[Any]) -> None:
        """A wrong name, type or shape would show itself at the first request only."""
        known = {item.name: item for item in actual}
        missing = set(configured) - set(known) if kind == "output" else set(configured) ^ set(known)
        if missing:
            raise _refuse(f"{kind}s {sorted(missing)} of config.pbtxt and model.onnx differ; it has {sorted(known)}")
        for name, item in configured.items():
            dtype, dims = _DTYPES.get(item["data_type"]), [int(n) for n in item["dims"]]
            onnx = known[name].type.removeprefix("tensor(").removesuffix(")")
            if dtype is None or dtype != _ONNX.get(onnx, onnx):
                raise _refuse(f"{kind} {name} is {item['data_type']} in config.pbtxt and {onnx} in model.onnx")
            shape = known[name].shape[1:] if self._batched else known[name].shape
            fits = len(shape) == len(dims) and all(
                not isinstance(n, int) or d in (-1, n) for n, d in zip(shape, dims, strict=True)
            )
            if known[name].shape and not fits:
                raise _refuse(f"{kind} {name} has dims {dims} in config.pbtxt and {shape} in model.onnx")

    def _prove(self, golden: dict[str, Any]) -> None:
        feed = {
            name: np.asarray(item["data"], _DTYPES[f"TYPE_{item['datatype']}"]).reshape(item["shape"])
            for name, item in golden["inputs"].items()
        }
        found = self._run(feed)
        tolerance = golden.get("tolerance", _TOLERANCE)
        for name, item in golden["outputs"].items():
            wanted = np.asarray(item["data"], np.float64).reshape(item["shape"])
            if name not in found or found[name].shape != wanted.shape:
                shape = found[name].shape if name in found else None
                raise _refuse(f"golden rows: {name} has the shape {shape}, not {wanted.shape}")
            off = np.abs(found[name].astype(np.float64) - wanted)
            if not np.all(off <= tolerance):  # a NaN is not
                raise _refuse(f"golden rows: {name} is off by {np.max(off):g}, more than {tolerance:g}")


def _open(path: Path, config: dict[str, Any]) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise _refuse(f"{path} is missing")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _parameter(config, "intra_op_thread_count", 1)
    options.inter_op_num_threads = _parameter(config, "inter_op_thread_count", 1)
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has many; each means that the file is no good
        raise _refuse(f"{path} cannot be loaded: {error}") from error


def _parameter(config: dict[str, Any], name: str, default: int) -> int:
    """As the native backend names them."""
    found = config.get("parameters", {}).get(name)
    return int(found["string_value"]) if found else default


def _refuse(problem: str) -> Exception:
    error: Exception = pb_utils.TritonModelException(problem)
    return error
