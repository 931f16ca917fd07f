"""The services that training needs, for real over the local transport, and small jobs that take a second or two."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alphamesh.training.v1 import training_pb2, training_pb2_grpc
from mesh import topology, training
from python_services.local import LocalSystem

State = training_pb2.TrainingJob.State
PATIENCE_S = 60.0


def midnight(year: int, month: int = 1, day: int = 1) -> int:
    """Unix nanoseconds UTC."""
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 10**9


def small(**changes: Any) -> dict[str, Any]:
    """A recipe's defaults, reduced: two instruments, four years, few and quick fits."""
    return {
        "model_id": "daily_direction",
        "engine": "ridge",
        "parameters": {"walk_forward_folds": 2, "minimum_train_bars": 200, "holdout_bars": 60},
        "seed": 7,
        "data": {
            "feature_set": "daily_technical",
            "instrument_ids": ["IBM", "MSFT"],
            "start_ns": midnight(2005),
            "end_ns": midnight(2009),
            "known_at_ns": midnight(2009),
        },
        "label": {"kind": "FORWARD_RETURN", "horizon_bars": 5},
        "cross_validation": {"groups": 3, "test_groups": 1, "embargo_bars": 5},
        **changes,
    }


def long(**changes: Any) -> dict[str, Any]:
    """A job that takes minutes, for stopping it on the way."""
    parameters = {"trees": 2000, "walk_forward_folds": 8, "minimum_train_bars": 200, "holdout_bars": 60}
    return small(engine="gradient_boosting", parameters=parameters, **changes)


class Desk:
    """A researcher's view of the service."""

    def __init__(self, system: LocalSystem, folder: Path) -> None:
        self.system = system
        self.folder = folder

    @property
    def stub(self) -> training_pb2_grpc.TrainingServiceAsyncStub:
        """A new stub, which finds a service that was started again."""
        return self.system.stub(training_pb2_grpc.TrainingServiceStub, "training")  # type: ignore[return-value]

    async def spec(self, wanted: dict[str, Any] | None = None) -> training_pb2.TrainingSpec:
        """A specification, its data and features by hash."""
        return await training.specification(self.system, wanted or small())

    async def create(self, spec: training_pb2.TrainingSpec, request_id: str = "") -> training_pb2.TrainingJob:
        """A new job."""
        request = training_pb2.CreateTrainingJobRequest(request_id=request_id or str(uuid.uuid4()), spec=spec)
        return (await self.stub.CreateTrainingJob(request)).training_job

    async def get(self, job: training_pb2.TrainingJob) -> training_pb2.TrainingJob:
        """As it is now."""
        request = training_pb2.GetTrainingJobRequest(training_job_id=job.training_job_id)
        return (await self.stub.GetTrainingJob(request)).training_job

    async def cancel(self, job: training_pb2.TrainingJob) -> training_pb2.TrainingJob:
        """Asks it to stop."""
        request = training_pb2.CancelTrainingJobRequest(
            request_id=str(uuid.uuid4()), training_job_id=job.training_job_id
        )
        return (await self.stub.CancelTrainingJob(request)).training_job

    async def updates(self, job: training_pb2.TrainingJob, from_seq: int = 0) -> list[training_pb2.TrainingJob]:
        """All that a watcher sees until the job ends."""
        request = training_pb2.WatchTrainingJobRequest(training_job_id=job.training_job_id, from_seq=from_seq)
        seen: list[training_pb2.TrainingJob] = []
        async with asyncio.timeout(PATIENCE_S):
            async for response in self.stub.WatchTrainingJob(request):
                seen += response.updates
        return seen

    async def until(
        self, job: training_pb2.TrainingJob, wanted: Callable[[training_pb2.TrainingJob], bool]
    ) -> training_pb2.TrainingJob:
        """The job once it is as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while not wanted(found := await self.get(job)):
                assert found.state not in training.ENDED, found
                await asyncio.sleep(0.02)
        return found

    def job_folder(self, job: training_pb2.TrainingJob) -> Path:
        """Where its worker writes."""
        return self.folder / "data" / "training" / "jobs" / job.training_job_id


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    # A lower priority, but not so low that a busy machine starves the test.
    mesh = training.needed(topology.load()).with_config("training", {"niceness": 1})
    async with LocalSystem(tmp_path, mesh) as system:
        yield Desk(system, tmp_path)
