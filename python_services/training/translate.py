"""A job's specification between the contract and the JSON that its worker process reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alphamesh.training.v1 import training_pb2

Kind = training_pb2.Label.Kind


def settings(spec: training_pb2.TrainingSpec) -> dict[str, Any]:
    """What a recipe is given (recipes.TrainContext.settings)."""
    data, folds = spec.data, spec.cross_validation
    return {
        "model_id": spec.model_id,
        "engine": spec.engine,
        "parameters": {each.name: getattr(each, str(each.WhichOneof("value"))) for each in spec.parameters},
        "seed": spec.seed,
        "data": {
            "dataset_sha256": data.dataset_sha256,
            "feature_set_version": data.feature_set_version,
            "instrument_ids": list(data.instrument_ids),
            "start_ns": data.start_ns,
            "end_ns": data.end_ns,
            "known_at_ns": data.known_at_ns,
        },
        "label": {"kind": Kind.Name(spec.label.kind).removeprefix("KIND_"), "horizon_bars": spec.label.horizon_bars},
        "cross_validation": {
            "groups": folds.groups,
            "test_groups": folds.test_groups,
            "embargo_bars": folds.embargo_bars,
        },
    }


def parameter(name: str, value: Any) -> training_pb2.Parameter:
    """A parameter of an engine."""
    if isinstance(value, bool):
        return training_pb2.Parameter(name=name, bool_value=value)
    if isinstance(value, int):
        return training_pb2.Parameter(name=name, int64_value=value)
    if isinstance(value, float):
        return training_pb2.Parameter(name=name, double_value=value)
    return training_pb2.Parameter(name=name, string_value=value)


def fold(values: Mapping[str, Any]) -> training_pb2.FoldMetrics:
    """One test path."""
    return training_pb2.FoldMetrics(**values)
