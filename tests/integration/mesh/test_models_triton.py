"""Bad versions before the real Triton: none gets past its golden rows, and the champion answers every question."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import yaml

from alphamesh.model.v1 import model_pb2, model_pb2_grpc
from inference import grpc_service_pb2_grpc
from mesh import topology, triton
from mesh.connect import SocketSystem
from mesh.rundir import RunDir
from python_services.kit.errors import from_rpc_error
from python_services.kit.inference import InferenceClient
from python_services.kit.rollout import key_sha256
from python_services.model_registry.serving import triton_config
from tests.integration.conftest import alphamesh
from tests.services.models import made
from tests.services.models.requests import register

INSTALLED = (triton.SERVER / "pytriton").is_dir() and (triton.PYTHON / "bin" / "python3").exists()
pytestmark = pytest.mark.skipif(not INSTALLED, reason="Triton is not installed; `make setup-triton`")
BETTER = (1.1, -0.6, 0.3)
Obs = model_pb2.Observation


@pytest.fixture(scope="module")
def up() -> Iterator[RunDir]:
    """The registry and Triton, with one shipped version."""
    with tempfile.TemporaryDirectory(prefix="am-") as name:
        folder = Path(name)
        made.write(folder / "models" / "made" / "1", made.graph())
        # As people write it: without a policy Triton serves the highest version only.
        config = triton_config("made", made.signature()).replace("version_policy: { all: {} }\n", "")
        (folder / "models" / "made" / "config.pbtxt").write_text(config)
        file = folder / "topology.yaml"
        content = yaml.safe_load((topology.ROOT / "tests" / "services" / "registry_triton.yaml").read_text())
        content["services"]["model_registry"]["config"]["bundled"] = str(folder / "models")
        file.write_text(yaml.safe_dump(content))
        started = alphamesh("up", "--detach", "--data-dir", folder / "run", "--topology", file, timeout=100)
        assert started.returncode == 0, started.stderr
        yield RunDir(folder / "run")
        stopped = alphamesh("down", "--data-dir", folder / "run")
        assert stopped.returncode == 0, stopped.stderr


class Bench:
    """A person before the registry, and a trader's questions to Triton."""

    def __init__(self, up: RunDir, system: SocketSystem) -> None:
        self.inbox = up.path / "data" / "model_registry" / "inbox"
        self.models = system.stub(model_pb2_grpc.ModelRegistryServiceStub, "model_registry")
        self.client = InferenceClient(system.stub(grpc_service_pb2_grpc.GRPCInferenceServiceStub, "triton"))

    async def ask(self, version: int) -> np.ndarray:
        found = await self.client.infer("made", version, {"features": made.ROWS}, {"up_probability": (8, 1)}, 5.0)
        return found["up_probability"]

    async def stage(self, version: int) -> int:
        request = model_pb2.GetModelVersionRequest(model_id="made", version=version)
        return (await self.models.GetModelVersion(request)).model_version.stage

    async def until(self, version: int, stage: int) -> None:
        for _ in range(300):
            if await self.stage(version) == stage:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{version} is {await self.stage(version)}")

    async def ship(self, content: bytes, golden: bytes | None = None) -> int:
        name = uuid.uuid4().hex
        made.write(self.inbox / name, content, golden)
        return (await self.models.RegisterModelVersion(register(content, name))).model_version.version

    async def promote(self, version: int, stage: int) -> None:
        await self.models.PromoteModelVersion(
            model_pb2.PromoteModelVersionRequest(
                request_id=str(uuid.uuid4()), model_id="made", version=version, to_stage=stage, reason="test"
            )
        )

    async def trigger(self, version: int) -> int:
        request = model_pb2.GetModelHealthRequest(model_id="made", version=version)
        return (await self.models.GetModelHealth(request)).alerts[0].trigger


@pytest.fixture
async def bench(up: RunDir) -> AsyncIterator[Bench]:
    system = SocketSystem(up)
    found = Bench(up, system)
    await found.until(1, model_pb2.MODEL_STAGE_CHAMPION)
    yield found
    await system.close()


async def test_versions_come_and_go_while_the_champion_answers_every_question(bench: Bench) -> None:
    errors: list[Exception] = []
    asked = 0

    async def trade() -> None:
        nonlocal asked
        while True:
            try:
                assert np.allclose(await bench.ask(1), made.answers(), atol=1e-6)
            except Exception as error:
                errors.append(error)
            asked += 1
            await asyncio.sleep(0.002)

    trader = asyncio.create_task(trade())
    try:
        nan = await bench.ship(made.graph(poison=True))
        other = await bench.ship(made.graph((2.0, 0.0, 0.0)))
        for version in (nan, other):
            await bench.until(version, model_pb2.MODEL_STAGE_ROLLED_BACK)
            assert await bench.trigger(version) in (model_pb2.Alert.TRIGGER_LOAD, model_pb2.Alert.TRIGGER_GOLDEN_ROWS)
        good = await bench.ship(made.graph(BETTER), made.golden(made.answers(BETTER)))
        await bench.until(good, model_pb2.MODEL_STAGE_VALIDATED)
        for stage in (model_pb2.MODEL_STAGE_SHADOW, model_pb2.MODEL_STAGE_CANARY):
            await bench.promote(good, stage)
        assert np.allclose(await bench.ask(good), made.answers(BETTER), atol=1e-6)
        failed = Obs.Failure(reason=Obs.REASON_NOT_FINITE)
        bad = Obs(key_sha256=key_sha256("x"), row=[0], ts_event_ns=10**18, failure=failed)
        begun = time.perf_counter()
        answer = await bench.models.RecordObservations(
            model_pb2.RecordObservationsRequest(
                request_id=str(uuid.uuid4()), model_id="made", version=good, observations=[bad]
            )
        )
        assert answer.stage == model_pb2.MODEL_STAGE_ROLLED_BACK
        assert time.perf_counter() - begun < 2.0  # s, and the route has changed
        for _ in range(100):
            try:
                await bench.ask(good)
            except Exception:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("it is still loaded")
    finally:
        trader.cancel()
    assert errors == []
    assert asked > 50


async def test_a_copy_that_was_altered_in_the_models_folder_is_refused(bench: Bench, up: RunDir) -> None:
    version = await bench.ship(made.graph((0.5, 0.5, 0.5)), made.golden(made.answers((0.5, 0.5, 0.5))))
    await bench.until(version, model_pb2.MODEL_STAGE_VALIDATED)
    (repository,) = {path.parents[2] for path in up.path.rglob("made/1/model.onnx")}
    for _ in range(100):
        if not (repository / "made" / str(version)).exists():
            break
        await asyncio.sleep(0.05)
    shutil.copytree(repository / "made" / "1", repository / "made" / str(version))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await bench.promote(version, model_pb2.MODEL_STAGE_SHADOW)
    assert from_rpc_error(raised.value).reason == "VERSION_REFUSED"
    assert await bench.trigger(version) == model_pb2.Alert.TRIGGER_ARTIFACT
    assert np.allclose(await bench.ask(1), made.answers(), atol=1e-6)
