"""A running system with Triton and a LightGBM of the usual size, and the way there through both sidecars."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from inference import grpc_service_pb2_grpc
from mesh.rundir import RunDir
from python_services.kit.client import open_channel
from python_services.kit.context import ModelServer
from python_services.kit.inference import InferenceClient
from python_services.kit.inference_admin import InferenceAdmin

from .mesh import ALPHAMESH

MODEL, COLUMNS, TREES = "trees", 30, 300
CALLER = "subject"
TOPOLOGY = """version: 1
triton: {models: models}
services:
  subject:
    module: benchmarks.servers.subject
    calls:
      triton: ["inference.GRPCInferenceService/*"]
"""
CONFIG = f"""name: "{MODEL}"
backend: "onnxruntime"
max_batch_size: 1024
input {{ name: "features" data_type: TYPE_FP32 dims: {COLUMNS} }}
output {{ name: "variable" data_type: TYPE_FP32 dims: 1 }}
dynamic_batching {{ }}
"""


class Models:
    """Starts everything; `close` ends it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="am-")
        folder = Path(self._folder.name)
        self.source = folder / "models" / MODEL / "1"
        self.source.mkdir(parents=True)
        (self.source.parent / "config.pbtxt").write_text(CONFIG)
        self.rows = np.random.default_rng(7).normal(size=(1024, COLUMNS)).astype(np.float32)
        self.expected = _train(self.rows, self.source)
        (folder / "topology.yaml").write_text(TOPOLOGY)
        self.run = RunDir(folder / "run")
        self._alphamesh("up", "--detach", "--topology", str(folder / "topology.yaml"))

    def open(self) -> tuple[Any, InferenceClient, InferenceAdmin]:
        """A connection of the running loop, with the clients on it."""
        settings = self.run.settings(CALLER)
        assert settings is not None
        granted = settings["model_server"]
        channel = open_channel(CALLER, "triton", self.run.egress(CALLER))
        stub: Any = grpc_service_pb2_grpc.GRPCInferenceServiceStub(cast(grpc.aio.Channel, channel))
        server = ModelServer(models=Path(granted["models"]), admin_key=granted["admin_key"])
        return channel, InferenceClient(stub), InferenceAdmin(stub, server)

    def run_with(self, work: Any) -> float:
        """`work(client, admin)` in a loop of its own, of the kind that services have."""

        async def connected() -> float:
            channel, client, admin = self.open()
            try:
                return float(await work(client, admin))
            finally:
                await channel.close()

        return uvloop.run(connected())

    def close(self) -> None:
        """Ends it."""
        self._alphamesh("down")
        self._folder.cleanup()

    def _alphamesh(self, command: str, *options: str) -> None:
        line = [str(ALPHAMESH), command, "--data-dir", str(self.run.path), *options]
        subprocess.run(line, check=True, capture_output=True)


def _train(rows: NDArray[np.float32], folder: Path) -> NDArray[np.float64]:
    """Writes model.onnx and golden.json; what LightGBM itself predicts for `rows`, [n, 1]."""
    import lightgbm
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    draws = np.random.default_rng(8)
    features = draws.normal(size=(4000, COLUMNS)).astype(np.float32)
    target = features[:, 0] * features[:, 1] + 0.1 * draws.normal(size=len(features))
    model = lightgbm.LGBMRegressor(n_estimators=TREES, num_leaves=31, num_threads=1, random_state=7, verbose=-1)
    model.fit(features, target)
    shape = [("features", FloatTensorType([None, COLUMNS]))]
    graph = onnxmltools.convert_lightgbm(model.booster_, initial_types=shape, zipmap=False)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    predicted = np.asarray(model.booster_.predict(rows), np.float64).reshape(-1, 1)

    def tensor(value: NDArray[Any]) -> dict[str, object]:
        return {"shape": list(value.shape), "datatype": "FP32", "data": value.ravel().tolist()}

    golden = {
        "inputs": {"features": tensor(rows[:4])},
        "outputs": {"variable": tensor(predicted[:4])},
        "tolerance": 1e-4,
    }
    (folder / "golden.json").write_bytes(orjson.dumps(golden))
    return predicted
