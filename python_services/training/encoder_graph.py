"""The sentence encoder (BERT) as an ONNX graph, in float32 or in int8, built node by node without PyTorch.

int8 means: weights int8 with a scale per column, activations uint8 with a *fixed* scale per matrix product. The usual
dynamic quantisation takes the scale from whatever rows share a batch, so a headline's answer would depend on its
neighbours; with fixed scales it does not. Weights use 7 bits, because the AVX2 kernels add two products in 16 bits and
saturate beyond: 7 bits give every x86 processor the same integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from python_services.training.encoder_weights import HEADS, LAYER_NORM_EPSILON, LAYERS, WIDTH, Weights

OPSET, CONTRIB_OPSET, IR_VERSION = 17, 1, 9
WEIGHT_STEPS = 64
# The activations that are quantised, in the order of the calibration array.
QUANTISED = tuple(f"layer{i}.{site}" for i in range(LAYERS) for site in ("input", "context", "middle", "expanded"))
# Lowest and highest value of each channel of an activation, by the activation's name.
Ranges = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


class GraphBuilder:
    """Collects nodes and constants; every method returns the name of the value that it adds."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._names: set[str] = set()

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """A constant of the graph; the same name stands for the same value."""
        if name not in self._names:
            self._names.add(name)
            self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def ints(self, *values: int) -> str:
        """A one-dimensional int64 constant."""
        return self.constant("ints." + "_".join(map(str, values)), np.array(values, np.int64))

    def add(self, op: str, name: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """One node with one output, which has the node's name."""
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def model(self, name: str, inputs: Mapping[str, list[Any]], outputs: Mapping[str, list[Any]]) -> ModelProto:
        """The finished model: int64 inputs, float32 outputs, shapes with a string for a free dimension."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(k, TensorProto.INT64, shape) for k, shape in inputs.items()],
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, shape) for k, shape in outputs.items()],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", CONTRIB_OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="alphamesh")


def quantise_columns(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 values and one scale per column of `weight` [in, out], with weight ≈ values * scale."""
    scale = np.maximum(np.abs(weight).max(axis=0), np.float32(1e-12)) / np.float32(WEIGHT_STEPS)
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)


