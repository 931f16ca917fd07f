"""What a model's file and the card beside it say: signature, lineage, metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alphamesh.model.v1 import model_pb2

from . import onnx_graph

UNKNOWN = "0" * 64  # a hash of nothing: the card does not name one
_MOST_METRICS = 256
_LONGEST_NAME = 64


def complete(request: model_pb2.RegisterModelVersionRequest, content: bytes, card: Mapping[str, Any]) -> None:
    """Fills in what the request leaves to the file and its card. Raises GraphError."""
    if not request.HasField("signature"):
        request.signature.CopyFrom(signature(content, card))
    if not request.HasField("lineage"):
        request.lineage.CopyFrom(lineage(card))
    if not request.metrics:
        for name, value in metrics(card.get("metrics", {})).items():
            request.metrics[name] = value


def signature(content: bytes, card: Mapping[str, Any]) -> model_pb2.Signature:
    """Names, types and shapes as the file has them; shapes that it leaves open, and ranges, as the card says.

    Outputs that are called probabilities are in [0, 1], and volatilities are not below 0.
    """
    graph = onnx_graph.read(content)
    stated = {each["name"]: each for each in (*card.get("inputs", ()), *card.get("outputs", ()))}
    found = model_pb2.Signature(inputs=graph.inputs, outputs=graph.outputs)
    for spec in (*found.inputs, *found.outputs):
        shape = stated.get(spec.name, {}).get("shape", ())
        if len(shape) == len(spec.shape):
            spec.shape[:] = [
                theirs if own == -1 and isinstance(theirs, int) else own
                for own, theirs in zip(spec.shape, shape, strict=True)
            ]
    for spec in found.outputs:
        entry = stated.get(spec.name, {})
        low = entry.get("minimum", 0.0 if "probabilit" in spec.name or spec.name == "volatility" else None)
        high = entry.get("maximum", 1.0 if "probabilit" in spec.name else None)
        if low is not None:
            spec.minimum = low
        if high is not None:
            spec.maximum = high
    return found


def lineage(card: Mapping[str, Any]) -> model_pb2.Lineage:
    """What the card says of data, features and code."""
    data = card.get("data", {})
    dataset = data.get("sha256", "") if isinstance(data, Mapping) else ""
    features = card.get("feature_set_version", "")
    return model_pb2.Lineage(
        training_job_id=str(card.get("training_job_id", "") or "import")[:64],
        dataset_sha256=dataset if _is_hash(dataset) else UNKNOWN,
        feature_set_version=features if _is_hash(features) else UNKNOWN,
        code_version=str(card.get("code_version", "") or "unknown")[:128],
        seed=int(card.get("seed", 0)),
        trained_until_ns=max(int(card.get("trained_until_ns", 0)), 1),
    )


def metrics(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of the card, nested names joined by dots."""
    found: dict[str, float] = {}
    for name, value in values.items():
        full = f"{prefix}{name}"[:_LONGEST_NAME]
        if isinstance(value, Mapping):
            found |= metrics(value, f"{full}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[full] = float(value)
    return dict(list(found.items())[:_MOST_METRICS])


def _is_hash(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)
