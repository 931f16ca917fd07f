"""Requests that several tests send."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from alphamesh.model.v1 import model_pb2

from . import made


def register(content: bytes, name: str, **fields: Any) -> model_pb2.RegisterModelVersionRequest:
    """For a model that lies in the inbox as <name>/model.onnx."""
    artifact = model_pb2.Artifact(
        path=f"{name}/model.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        format=model_pb2.Artifact.FORMAT_ONNX,
    )
    lineage = model_pb2.Lineage(
        training_job_id="job-1",
        dataset_sha256="ab" * 32,
        feature_set_version="cd" * 32,
        code_version="test",
        seed=7,
        trained_until_ns=10**18,
    )
    settings: dict[str, Any] = {
        "request_id": str(uuid.uuid4()),
        "model_id": "made",
        "artifact": artifact,
        "signature": made.signature(),
        "lineage": lineage,
        "owner": "tests",
        "metrics": {"log_loss": 0.61},
    }
    return model_pb2.RegisterModelVersionRequest(**(settings | fields))
