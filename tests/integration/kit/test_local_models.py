"""Models in the local transport: the clients of the kit cannot tell it from Triton."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import grpc_service_pb2_grpc
from mesh import topology
from python_services.kit.context import ModelServer
from python_services.kit.inference import InferenceClient, InferenceError, Reason
from python_services.kit.inference_admin import InferenceAdmin, check_golden
from python_services.local import LocalSystem
from tests import tiny_models

TOPOLOGY = topology.ROOT / "tests" / "services" / "models.yaml"
ROWS = np.array([[1, 2, 3], [0.5, 0, -1]], np.float32)


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Any]:
    tiny = tiny_models.write_model(tmp_path / "models", "tiny", 3)
    tiny_models.write_linear(tiny, 1, (1.0, 2.0, 3.0))
    (tmp_path / "topology.yaml").write_text(TOPOLOGY.read_text())
    async with LocalSystem(tmp_path / "run", topology.load(tmp_path / "topology.yaml")) as system:
        yield system.stub(grpc_service_pb2_grpc.GRPCInferenceServiceStub, "triton", caller="librarian")


async def test_a_model_answers_and_bad_questions_are_rejected(stub: Any, tmp_path: Path) -> None:
    client = InferenceClient(stub)
    assert await check_golden(client, "tiny", 1, tmp_path / "models" / "tiny" / "1", 1.0)
    found = await client.infer("tiny", 1, {"features": ROWS}, {"score": (2, 1)})
    assert found["score"][:, 0].tolist() == [14.0, -2.5]
    for version, rows, name, reason in (
        (2, ROWS, "score", Reason.UNAVAILABLE),
        (1, ROWS[:, :2], "score", Reason.REJECTED),
        (1, ROWS.astype(np.float64), "score", Reason.REJECTED),
        (1, ROWS, "label", Reason.REJECTED),
    ):
        with pytest.raises(InferenceError) as caught:
            await client.infer("tiny", version, {"features": rows}, {name: (2, 1)})
        assert caught.value.reason == reason


async def test_versions_come_and_go(stub: Any, tmp_path: Path) -> None:
    models = tmp_path / "run" / "triton" / "models"
    client, admin = InferenceClient(stub), InferenceAdmin(stub, ModelServer(models=models, admin_key=""))
    admin.install("tiny", 2, tiny_models.write_linear(tmp_path, 2, (0.0, 0.0, 1.0)))
    await admin.load("tiny")
    assert [(one.version, one.state) for one in await admin.index()] == [(1, "READY"), (2, "READY")]
    found = await client.infer("tiny", 2, {"features": ROWS}, {"score": (2, 1)})
    assert found["score"][:, 0].tolist() == [3.0, -1.0]
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "model.onnx").write_bytes(b"no model")
    admin.install("tiny", 3, bad)
    with pytest.raises(InferenceError, match="cannot be loaded"):
        await admin.load("tiny")
    assert [one.version for one in await admin.index()] == [1, 2]
    admin.remove("tiny", 3)
    admin.remove("tiny", 1)
    await admin.load("tiny")
    assert [one.version for one in await admin.index()] == [2]
    await admin.unload("tiny")
    assert await admin.index() == []
