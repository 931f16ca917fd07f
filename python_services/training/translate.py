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


def fold(values: Mapping[str, Any]) -> training_pb2.FoldMetrics:
    """One test path."""
    return training_pb2.FoldMetrics(**values)
