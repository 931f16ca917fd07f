"""Models that tests ship: tiny ONNX graphs, good ones and bad ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from alphamesh.model.v1 import model_pb2

FEATURES = 3
ROWS = np.random.default_rng(5).normal(size=(8, FEATURES)).astype(np.float32)


def graph(weights: tuple[float, ...] = (1.0, -0.5, 0.25), columns: int = 1, poison: bool = False) -> bytes:
    """sigmoid(features @ weights); `columns`: more than one is another shape; `poison`: 0/0 in every row."""
    w = numpy_helper.from_array(np.tile(np.array(weights, np.float32)[:, None], (1, columns)), "w")
    nodes = [helper.make_node("MatMul", ["features", "w"], ["z"])]
    initializers = [w]
    last = "z"
    if poison:
        initializers.append(numpy_helper.from_array(np.zeros((1, 1), np.float32), "zero"))
        nodes += [
            helper.make_node("Mul", ["z", "zero"], ["nothing"]),
            helper.make_node("Div", ["nothing", "zero"], ["nan"]),
        ]
        last = "nan"
    nodes.append(helper.make_node("Sigmoid", [last], ["up_probability"]))
    made = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("up_probability", TensorProto.FLOAT, ["n", columns])],
        initializers,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def answers(weights: tuple[float, ...] = (1.0, -0.5, 0.25)) -> np.ndarray[Any, Any]:
    """What a good model of these weights says of ROWS."""
    return 1.0 / (1.0 + np.exp(-(ROWS.astype(np.float64) @ np.array(weights))[:, None]))


def golden(outputs: np.ndarray[Any, Any] | None = None) -> bytes:
    """golden.json for ROWS."""
    found = answers() if outputs is None else outputs
    return json.dumps(
        {
            "inputs": {"features": {"shape": list(ROWS.shape), "datatype": "FP32", "data": ROWS.ravel().tolist()}},
            "outputs": {
                "up_probability": {"shape": list(found.shape), "datatype": "FP32", "data": found.ravel().tolist()}
            },
            "tolerance": 1e-5,
        }
    ).encode()


def card(content: bytes, **changes: Any) -> bytes:
    """card.json as training writes it, as far as the registry reads it."""
    return json.dumps(
        {
            "model_id": "made",
            "onnx_sha256": hashlib.sha256(content).hexdigest(),
            "data": {"source": "made up", "sha256": "ab" * 32, "rows": 100},
            "feature_set_version": "cd" * 32,
            "seed": 7,
            "code_version": "test",
            "trained_until_ns": 1_500_000_000_000_000_000,
            "metrics": {"log_loss": 0.61, "auc": 0.7},
            **changes,
        }
    ).encode()


def write(folder: Path, content: bytes, golden_rows: bytes | None = None, **changes: Any) -> Path:
    """Writes <folder>/model.onnx with card and golden rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "card.json").write_bytes(card(content, **changes))
    (folder / "golden.json").write_bytes(golden() if golden_rows is None else golden_rows)
    return folder / "model.onnx"


def signature(columns: int = 1) -> model_pb2.Signature:
    """Of `graph`."""
    fp32 = model_pb2.TensorSpec.DATA_TYPE_FP32
    return model_pb2.Signature(
        inputs=[model_pb2.TensorSpec(name="features", data_type=fp32, shape=[-1, FEATURES])],
        outputs=[
            model_pb2.TensorSpec(name="up_probability", data_type=fp32, shape=[-1, columns], minimum=0.0, maximum=1.0)
        ],
    )