def activation_scale(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point that map [low, high], widened to hold zero, to 0..255."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255.0)
    return scale, np.uint8(np.clip(np.rint(-low / float(scale)), 0, 255))


def smoothing_factors(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each channel is divided by before it is quantised, its row of the weight multiplied by.

    A few channels of a transformer are 50 times as wide as the rest; one scale for all would leave the rest a handful
    of steps. This shares the width between activations and weights, as SmoothQuant does (Xiao et al. 2023).
    """
    return np.sqrt(np.maximum(np.maximum(np.abs(low), np.abs(high)), 1)).astype(np.float32)


class Encoder:
    """Adds the encoder to a graph; `ranges` (activation name to low, high) makes it int8, None float32."""

    def __init__(self, graph: GraphBuilder, weights: Weights, ranges: Ranges | None) -> None:
        self.graph, self.weights, self.ranges = graph, weights, ranges

    def dense(self, name: str, value: str, site: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """value @ weight + bias for weight [in, out]."""
        g = self.graph
        bias_name = g.constant(f"{name}.bias", bias)
        if self.ranges is None:
            product = g.add("MatMul", f"{name}.product", value, g.constant(f"{name}.weight", weight))
            return g.add("Add", name, product, bias_name)
        low, high = self.ranges[site]
        smoothing = smoothing_factors(low, high)
        scale, zero = activation_scale(float((low / smoothing).min()), float((high / smoothing).max()))
        scale_name = g.constant(f"{site}.scale", np.array(scale, np.float32))
        zero_name = g.constant(f"{site}.zero", np.array(zero, np.uint8))
        smooth = g.add("Mul", f"{name}.smooth", value, g.constant(f"{site}.smoothing", 1 / smoothing))
        quantised = g.add("QuantizeLinear", f"{name}.quantised", smooth, scale_name, zero_name)
        values, scales = quantise_columns(weight * smoothing[:, None])
        return g.add(
            "MatMulIntegerToFloat",
            name,
            quantised,
            g.constant(f"{name}.weight", values),
            scale_name,
            g.constant(f"{name}.weight_scale", scales),
            zero_name,
            g.constant(f"{name}.weight_zero", np.zeros_like(scales, np.int8)),
            bias_name,
            domain="com.microsoft",
        )

    def norm(self, name: str, value: str, source: str) -> str:
        """Layer normalisation with the published gain and offset."""
        g, w = self.graph, self.weights
        gain, offset = (g.constant(f"{name}.{part}", w[f"{source}.LayerNorm.{part}"]) for part in ("weight", "bias"))
        return g.add("LayerNormalization", name, value, gain, offset, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def embed(self, ids: str) -> str:
        """Word, position and type embeddings, normalised: [n, t, WIDTH]."""
        g, w = self.graph, self.weights
        table = w["embeddings.word_embeddings.weight"]
        if self.ranges is None:
            words = g.add("Gather", "words", g.constant("word_table", table), ids)
        else:
            values, scales = quantise_columns(table.T)
            rows = g.add("Gather", "word_rows", g.constant("word_table", values.T), ids)
            row_scales = g.add("Gather", "word_scales", g.constant("word_table_scale", scales[:, None]), ids)
            words = g.add("Mul", "words", g.add("Cast", "word_floats", rows, to=TensorProto.FLOAT), row_scales)
        # One type of token only, so its embedding is a constant: added to the positions once, here.
        places = w["embeddings.position_embeddings.weight"] + w["embeddings.token_type_embeddings.weight"][0]
        length = g.add("Gather", "length", g.add("Shape", "shape", ids), g.ints(1), axis=0)
        used = g.add("Slice", "places", g.constant("place_table", places), g.ints(0), length, g.ints(0))
        return self.norm("layer0.in", g.add("Add", "embedded", words, used), "embeddings")

    def layer(self, i: int, value: str, key_mask: str) -> str:
        """One transformer layer: self-attention and feed-forward, each with its residual and normalisation."""
        g, w, name = self.graph, self.weights, f"layer{i}"
        base = f"encoder.layer.{i}"
        parts = [f"{base}.attention.self.{part}" for part in ("query", "key", "value")]
        packed = self.dense(
            f"{name}.qkv",
            value,
            f"{name}.input",
            np.concatenate([w[f"{part}.weight"].T for part in parts], axis=1),
            np.concatenate([w[f"{part}.bias"] for part in parts]),
        )
        names = [f"{name}.{part}" for part in ("q", "k", "v")]
        g.nodes.append(
            helper.make_node("Split", [packed, g.ints(WIDTH, WIDTH, WIDTH)], names, name=f"{name}.split", axis=2)
        )
        context = g.add(
            "MultiHeadAttention", f"{name}.context", *names, "", key_mask, domain="com.microsoft", num_heads=HEADS
        )
        attended = self.dense(
            f"{name}.attended",
            context,
            f"{name}.context",
            w[f"{base}.attention.output.dense.weight"].T,
            w[f"{base}.attention.output.dense.bias"],
        )
        middle = self.norm(f"{name}.middle", g.add("Add", f"{name}.sum1", attended, value), f"{base}.attention.output")
        wide = self.dense(
            f"{name}.wide",
            middle,
            middle,
            w[f"{base}.intermediate.dense.weight"].T,
            w[f"{base}.intermediate.dense.bias"],
        )
        expanded = g.add("Gelu", f"{name}.expanded", wide, domain="com.microsoft")
        narrow = self.dense(
            f"{name}.narrow", expanded, expanded, w[f"{base}.output.dense.weight"].T, w[f"{base}.output.dense.bias"]
        )
        return self.norm(f"{name}.out", g.add("Add", f"{name}.sum2", narrow, middle), f"{base}.output")

    def build(self, ids: str, mask: str) -> list[str]:
        """The hidden states [n, t, WIDTH] of every layer, the embeddings' first."""
        key_mask = self.graph.add("Cast", "key_mask", mask, to=TensorProto.INT32)
        states = [self.embed(ids)]
        for i in range(LAYERS):
            states.append(self.layer(i, states[-1], key_mask))
        return states


def mean_pool(graph: GraphBuilder, name: str, state: str, mask: str) -> str:
    """The mean of the hidden states over the tokens that the mask keeps: [n, WIDTH]."""
    weight = graph.add(
        "Unsqueeze", f"{name}.weight", graph.add("Cast", f"{name}.mask", mask, to=TensorProto.FLOAT), graph.ints(2)
    )
    total = graph.add(
        "ReduceSum", f"{name}.sum", graph.add("Mul", f"{name}.kept", state, weight), graph.ints(1), keepdims=0
    )
    count = graph.add("ReduceSum", f"{name}.count", weight, graph.ints(1), keepdims=0)
    return graph.add("Div", name, total, count)
