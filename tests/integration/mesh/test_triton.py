"""The real Triton in a running system: what it answers, what it refuses, and how it comes back."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest

from inference import grpc_service_pb2, grpc_service_pb2_grpc
from mesh import metrics, triton
from mesh.rundir import RunDir
from python_services.kit.client import open_channel
from python_services.kit.context import ModelServer
from python_services.kit.inference import InferenceClient, InferenceError, Reason
from python_services.kit.inference_admin import InferenceAdmin
from tests import tiny_models

from ..conftest import TOPOLOGY, alive, alphamesh

INSTALLED = (triton.SERVER / "pytriton").is_dir() and (triton.PYTHON / "bin" / "python3").exists()
pytestmark = pytest.mark.skipif(not INSTALLED, reason="Triton is not installed; `make setup-triton`")
PATIENCE_S = 30
MODEL, COLUMNS = "tiny", 3
CHAMPION, CANARY = (1.0, 2.0, 3.0), (1.0, 1.0, 1.0)
ROWS = np.array([[1, 2, 3], [0.5, 0, -1]], np.float32)


@pytest.fixture(scope="module")
def up() -> Iterator[RunDir]:
    """A system with versions 1 (champion) and 2 (canary) of a model, and with a broken one of each model."""
    with tempfile.TemporaryDirectory(prefix="am-") as name:
        folder = Path(name)
        shutil.copy(TOPOLOGY.with_name("models.yaml"), folder / "models.yaml")
        tiny = tiny_models.write_model(folder / "models", MODEL, COLUMNS)
        tiny_models.write_linear(tiny, 1, CHAMPION)
        tiny_models.write_linear(tiny, 2, CANARY)
        (tiny / "3").mkdir()
        (tiny / "3" / "model.onnx").write_bytes(b"no model")
        logarithm = tiny_models.write_model(folder / "models", "logarithm", COLUMNS)
        tiny_models.write_logarithm(logarithm, 1, COLUMNS)
        started = alphamesh("up", "--detach", "--data-dir", folder / "run", "--topology", folder / "models.yaml")
        assert started.returncode == 0, started.stderr
        yield RunDir(folder / "run")
        stopped = alphamesh("down", "--data-dir", folder / "run")
        assert stopped.returncode == 0, stopped.stderr
        assert not list(Path("/dev/shm").glob(f"{_prefix(folder / 'run')}*"))


def _prefix(run: Path) -> str:
    return triton.shared_memory_prefix(run)


class Caller:
    """Somebody who calls Triton through the sidecars."""

    def __init__(self, up: RunDir, name: str) -> None:
        self.channel = open_channel(name, "triton", up.egress(name))
        self.stub: Any = grpc_service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.client = InferenceClient(self.stub, failures=3, reset_s=0.2)
        settings = up.settings(name) or {}
        if granted := settings.get("model_server"):
            self.admin = InferenceAdmin(
                self.stub, ModelServer(models=Path(granted["models"]), admin_key=granted["admin_key"])
            )

    async def ask(self, version: int, rows: np.ndarray = ROWS, model: str = MODEL) -> np.ndarray:
        found = await self.client.infer(model, version, {"features": rows}, {"score": (len(rows), 1)}, 5.0)
        return found["score"]

    async def reason(self, *arguments: Any, **options: Any) -> Reason:
        with pytest.raises(InferenceError) as caught:
            await self.ask(*arguments, **options)
        return Reason(caught.value.reason)


@pytest.fixture
async def analyst(up: RunDir) -> AsyncIterator[Caller]:
    caller = Caller(up, "analyst")
    yield caller
    await caller.channel.close()


@pytest.fixture
async def librarian(up: RunDir) -> AsyncIterator[Caller]:
    caller = Caller(up, "librarian")
    yield caller
    await caller.channel.close()


async def test_each_version_answers_as_the_onnx_runtime_does(up, analyst):
    for version, weights in ((1, CHAMPION), (2, CANARY)):
        path = Path(up.path).parent / "models" / MODEL / str(version) / "model.onnx"
        (wanted,) = onnxruntime.InferenceSession(path).run(["score"], {"features": ROWS})
        answer = await analyst.ask(version)
        assert np.array_equal(answer, wanted)
        assert np.allclose(answer[:, 0], ROWS @ np.asarray(weights, np.float32))


async def test_requests_in_flight_share_a_run_and_each_gets_its_own_answer(up, analyst):
    before = await _counted(up, "exec_count"), await _counted(up, "request_success")
    rows = [np.full((1 + n % 3, COLUMNS), n, np.float32) for n in range(60)]
    answers = await asyncio.gather(*(analyst.ask(1 + n % 2, each) for n, each in enumerate(rows)))
    for n, answer in enumerate(answers):
        assert answer.shape == (1 + n % 3, 1)
        assert (answer == n * sum((CHAMPION, CANARY)[n % 2])).all()
    assert await _counted(up, "exec_count") - before[0] < await _counted(up, "request_success") - before[1]


async def test_a_wrong_question_is_rejected_and_the_breaker_stays_closed(analyst):
    for _ in range(4):
        assert await analyst.reason(1, np.ones((2, COLUMNS + 1), np.float32)) is Reason.REJECTED
    assert await analyst.reason(1, np.ones((2, COLUMNS), np.float64)) is Reason.REJECTED
    assert await analyst.reason(1, np.full((1, COLUMNS), np.nan, np.float32)) is Reason.REJECTED
    assert await analyst.reason(0) is Reason.REJECTED
    assert analyst.client.breaker_state(MODEL, 1) == "closed"
    assert (await analyst.ask(1)).shape == (2, 1)


async def test_an_answer_that_is_no_number_is_refused_and_opens_the_breaker_of_its_version_only(analyst):
    for _ in range(3):
        assert await analyst.reason(1, -ROWS, model="logarithm") is Reason.NOT_FINITE
    assert await analyst.reason(1, ROWS[:1], model="logarithm") is Reason.BREAKER_OPEN
    assert (await analyst.ask(1)).shape == (2, 1)
    await asyncio.sleep(0.25)
    assert np.allclose(await analyst.ask(1, ROWS[:1], model="logarithm"), np.log(6.0))


async def test_a_reply_of_another_shape_is_refused(analyst):
    with pytest.raises(InferenceError) as caught:
        await analyst.client.infer(MODEL, 1, {"features": ROWS}, {"score": (2, 2)}, 5.0)
    assert caught.value.reason == Reason.BAD_REPLY


async def test_only_who_may_load_models_can(up, analyst, librarian):
    assert up.settings("librarian")["model_server"]["admin_key"]
    load = grpc_service_pb2.RepositoryModelLoadRequest(model_name=MODEL)
    with pytest.raises(grpc.aio.AioRpcError) as caught:  # no such edge
        await analyst.stub.RepositoryModelLoad(load)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError) as caught:  # the edge, and not the key
        await librarian.stub.RepositoryModelLoad(load)
    assert "admin-key" in caught.value.details()
    await librarian.admin.load(MODEL)


async def test_a_broken_version_at_the_start_is_put_aside_and_the_others_serve(up, librarian):
    states = {(one.model, one.version): one.state for one in await librarian.admin.index()}
    assert states[MODEL, 1] == states[MODEL, 2] == states["logarithm", 1] == "READY"
    assert (up.path / "triton" / "refused" / f"{MODEL}-3" / "model.onnx").read_bytes() == b"no model"
    assert "cannot be loaded" in up.log("triton").read_text()
    facts = up.state()["processes"]["triton"]
    assert facts["state"] == "SERVING"
    assert facts["version"].startswith("2.")


async def test_a_version_comes_and_goes_while_the_others_answer(up, analyst, librarian):
    with tempfile.TemporaryDirectory() as name:
        tiny_models.write_linear(Path(name), 4, (0.0, 0.0, 1.0))
        failures, answered, done = [], 0, asyncio.Event()

        async def traffic() -> None:
            nonlocal answered
            while not done.is_set():
                try:
                    await analyst.ask(1)
                    answered += 1
                except InferenceError as error:
                    failures.append(error)

        clients = [asyncio.create_task(traffic()) for _ in range(2)]
        begun = time.perf_counter()
        librarian.admin.install(MODEL, 4, Path(name) / "4")
        await librarian.admin.load(MODEL)
        loaded_s = time.perf_counter() - begun
        assert (await analyst.ask(4))[:, 0].tolist() == ROWS[:, 2].tolist()
        librarian.admin.remove(MODEL, 4)
        await librarian.admin.load(MODEL)
        done.set()
        await asyncio.gather(*clients)
    assert failures == []
    assert answered > 20
    assert loaded_s < 10
    assert await analyst.reason(4) is Reason.UNAVAILABLE


@pytest.mark.parametrize("fault", ["corrupt", "output", "golden", "missing"])
async def test_a_bad_version_is_not_loaded_and_the_others_are_not_disturbed(fault, analyst, librarian, tmp_path):
    source = tiny_models.write_linear(tmp_path, 5, CHAMPION, output="other" if fault == "output" else "score")
    if fault == "corrupt":
        (source / "model.onnx").write_bytes((source / "model.onnx").read_bytes()[:40])
    if fault == "golden":
        tiny_models.write_golden(source, ROWS, np.full((2, 1), 7, np.float32))
    librarian.admin.install(MODEL, 5, source)
    if fault == "missing":
        (librarian.admin.models / MODEL / "5" / "model.onnx").unlink()
    with pytest.raises(InferenceError) as caught:
        await librarian.admin.load(MODEL)
    told = {"corrupt": "cannot be loaded", "output": "differ", "golden": "golden rows", "missing": "is missing"}
    assert caught.value.reason == Reason.REJECTED
    assert told[fault] in caught.value.message
    assert (await analyst.ask(1)).shape == (2, 1)
    assert await analyst.reason(5) is Reason.UNAVAILABLE
    librarian.admin.remove(MODEL, 5)
    await librarian.admin.load(MODEL)


async def test_its_metrics_are_read_like_those_of_the_services(up, analyst):
    await analyst.ask(1)
    text = await metrics.read(up, "triton")
    assert f'nv_inference_request_success{{model="{MODEL}",version="1"}}' in text


async def test_a_model_process_that_dies_is_found_and_replaced(up, analyst):
    stub = _process(f"{up.path}/triton/models/{MODEL}/1/")
    server, other = up.state()["processes"]["triton"], _process(f"{up.path}/triton/models/{MODEL}/2/")
    os.kill(stub, signal.SIGKILL)
    assert await analyst.reason(1) in (Reason.UNAVAILABLE, Reason.DEADLINE)
    assert (await analyst.ask(2)).shape == (2, 1)
    await _again(analyst)
    assert up.state()["processes"]["triton"] == server
    assert alive(other)


async def test_a_killed_server_comes_back_by_itself_with_what_it_served(up, analyst):
    before = up.state()["processes"]["triton"]
    os.kill(before["pid"], signal.SIGKILL)
    assert await analyst.reason(1) is Reason.UNAVAILABLE
    await _again(analyst)
    assert (await analyst.ask(2)).shape == (2, 1)
    async with asyncio.timeout(PATIENCE_S):
        while up.state()["processes"]["triton"]["state"] != "SERVING":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    after = up.state()
    assert after["state"] == "RUNNING"
    assert after["processes"]["triton"]["restarts"] == before["restarts"] + 1
    assert after["processes"]["librarian"]["restarts"] == 0


async def test_a_server_that_hangs_is_started_again(up, analyst):
    before = up.state()["processes"]["triton"]
    os.kill(before["pid"], signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE_S):
        while up.state()["processes"]["triton"]["restarts"] == before["restarts"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await _again(analyst)
    assert "3 times in a row" in up.log("triton").read_text()


async def _counted(up: RunDir, figure: str) -> float:
    text = await metrics.read(up, "triton")
    return sum(
        value
        for name, labels, value in metrics.samples(text)
        if name == f"nv_inference_{figure}" and labels["model"] == MODEL
    )


def _process(argument: str) -> int:
    """That which has `argument` in its command line."""
    found = subprocess.run(["pgrep", "-f", argument], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


async def _again(caller: Caller) -> None:
    """Until it answers."""
    reasons = set()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await caller.ask(1)
                break
            except InferenceError as error:
                reasons.add(error.reason)
            await asyncio.sleep(0.1)
    assert reasons <= {Reason.UNAVAILABLE, Reason.DEADLINE, Reason.BREAKER_OPEN}
