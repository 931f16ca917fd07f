"""The registry as a process: shipped models become champions, a kill changes nothing, the command line tells."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from alphamesh.model.v1 import model_pb2, model_pb2_grpc
from mesh import topology
from mesh.connect import running
from mesh.rundir import RunDir
from tests.integration.conftest import alphamesh
from tests.services.models import made

MODELS = topology.ROOT / "tests" / "services" / "registry.yaml"


@pytest.fixture(scope="module")
def up() -> Iterator[RunDir]:
    """The registry with two shipped versions, before ONNX Runtime in its own process."""
    with tempfile.TemporaryDirectory(prefix="am-") as name:
        folder = Path(name)
        made.write(folder / "shipped" / "made" / "1", made.graph())
        weights = (1.1, -0.6, 0.3)
        made.write(folder / "shipped" / "made" / "2", made.graph(weights), made.golden(made.answers(weights)))
        made.write(folder / "shipped" / "broken" / "1", made.graph(), made.golden(made.answers(weights)))
        content: dict[str, Any] = yaml.safe_load(MODELS.read_text())
        content["mesh"] = {"sidecars": False}
        content["services"]["model_registry"]["config"] |= {
            "bundled": str(folder / "shipped"),
        }  # fmt: skip
        file = folder / "topology.yaml"
        file.write_text(yaml.safe_dump(content))
        started = alphamesh("up", "--detach", "--data-dir", folder / "run", "--topology", file)
        assert started.returncode == 0, started.stderr
        yield RunDir(folder / "run")
        stopped = alphamesh("down", "--data-dir", folder / "run")
        assert stopped.returncode == 0, stopped.stderr


def models(up: RunDir, *arguments: str) -> Any:
    """`alphamesh models ... --json`."""
    done = alphamesh("models", *arguments, "--json", "--data-dir", up.path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def until(up: RunDir, stages: dict[tuple[str, int], int]) -> dict[tuple[str, int], model_pb2.ModelVersion]:
    """Waits for what the registry does by itself, through a restart too."""
    async with running(up) as system:
        stub = system.stub(model_pb2_grpc.ModelRegistryServiceStub, "model_registry")
        for _ in range(200):
            try:
                answer = await stub.ListModelVersions(model_pb2.ListModelVersionsRequest())
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)
                continue
            found = {(version.model_id, version.version): version for version in answer.model_versions}
            if {key: version.stage for key, version in found.items()} == stages:
                return found
            await asyncio.sleep(0.1)
    raise AssertionError(found)


STAGES = {
    ("made", 1): model_pb2.MODEL_STAGE_VALIDATED,
    ("made", 2): model_pb2.MODEL_STAGE_CHAMPION,
    ("broken", 1): model_pb2.MODEL_STAGE_ROLLED_BACK,
}


async def test_shipped_models_are_proved_and_answer_and_a_kill_changes_nothing(up: RunDir) -> None:
    before = await until(up, STAGES)
    shown = models(up, "show", "made")
    assert (shown["version"], shown["lineage"]["dataset_sha256"], shown["metrics"]["auc"]) == (2, "ab" * 32, 0.7)
    assert (shown["share_bps"], shown["observed"]["loaded"]) == (10_000, True)
    assert [each["actor"] for each in shown["transitions"]] == ["model_registry", *["bootstrap"] * 3]
    refused = models(up, "show", "broken", "1")
    assert refused["alerts"][0]["trigger"] == "GOLDEN_ROWS"
    pid = up.state()["processes"]["model_registry"]["pid"]
    os.kill(pid, signal.SIGKILL)
    for _ in range(200):
        process = up.state()["processes"]["model_registry"]
        if process["pid"] not in (None, pid) and process["state"] == "SERVING":
            break
        await asyncio.sleep(0.1)
    assert await until(up, STAGES) == before
    again = models(up, "show", "made")
    assert {key: again[key] for key in shown if key != "observed"} == {
        key: shown[key] for key in shown if key != "observed"
    }
    verified = alphamesh("verify", "--json", "--data-dir", up.path)
    assert verified.returncode == 0, verified.stdout
    assert [view["view"] for view in json.loads(verified.stdout)["views"]] == ["model_registry.state"]


async def test_the_command_line_promotes_compares_and_rolls_back(up: RunDir) -> None:
    await until(up, STAGES)
    checked = alphamesh("models", "promote", "made", "1", "--reason", "test", "--check", "--data-dir", up.path)
    assert (checked.returncode, checked.stdout) == (0, "it may be promoted\n")
    for stage in ("SHADOW", "CANARY"):
        assert models(up, "promote", "made", "1", "--reason", "test")["stage"] == stage
    early = alphamesh("models", "promote", "made", "1", "--reason", "test", "--data-dir", up.path)
    assert early.returncode == 1
    assert "has answered 0 questions as canary of the 40 that are the least" in early.stderr
    rows = models(up, "list", "made")
    assert [(each["version"], each["share_bps"]) for each in rows] == [(2, 9_500), (1, 500)]
    text = alphamesh("models", "compare", "made", "--data-dir", up.path).stdout
    assert "2 (CHAMPION)" in text
    assert "log_loss" in text
    back = alphamesh("models", "rollback", "made", "--reason", "test", "--data-dir", up.path)
    assert (back.returncode, back.stdout) == (0, "made/1 is out of service; version 2 answers\n")
    unknown = alphamesh("models", "show", "nobody", "--data-dir", up.path)
    assert unknown.stderr == "alphamesh: there is no model 'nobody'; there are broken, made\n"
