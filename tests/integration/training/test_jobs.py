"""Training jobs with their real worker process, on the bundled data: what a researcher notices."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import grpc
import numpy as np
import orjson
import pytest

from alphamesh.training.v1 import training_pb2
from python_services.kit.errors import from_rpc_error
from python_services.training import artifacts, export
from python_services.training.dataset import Dataset
from tests.integration.conftest import alive

from .conftest import Desk, State, long, small


def worker_pid(desk: Desk, job: training_pb2.TrainingJob) -> int | None:
    """The process that works on a job."""
    name = str(desk.job_folder(job))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if name in command and "worker" in command:
            return int(process.name)
    return None


async def test_a_job_from_the_queue_to_an_artefact_that_answers_as_it_says(desk: Desk) -> None:
    spec, key = await desk.spec(), str(uuid.uuid4())
    job = await desk.create(spec, key)
    assert (job.state, job.owner) == (State.STATE_QUEUED, "operator")
    assert await desk.create(spec, key) == job, "a repeat gets the first answer, and makes no second job"
    seen = await desk.updates(job)
    states = [each.state for each in seen]
    assert (states[0], states[1], states[-1]) == (State.STATE_QUEUED, State.STATE_RUNNING, State.STATE_SUCCEEDED)
    done = [each.completed_steps for each in seen]
    assert done == sorted(done)
    last = seen[-1]
    assert last.completed_steps == last.total_steps > 0
    assert [list(each.test_groups) for each in last.folds] == [[0], [1], [2]]
    assert all(each.purged_rows >= 2 * 5 for each in last.folds), "two instruments, five bars"
    assert last.metrics["walk_forward.log_loss"] > 0
    assert last.spec == spec, "every update carries what was asked for"
    assert last.engine_version.startswith("scikit-learn")
    assert last.result.trained_until_ns < spec.data.known_at_ns
    folder = desk.folder / "data" / "training" / last.result.artifact_path
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "card.json", "card.md", "golden.json"}
    assert not list(desk.job_folder(job).glob("*.npz")), "rows can be gathered again; they are not kept"
    card = orjson.loads((folder / "card.json").read_bytes())
    assert card["onnx_sha256"] == last.result.artifact_sha256
    assert card["feature_set_version"] == spec.data.feature_set_version
    golden = artifacts.read_golden((folder / "golden.json").read_bytes())
    answers = export.run((folder / "model.onnx").read_bytes(), golden.inputs["features"])
    for found, name in zip(answers, ("up_probability", "volatility"), strict=True):
        np.testing.assert_allclose(found, golden.outputs[name][:, 0], atol=1e-6)
    again = (await desk.updates(await desk.create(spec)))[-1]
    assert again.result.artifact_sha256 == last.result.artifact_sha256, "same specification, same bytes"
    assert dict(again.metrics) == dict(last.metrics)
    assert await desk.updates(job, from_seq=len(seen)) == [last], "a watcher that comes back goes on where it was"
    listed = await desk.stub.ListTrainingJobs(training_pb2.ListTrainingJobsRequest(page_size=1))
    assert [each.training_job_id for each in listed.training_jobs] == [again.training_job_id]
    assert listed.next_page_token


async def test_cancelling_what_waits_and_what_runs(desk: Desk) -> None:
    spec = await desk.spec(long())
    running, waiting = await desk.create(spec), await desk.create(spec)
    await desk.until(running, lambda job: job.total_steps > 0)
    pid = worker_pid(desk, running)
    assert pid is not None
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0), "trading comes first"
    assert (await desk.cancel(waiting)).state == State.STATE_CANCELED
    assert (await desk.cancel(running)).state == State.STATE_CANCELING
    last = (await desk.updates(running))[-1]
    assert (last.state, last.HasField("result")) == (State.STATE_CANCELED, False)
    assert not alive(pid)
    assert not (desk.job_folder(running) / "artifact").exists()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await desk.cancel(running)
    assert from_rpc_error(refused.value).reason == "JOB_ENDED"


async def test_jobs_that_cannot_work_are_refused_before_they_wait(desk: Desk) -> None:
    good = await desk.spec()

    async def refusal(**changes: object) -> tuple[grpc.StatusCode, str]:
        spec = training_pb2.TrainingSpec()
        spec.CopyFrom(good)
        for path, value in changes.items():
            *parents, name = path.split("__")
            target = spec
            for parent in parents:
                target = getattr(target, parent)
            if isinstance(value, list):
                del getattr(target, name)[:]
                getattr(target, name).extend(value)
            else:
                setattr(target, name, value)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await desk.create(spec)
        error = from_rpc_error(refused.value)
        return error.code, error.reason

    code = grpc.StatusCode
    unknown = training_pb2.Parameter(name="tres", int64_value=3)
    assert await refusal(engine="magic") == (code.NOT_FOUND, "ENGINE_NOT_FOUND")
    assert await refusal(model_id="nobody") == (code.NOT_FOUND, "MODEL_NOT_FOUND")
    assert await refusal(parameters=[unknown]) == (code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert await refusal(data__dataset_sha256="0" * 64) == (code.NOT_FOUND, "DATASET_NOT_FOUND")
    assert (await refusal(data__feature_set_version="0" * 64))[0] == code.NOT_FOUND
    assert await refusal(data__instrument_ids=["TSLA"]) == (code.NOT_FOUND, "INSTRUMENT_NOT_FOUND")
    assert await refusal(data__end_ns=good.data.known_at_ns + 1) == (code.INVALID_ARGUMENT, "INVALID_FIELD")
    holdout = training_pb2.Parameter(name="holdout_bars", int64_value=5000)
    assert await refusal(parameters=[holdout]) == (code.FAILED_PRECONDITION, "DATA_TOO_SHORT")
    assert not (await desk.stub.ListTrainingJobs(training_pb2.ListTrainingJobsRequest())).training_jobs


async def test_jobs_that_fail_say_why_and_the_next_one_runs(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing" / "lightgbm"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ModuleNotFoundError('No module', name='lightgbm')\n")
    monkeypatch.setenv("PYTHONPATH", f"{missing.parent}:{os.environ.get('PYTHONPATH', '')}")
    parameters = {**small()["parameters"], "trees": 10}
    without = await desk.create(await desk.spec(small(engine="gradient_boosting", parameters=parameters)))
    data = {**small()["data"], "start_ns": small()["data"]["end_ns"] - 90 * 86_400 * 10**9}
    short = await desk.create(await desk.spec(small(data=data)))
    killed = await desk.create(await desk.spec())
    last = (await desk.updates(without))[-1]
    assert (last.state, last.failure.reason) == (State.STATE_FAILED, "ENGINE_MISSING")
    assert "make setup-train" in last.failure.message
    last = (await desk.updates(short))[-1]
    assert (last.state, last.failure.reason) == (State.STATE_FAILED, "DATA_TOO_SHORT")
    await desk.until(killed, lambda job: worker_pid(desk, job) is not None)
    os.kill(worker_pid(desk, killed) or 0, signal.SIGKILL)
    last = (await desk.updates(killed))[-1]
    assert (last.state, last.failure.reason) == (State.STATE_FAILED, "WORKER_LOST")
    assert "signal 9" in last.failure.message


async def test_a_job_that_lost_its_service_is_begun_again(desk: Desk) -> None:
    spec = await desk.spec(long(seed=1))
    job, waiting = await desk.create(spec), await desk.create(await desk.spec())
    await desk.until(job, lambda job: job.total_steps > 0)
    pid = worker_pid(desk, job)
    await desk.system.stop("training")
    assert pid is not None
    assert not alive(pid), "no two work on one job"
    await desk.system.start("training")
    again = await desk.until(job, lambda job: job.attempts == 2 and job.total_steps > 0)
    assert again.state == State.STATE_RUNNING
    assert again.spec == spec
    await desk.cancel(job)
    await desk.system.stop("training")
    await desk.system.start("training")
    assert (await desk.get(job)).state == State.STATE_CANCELED, "what was to stop is not begun again"
    assert (await desk.updates(waiting))[-1].state == State.STATE_SUCCEEDED


def test_a_worker_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (900, 2)), axis=0))
    bar = np.repeat(np.arange(900), 2)
    Dataset(
        names=("a", "b"), features=rng.normal(size=(1800, 2)), instrument=np.tile([0, 1], 900), bar=bar, close=close,
        close_ns=np.arange(900) * 86_400 * 10**9,
    ).save(tmp_path)  # fmt: skip
    (tmp_path / "job.json").write_bytes(orjson.dumps(long()))
    command = [sys.executable, "-m", "python_services.training.worker", str(tmp_path / "job.json")]
    starter = (
        "import subprocess, sys, time\n"
        f"worker = subprocess.Popen({command!r}, stdout=subprocess.PIPE)\n"
        "worker.stdout.readline()\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        for _ in range(200):
            if not alive(pid):
                break
            parent.poll()
            subprocess.run(["sleep", "0.01"], check=True)
        assert not alive(pid)


async def test_engines_say_what_they_take(desk: Desk) -> None:
    engines = (await desk.stub.ListEngines(training_pb2.ListEnginesRequest())).engines
    names = {each.engine: {p.name: p for p in each.parameters} for each in engines}
    assert set(names) == {"gradient_boosting", "ridge"}
    assert names["gradient_boosting"]["trees"].int64_value > 0
    assert names["ridge"]["executor"].string_value == "joblib"
    loaded = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "import sys, python_services.training.service; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    heavy = {"lightgbm", "sklearn", "onnx", "onnxruntime", "onnxmltools", "optuna", "joblib", "ray"}
    assert not heavy & set(loaded.stdout.split()), "what answers calls imports nothing that trains"
