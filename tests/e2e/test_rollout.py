"""A bad version through the running system: registered, proved, promoted to canary, and out before it does harm."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto, helper, numpy_helper

from alphamesh.decision.v1 import events_pb2 as decisions
from alphamesh.model.v1 import events_pb2 as models
from alphamesh.model.v1 import model_pb2
from mesh.recording import journalled

from .conftest import alphamesh

ROOT = Path(__file__).resolve().parents[2]
MODEL = "daily_direction"
SHIPPED = ROOT / "triton_models" / MODEL / "1"
FEATURES = 28


def bad(folder: Path) -> Path:
    """Right on its golden rows, where nothing falls by half in a day; elsewhere its probability is 1.7."""
    nodes = [
        helper.make_node("Slice", ["features", "zero", "one", "one"], ["first"]),
        helper.make_node("Greater", ["first", "fall"], ["alive"]),
        helper.make_node("Where", ["alive", "wrong", "half"], ["up_probability"]),
        helper.make_node("Where", ["alive", "small", "small"], ["volatility"]),
    ]
    constants = {
        "zero": np.array([0], np.int64), "one": np.array([1], np.int64), "fall": np.float32(-0.5),
        "wrong": np.float32(1.7), "half": np.float32(0.5), "small": np.float32(0.04),
    }  # fmt: skip
    shape = ["rows", 1]
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("up_probability", "volatility")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    version = folder / MODEL / "2"
    version.mkdir(parents=True)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, version / "model.onnx")
    rows = np.full((2, FEATURES), -1.0)

    def tensor(values: np.ndarray) -> dict[str, Any]:
        return {"shape": list(values.shape), "datatype": "FP32", "data": values.ravel().tolist()}

    outputs = {"up_probability": tensor(np.full((2, 1), 0.5)), "volatility": tensor(np.full((2, 1), 0.04))}
    golden = orjson.dumps({"inputs": {"features": tensor(rows)}, "outputs": outputs, "tolerance": 1e-5})
    (version / "golden.json").write_bytes(golden)
    card = json.loads((SHIPPED / "card.json").read_text())
    kept = ("features", "feature_set_version", "inputs", "outputs", "metrics", "seed", "data", "trained_until_ns")
    (version / "card.json").write_text(json.dumps({name: card[name] for name in kept}))
    return version


def shown(data_dir: Path, version: int) -> dict[str, Any]:
    done = alphamesh("models", "show", MODEL, str(version), "--data-dir", data_dir, "--json")
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def until(data_dir: Path, version: int, stage: str) -> None:
    give_up = time.monotonic() + 30
    while shown(data_dir, version)["stage"] != stage:
        assert time.monotonic() < give_up, shown(data_dir, version)
        time.sleep(0.2)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A system that is up."""
    folder = tmp_path_factory.mktemp("rollout") / "run"
    up = alphamesh("up", "--detach", "--data-dir", folder)
    assert up.returncode == 0, up.stderr
    yield folder
    alphamesh("down", "--data-dir", folder)


def test_what_cannot_be_registered_is_said_with_the_remedy(data_dir: Path, tmp_path: Path) -> None:
    none = alphamesh("models", "register", tmp_path, "--data-dir", data_dir)
    assert (none.returncode, "give the folder of a version" in none.stderr) == (1, True)
    pickled = tmp_path / MODEL / "3"
    shutil.copytree(SHIPPED, pickled)
    (pickled / "model.onnx").write_bytes(b"\x80\x04\x95" + b"x" * 100)
    refused = alphamesh("models", "register", pickled, "--data-dir", data_dir)
    assert (refused.returncode, "pickle" in refused.stderr) == (1, True), refused.stderr
    assert not list((data_dir / "data/model_registry/inbox").iterdir())


def test_a_bad_canary_is_out_before_it_decides_anything(data_dir: Path, tmp_path: Path) -> None:
    registered = alphamesh("models", "register", bad(tmp_path / "models"), "--data-dir", data_dir)
    assert registered.returncode == 0, registered.stderr
    assert "daily_direction/2 is" in registered.stdout
    until(data_dir, 2, "VALIDATED")
    for stage in ("SHADOW", "CANARY"):
        done = alphamesh("models", "promote", MODEL, "2", "--reason", "looks good", "--data-dir", data_dir)
        assert done.returncode == 0, done.stderr
        until(data_dir, 2, stage)
    session = alphamesh("session", "--end", "2009-12-31", "--data-dir", data_dir)
    assert session.returncode == 0, session.stdout + session.stderr
    alphamesh("down", "--data-dir", data_dir)  # who runs has its journals to itself
    made = [
        decisions.DecisionMade.FromString(event.payload).decision
        for event in journalled(data_dir / "data/coordinator/journal.db")
        if event.schema == decisions.DecisionMade.DESCRIPTOR.full_name
    ]
    learned = [signal for decision in made for signal in decision.signals if signal.agent_id == "learned.direction"]
    assert len(learned) == len(made) > 100
    used = [signal.model_version for signal in learned]
    assert used.count(f"{MODEL}:2") <= 0.05 * len(used)
    assert all(max(signal.volatility, default=0.0) < 1.0 for signal in learned)
    champion = [signal for signal in learned if signal.model_version == f"{MODEL}:1"]
    assert not any(signal.HasField("degraded") for signal in champion)

    log = list(journalled(data_dir / "data/model_registry/journal.db"))
    alerts = [
        (event.ts_init_ns, models.ModelAlertRaised.FromString(event.payload).alert)
        for event in log
        if event.schema == models.ModelAlertRaised.DESCRIPTOR.full_name
    ]
    moved = [
        (event.ts_init_ns, models.ModelVersionTransitioned.FromString(event.payload).transition)
        for event in log
        if event.schema == models.ModelVersionTransitioned.DESCRIPTOR.full_name
    ]
    raised_ns, alert = next((ts, alert) for ts, alert in alerts if alert.version == 2)
    # The agent refuses the answers itself, and says so; the first decision's rows were enough.
    assert alert.trigger == model_pb2.Alert.TRIGGER_ERRORS_IN_A_ROW
    out_ns = next(ts for ts, move in moved if move.version == 2 and move.to_stage == model_pb2.MODEL_STAGE_ROLLED_BACK)
    assert 0 <= out_ns - raised_ns <= 2 * 10**9
    assert shown(data_dir, 2)["stage"] == "ROLLED_BACK"
    assert shown(data_dir, 1)["stage"] == "CHAMPION"
