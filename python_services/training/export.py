"""Both parts and the calibration as one ONNX graph, and the check that it answers as the library does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import TrainingError
from .fitting import Floats, Model

INPUT, PROBABILITY, VOLATILITY = "features", "up_probability", "volatility"
OPSET, ML_OPSET, IR_VERSION = 15, 3, 8
LARGEST_DIFFERENCE = 1e-5


def to_onnx(model: Model, width: int) -> bytes:
    """features [rows, width] -> up_probability [rows, 1], volatility [rows, 1], all FP32."""
    from onnx import TensorProto, checker, helper, numpy_helper

    def constant(name: str, value: float) -> TensorProto:
        return numpy_helper.from_array(np.array([value], dtype=np.float32), name)

    direction, direction_data = model.direction.nodes("direction", INPUT, "direction_score")
    variance, variance_data = model.variance.nodes("variance", INPUT, "log_variance")
    nodes = [
        *direction,
        helper.make_node("Mul", ["direction_score", "slope"], ["scaled_score"], name="scale"),
        helper.make_node("Add", ["scaled_score", "offset"], ["log_odds"], name="shift"),
        helper.make_node("Sigmoid", ["log_odds"], [PROBABILITY], name="probability"),
        *variance,
        helper.make_node("Mul", ["log_variance", "half"], ["log_deviation"], name="root"),
        helper.make_node("Exp", ["log_deviation"], [VOLATILITY], name="deviation"),
    ]
    constants = [constant("slope", model.slope), constant("offset", model.offset), constant("half", 0.5)]
    graph = helper.make_graph(
        nodes,
        "direction_and_volatility",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in (PROBABILITY, VOLATILITY)],
        initializer=[*direction_data, *variance_data, *constants],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    exported = helper.make_model(graph, opset_imports=opsets, producer_name="alphamesh", ir_version=IR_VERSION)
    checker.check_model(exported)
    content: bytes = exported.SerializeToString(deterministic=True)
    return content


def run(content: bytes, features: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """(up probability, volatility) of each row, by ONNX Runtime in one thread."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    probability, volatility = session.run([PROBABILITY, VOLATILITY], {INPUT: features})
    return probability[:, 0].astype(np.float64), volatility[:, 0].astype(np.float64)


def difference(content: bytes, model: Model, features: NDArray[np.float32]) -> float:
    """Largest absolute difference between the file and the library. Raises TrainingError (ONNX_DIFFERS)."""
    pairs = zip(run(content, features), model.predict(features), strict=True)
    largest = max(float(np.abs(exported - own).max()) for exported, own in pairs)
    if not largest <= LARGEST_DIFFERENCE:
        raise TrainingError(
            "ONNX_DIFFERS",
            f"the ONNX file differs from the library by {largest:.3g}, more than {LARGEST_DIFFERENCE:g}; it is not "
            "used; report this with the job's folder",
        )
    return largest
