"""Small models in ONNX for tests, in Triton's layout: what they answer is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper

CONFIG = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: 1024
input {{ name: "features" data_type: TYPE_FP32 dims: {columns} }}
output {{ name: "score" data_type: TYPE_FP32 dims: 1 }}
dynamic_batching {{ }}
"""


def write_model(models: Path, name: str, columns: int, config: str = CONFIG) -> Path:
    """The folder of a model, with its config.pbtxt and no version."""
    folder = models / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(config.format(name=name, columns=columns))
    return folder


def write_linear(folder: Path, version: int, weights: Sequence[float], *, output: str = "score") -> Path:
    """features @ weights, with golden rows."""
    values = np.asarray(weights, np.float32).reshape(-1, 1)
    path = _write(
        folder, version, len(weights), [helper.make_node("MatMul", ["features", "weights"], [output])], values
    )
    if output == "score":
        rows = np.arange(2 * len(weights), dtype=np.float32).reshape(2, -1)
        write_golden(path, rows, rows @ values)
    return path


def write_logarithm(folder: Path, version: int, columns: int) -> Path:
    """log(features @ 1): not finite where the sum of a row is not positive."""
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["sum"]),
        helper.make_node("Log", ["sum"], ["score"]),
    ]
    return _write(folder, version, columns, nodes, np.ones((columns, 1), np.float32))


def write_golden(version: Path, rows: np.ndarray, answers: np.ndarray) -> None:
    """golden.json: rows and what is to come out."""

    def tensor(value: np.ndarray) -> dict[str, object]:
        return {"shape": list(value.shape), "datatype": "FP32", "data": value.ravel().tolist()}

    golden = {"inputs": {"features": tensor(rows)}, "outputs": {"score": tensor(answers)}, "tolerance": 1e-5}
    (version / "golden.json").write_bytes(orjson.dumps(golden))


def _write(folder: Path, version: int, columns: int, nodes: list[onnx.NodeProto], weights: np.ndarray) -> Path:
    output = nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", columns])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / str(version)
    path.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path / "model.onnx")
    return path
