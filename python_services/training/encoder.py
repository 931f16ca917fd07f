"""Builds the served headline_sentiment from the pinned encoder and the committed head: same bytes on every machine.

    python -m python_services.training.encoder            # writes model.onnx beside the card, whose hash it must have
    python -m python_services.training.encoder --check    # only says whether it is there and right

The encoder (83 MB in its wheel) is not committed, nor is the 25 MB made from it; the head is, with the card that states
the sha256 of the result.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from .encoder_graph import QUANTISED, Encoder, GraphBuilder, Ranges, mean_pool
from .encoder_head import PAIR_BUCKETS, PAIR_FACTOR, POOLED, Head
from .encoder_weights import FOLDER, VOCABULARY, WIDTH, EncoderMissingError, Weights, read_file, read_weights

IDS, MASK, OUTPUT = "input_ids", "attention_mask", "probabilities"
LONGEST = 64
HEAD, TOKENIZER = "head.npz", "tokenizer.json"
ROOT = Path(__file__).resolve().parents[2]
VERSION = ROOT / "triton_models" / "headline_sentiment" / "1"
_INPUTS: dict[str, list[Any]] = {IDS: ["rows", "tokens"], MASK: ["rows", "tokens"]}


def tokenizer_json(folder: Path = FOLDER) -> bytes:
    """The published tokenizer, made to drop links, to cut at LONGEST tokens and to pad to the longest of a batch.

    All that happens to a text happens in here, so a caller in any language gets the ids that the head was trained on.
    """
    content = json.loads(read_file("tokenizer.json", folder))
    link = {"type": "Replace", "pattern": {"Regex": r"(?i)(https?://|\bt\.co/)\S*"}, "content": " "}
    content["normalizer"] = {"type": "Sequence", "normalizers": [link, content["normalizer"]]}
    content["truncation"]["max_length"] = LONGEST
    content["padding"]["strategy"] = "BatchLongest"
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def ranges_of(low: np.ndarray[Any, Any], high: np.ndarray[Any, Any]) -> Ranges:
    """The activation ranges of Head.low and Head.high by site."""
    found, start = {}, 0
    for site in QUANTISED:
        width = 4 * WIDTH if site.endswith("expanded") else WIDTH
        part = slice(start, start + width)
        found[site] = (low[part].astype(np.float32), high[part].astype(np.float32))
        start += width
    return found


def pooled_model(weights: Weights, ranges: Ranges | None, extra: tuple[str, ...] = ()) -> bytes:
    """ids and mask to `pooled` [rows, POOLED]; `extra` names values whose ranges by channel are given, too."""
    graph = GraphBuilder()
    _pool(graph, weights, ranges)
    outputs: dict[str, list[Any]] = {"pooled": ["rows", POOLED]}
    for name in extra:
        for op, suffix in (("ReduceMin", "low"), ("ReduceMax", "high")):
            outputs[graph.add(op, f"{name}.{suffix}", name, axes=[0, 1], keepdims=0)] = ["channels"]
    return graph.model("encoder", _INPUTS, outputs).SerializeToString(deterministic=True)


def sentiment_model(weights: Weights, head: Head, *, int8: bool = True) -> bytes:
    """The served model: ids and mask to `probabilities` [rows, 3]."""
    graph = GraphBuilder()
    pooled = _pool(graph, weights, ranges_of(head.low, head.high) if int8 else None)
    logits = [_linear(graph, head, pooled), _hidden(graph, head, pooled), _tokens(graph, head)]
    parts = [
        graph.add("Mul", f"blend{i}", each, graph.constant(f"blend{i}.weight", head.blend[i].astype(np.float32)))
        for i, each in enumerate(logits)
    ]
    graph.add("Softmax", OUTPUT, graph.add("Sum", "blended", *parts), axis=-1)
    return graph.model("headline_sentiment", _INPUTS, {OUTPUT: ["rows", 3]}).SerializeToString(deterministic=True)


def head_model(head: Head) -> bytes:
    """The head alone: ids, mask and `pooled` to `probabilities`; for the comparison with the training library."""
    graph = GraphBuilder()
    logits = [_linear(graph, head, "pooled"), _hidden(graph, head, "pooled"), _tokens(graph, head)]
    parts = [
        graph.add("Mul", f"blend{i}", each, graph.constant(f"blend{i}.weight", head.blend[i].astype(np.float32)))
        for i, each in enumerate(logits)
    ]
    graph.add("Softmax", OUTPUT, graph.add("Sum", "blended", *parts), axis=-1)
    model = graph.model("head", _INPUTS, {OUTPUT: ["rows", 3]})
    pooled = model.graph.input.add(name="pooled")
    pooled.type.tensor_type.elem_type = TensorProto.FLOAT
    for size in ("rows", POOLED):
        pooled.type.tensor_type.shape.dim.add(**({"dim_param": size} if isinstance(size, str) else {"dim_value": size}))
    return model.SerializeToString(deterministic=True)


def _pool(graph: GraphBuilder, weights: Weights, ranges: Ranges | None) -> str:
    states = Encoder(graph, weights, ranges).build(IDS, MASK)
    means = [mean_pool(graph, f"mean{i}", state, MASK) for i, state in enumerate(states)]
    return graph.add("Concat", "pooled", *means, axis=1)


def _linear(graph: GraphBuilder, head: Head, pooled: str) -> str:
    centred = graph.add("Sub", "centred", pooled, graph.constant("mean", head.mean.astype(np.float32)))
    scaled = graph.add("Div", "scaled", centred, graph.constant("deviation", head.deviation.astype(np.float32)))
    return _dense(graph, "linear", scaled, head.linear, head.linear_bias)


def _hidden(graph: GraphBuilder, head: Head, _pooled: str) -> str:
    units = graph.add("Relu", "units", _dense(graph, "hidden", "scaled", head.hidden, head.hidden_bias))
    return _dense(graph, "output", units, head.output, head.output_bias)


def _tokens(graph: GraphBuilder, head: Head) -> str:
    """Sum over tokens and pairs of their row in the table; three logits over the root of the fourth column."""
    table = graph.constant("token_table", head.token_table())
    ones = graph.ints(1)
    sums = []
    left = graph.add("Slice", "left", IDS, graph.ints(0), graph.ints(-1), ones)
    right = graph.add("Slice", "right", IDS, ones, graph.ints(LONGEST * 8), ones)
    hashed = graph.add("Add", "hashed", graph.add("Mul", "spread", left, graph.ints(PAIR_FACTOR)), right)
    bucket = graph.add("Mod", "bucket", hashed, graph.ints(PAIR_BUCKETS))
    pairs = graph.add("Add", "pairs", bucket, graph.ints(VOCABULARY))
    pair_mask = graph.add("Slice", "pair_mask", MASK, ones, graph.ints(LONGEST * 8), ones)
    for name, index, mask in (("token", IDS, MASK), ("pair", pairs, pair_mask)):
        rows = graph.add("Gather", f"{name}.rows", table, index)
        weight = graph.add(
            "Cast", f"{name}.weight", graph.add("Unsqueeze", f"{name}.column", mask, graph.ints(2)), to=1
        )
        sums.append(
            graph.add("ReduceSum", f"{name}.sum", graph.add("Mul", f"{name}.kept", rows, weight), ones, keepdims=0)
        )
    total = graph.add("Add", "token_sum", *sums)
    numerator = graph.add("Slice", "token_logits", total, graph.ints(0), graph.ints(3), ones)
    square = graph.add("Slice", "token_square", total, graph.ints(3), graph.ints(4), ones)
    floor = graph.constant("token_floor", np.array(1e-12, np.float32))
    length = graph.add("Sqrt", "token_length", graph.add("Max", "token_positive", square, floor))
    bias = graph.constant("token_bias", head.token_bias.astype(np.float32))
    return graph.add("Add", "token_class", graph.add("Div", "token_scaled", numerator, length), bias)


def _dense(graph: GraphBuilder, name: str, value: str, weight: Any, bias: Any) -> str:
    product = graph.add("MatMul", f"{name}.times", value, graph.constant(f"{name}.matrix", weight.astype(np.float32)))
    return graph.add("Add", f"{name}.plus", product, graph.constant(f"{name}.offset", bias.astype(np.float32)))


def expected_sha256(version: Path) -> str:
    """What the committed card says of model.onnx."""
    digest: str = json.loads((version / "card.json").read_bytes())["onnx_sha256"]
    return digest


def is_built(version: Path) -> bool:
    """Whether model.onnx is there with the hash of the card."""
    model = version / "model.onnx"
    return model.is_file() and hashlib.sha256(model.read_bytes()).hexdigest() == expected_sha256(version)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="build nothing")
    parser.add_argument("--encoder", type=Path, default=FOLDER, help="the wheel's model folder")
    arguments = parser.parse_args()
    model = VERSION / "model.onnx"
    if is_built(VERSION):
        print(f"{model.relative_to(ROOT)} is there, as its card says")
        return 0
    if arguments.check:
        print(f"{model.relative_to(ROOT)} is missing or differs from its card; run `make encoder`", file=sys.stderr)
        return 1
    try:
        weights = read_weights(arguments.encoder)
    except EncoderMissingError as error:
        print(error, file=sys.stderr)
        return 1
    content = sentiment_model(weights, Head.from_bytes((VERSION / HEAD).read_bytes()))
    if (digest := hashlib.sha256(content).hexdigest()) != expected_sha256(VERSION):
        print(
            f"built sha256 {digest}, the card says {expected_sha256(VERSION)}; check the versions of numpy and onnx",
            file=sys.stderr,
        )
        return 1
    new = model.with_name(f".model.{os.getpid()}")
    new.write_bytes(content)
    new.rename(model)
    print(f"built {model.relative_to(ROOT)}: {len(content):,} bytes, sha256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
