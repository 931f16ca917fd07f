"""Training a model, from the outside: ask the training service for a job, watch it, fetch what came of it.

A recipe says what is trained without options; `python -m python_services.training.worker --recipes` tells it, so that
nothing of the service is imported here.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import orjson

from alphamesh.feature.v1 import feature_pb2, feature_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.training.v1 import training_pb2, training_pb2_grpc
from python_services.kit import telemetry
from python_services.kit.errors import is_away
from python_services.kit.parameters import parameter

from . import topology
from .connect import System, running
from .errors import MeshError
from .rundir import RunDir, RunDirError

SERVICE = "training"
NEEDED = ("market_data", "feature_store", SERVICE)
LOOKBACK_BARS = 5000  # of the snapshot that a job's bars come from
WORKER = "python_services.training.worker"
RECONNECT_S = 30.0
State = training_pb2.TrainingJob.State
ENDED = (State.STATE_SUCCEEDED, State.STATE_FAILED, State.STATE_CANCELED)

Show = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A trained version. `artifact`: its folder, in a model repository of its own."""

    artifact: Path
    onnx_sha256: str
    card: Mapping[str, Any]
    job: Mapping[str, Any] = field(default_factory=dict)


def recipes() -> dict[str, dict[str, Any]]:
    """title, reads and defaults of each recipe, by model. Raises MeshError."""
    told = subprocess.run([sys.executable, "-m", WORKER, "--recipes"], capture_output=True, text=True, check=False)
    if told.returncode:
        raise MeshError(f"the recipes cannot be read: {told.stderr.strip()}")
    found: dict[str, dict[str, Any]] = orjson.loads(told.stdout)
    return found


@asynccontextmanager
async def system_for(data_dir: Path | None) -> AsyncIterator[tuple[System, Path]]:
    """(system, its folder): the one that is up, else the services that training needs, in this process."""
    run = _up(data_dir)
    if run is not None:
        async with running(run) as system:
            yield system, run.path
        return
    from python_services.local import LocalSystem

    with tempfile.TemporaryDirectory(prefix="alphamesh-") as name:
        folder = Path(name)
        with (folder / "log.jsonl").open("wb") as log, telemetry.logging_to(SERVICE, log):
            async with LocalSystem(folder, needed(topology.load())) as local:
                yield local, folder


def needed(mesh: topology.Topology) -> topology.Topology:
    """`mesh` with the services that training needs, and no others."""
    return dataclasses.replace(mesh, services=tuple(each for each in mesh.services if each.name in NEEDED))


async def specification(system: System, wanted: Mapping[str, Any]) -> training_pb2.TrainingSpec:
    """The contract's form of a recipe's defaults: names become versions, data becomes its hash. Raises MeshError."""
    data, folds = wanted["data"], wanted["cross_validation"]
    features = system.stub(feature_pb2_grpc.FeatureServiceStub, "feature_store")
    sets = (await features.ListFeatureSets(feature_pb2.ListFeatureSetsRequest())).feature_sets
    version = next((each.feature_set_version for each in sets if each.display_name == data["feature_set"]), None)
    if version is None:
        raise MeshError(
            f"feature_store has no feature set {data['feature_set']!r}; it has "
            f"{', '.join(sorted(each.display_name for each in sets)) or 'none'}"
        )
    market_data = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    cut = await market_data.CutSnapshot(
        marketdata_pb2.CutSnapshotRequest(
            request_id=str(uuid.uuid4()),
            as_of_ns=data["known_at_ns"],
            instrument_ids=data["instrument_ids"],
            lookback_bars=LOOKBACK_BARS,
        )
    )
    return training_pb2.TrainingSpec(
        model_id=wanted["model_id"],
        engine=wanted["engine"],
        parameters=[parameter(name, value) for name, value in sorted(wanted["parameters"].items())],
        seed=wanted["seed"],
        data=training_pb2.TrainingData(
            dataset_sha256=cut.header.snapshot_id,
            feature_set_version=version,
            instrument_ids=data["instrument_ids"],
            start_ns=data["start_ns"],
            end_ns=data["end_ns"],
            known_at_ns=data["known_at_ns"],
        ),
        label=training_pb2.Label(
            kind=training_pb2.Label.Kind.Value(f"KIND_{wanted['label']['kind']}"),
            horizon_bars=wanted["label"]["horizon_bars"],
        ),
        cross_validation=training_pb2.PurgedCrossValidation(**folds),
    )


async def train(system: System, folder: Path, wanted: Mapping[str, Any], show: Show) -> Result:
    """Creates a job and watches it to its end. Raises MeshError when it fails, and what the services answer."""
    stub = system.stub(training_pb2_grpc.TrainingServiceStub, SERVICE)
    spec = await specification(system, wanted)
    request = training_pb2.CreateTrainingJobRequest(request_id=str(uuid.uuid4()), spec=spec)
    job = (await stub.CreateTrainingJob(request)).training_job
    job = await _watched(stub, job, show)
    if job.state != State.STATE_SUCCEEDED:
        why = f"{job.failure.message} [{job.failure.reason}]" if job.HasField("failure") else "it was canceled"
        raise MeshError(f"training job {job.training_job_id} did not succeed: {why}")
    artifact = folder / "data" / SERVICE / job.result.artifact_path
    return _result(artifact, job.result.artifact_sha256, {"training_job_id": job.training_job_id})


async def train_from_files(folder: Path, wanted: Mapping[str, Any], show: Show) -> Result:
    """Runs the worker itself: for recipes that read files of their own. Raises MeshError."""
    specification = folder / "job.json"
    specification.write_bytes(orjson.dumps(wanted))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", WORKER, str(specification), stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    result: dict[str, Any] = {}
    try:
        async for line in process.stdout:
            message = orjson.loads(line)
            if "progress" in message:
                show(*message["progress"])
            elif "failure" in message:
                raise MeshError(f"{message['failure']['message']} [{message['failure']['reason']}]")
            result = message.get("result", result)
        await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    if not result:
        raise MeshError(f"the worker ended with code {process.returncode} and without a result; see its output")
    return _result(folder / result["artifact"], result["onnx_sha256"], {})


def check_free(model_id: str, root: Path, version: int | None) -> None:
    """Raises MeshError when that version exists: before hours of training, not after."""
    if version is not None and (root / model_id / str(version)).exists():
        raise MeshError(f"{root / model_id / str(version)} exists; remove it first, or give another --version")


def install(result: Result, root: Path, version: int | None) -> Path:
    """Copies the version into a model repository, under the next free number. Raises MeshError."""
    model_id = result.card["model_id"]
    model = root / model_id
    taken = [int(each.name) for each in model.glob("[0-9]*") if each.name.isdigit()] if model.is_dir() else []
    number = version or max(taken, default=0) + 1
    check_free(model_id, root, number)
    model.mkdir(parents=True, exist_ok=True)
    new = model / f".{number}.{os.getpid()}"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(result.artifact, new, copy_function=shutil.copyfile)
    new.chmod(0o755)
    new.rename(model / str(number))
    shutil.copyfile(result.artifact.parent / "config.pbtxt", model / "config.pbtxt")
    installed: Path = model / str(number)
    return installed


def same_as(result: Result, root: Path) -> int | None:
    """Number of the version under `root` with the same bytes."""
    for path in sorted((root / str(result.card["model_id"])).glob("*/card.json")):
        if orjson.loads(path.read_bytes())["onnx_sha256"] == result.onnx_sha256:
            return int(path.parent.name)
    return None


async def _watched(stub: Any, job: training_pb2.TrainingJob, show: Show) -> training_pb2.TrainingJob:
    loop = asyncio.get_running_loop()
    patience, seen = loop.time() + RECONNECT_S, 0
    while True:
        request = training_pb2.WatchTrainingJobRequest(training_job_id=job.training_job_id, from_seq=seen + 1)
        try:
            async for response in stub.WatchTrainingJob(request):
                patience, seen = loop.time() + RECONNECT_S, response.seq
                for update in response.updates:
                    job = update
                    show(job.completed_steps, job.total_steps, job.stage)
                if response.end_reason == training_pb2.WatchTrainingJobResponse.END_REASON_COMPLETED:
                    return job
        except grpc.aio.AioRpcError as error:
            if not is_away(error):
                raise
        if loop.time() > patience:
            raise MeshError(
                f"the training service has not answered for {RECONNECT_S:g} s; job {job.training_job_id} goes on when "
                "it is back, see `alphamesh logs training`"
            )
        await asyncio.sleep(0.2)


def _result(artifact: Path, sha256: str, job: Mapping[str, Any]) -> Result:
    card = orjson.loads((artifact / "card.json").read_bytes())
    return Result(artifact=artifact, onnx_sha256=sha256, card=card, job=job)


def _up(data_dir: Path | None) -> RunDir | None:
    """The run that is up; None when none is, and none was asked for."""
    try:
        run = RunDir.find(data_dir)
    except RunDirError:
        if data_dir is not None:
            raise
        return None
    up = run.holder() is not None and run.state().get("state") != "LOCAL"
    if not up and data_dir is not None:
        raise MeshError(f"no system is up in {run.path}; leave --data-dir out to train without one")
    return run if up else None
