"""Jobs: recorded in the journal, begun one at a time, rebuilt after a restart."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import timestamp_pb2

from alphamesh.audit.v1 import event_pb2
from alphamesh.training.v1 import events_pb2, training_pb2
from python_services.kit import telemetry
from python_services.kit.clock import RealClock
from python_services.kit.errors import ServiceError, from_rpc_error
from python_services.kit.ids import content_id
from python_services.kit.journal import Event, Journal
from python_services.kit.signal import Signal

from . import dataset, logic, translate
from .config import Config
from .errors import TrainingError
from .gathering import Sources
from .logic import State
from .running import Worker

RECORD_EVERY_S = 0.2  # progress is recorded no more often than this
_ID_LENGTH = 12


class Jobs:
    """The queue. What the journal does not have did not happen."""

    def __init__(self, config: Config, journal: Journal, sources: Sources, data_dir: Path, changed: Signal) -> None:
        """Whatever ran when the service was lost waits again, or is told to have ended."""
        self._config = config
        self._journal = journal
        self._sources = sources
        self._folder = data_dir
        self._clock = RealClock()
        self._asked_to_stop: dict[str, asyncio.Event] = {}
        self.book = logic.Book()
        self.changed = changed
        for frame in journal.read(1):
            for envelope in frame.events:
                self._take(envelope)
        for job in self.book.unfinished():
            after = logic.interrupted(job, config.maximum_attempts)
            telemetry.logger().warning("job was interrupted", job=job.training_job_id, now=State.Name(after.state))
            if after.state != State.STATE_QUEUED:
                self._remove_artifact(job)
            self._record(after)

    def create(self, request_id: str, spec: training_pb2.TrainingSpec, owner: str) -> training_pb2.TrainingJob:
        """A new job, waiting. Raises ServiceError (RESOURCE_EXHAUSTED)."""
        self.check_room()
        job = training_pb2.TrainingJob(
            training_job_id=f"job-{content_id(request_id.encode())[:_ID_LENGTH]}",
            spec=spec,
            state=State.STATE_QUEUED,
            owner=owner,
            create_time=self._now(),
        )
        return self._record(job)

    def check_room(self) -> None:
        """Raises ServiceError (RESOURCE_EXHAUSTED) when no more jobs may wait."""
        if len(self.book.waiting()) >= self._config.maximum_waiting:
            raise ServiceError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "QUEUE_FULL",
                f"{self._config.maximum_waiting} jobs wait already; cancel some, or wait until they are done",
            )

    def cancel(self, identifier: str) -> training_pb2.TrainingJob:
        """Asks a job to stop. Raises ServiceError."""
        job = self.book.job(identifier)
        if job.state == State.STATE_CANCELING:
            return job
        after = self._record(logic.canceled(job))
        if identifier in self._asked_to_stop:
            self._asked_to_stop[identifier].set()
        return after

    async def run(self) -> None:
        """Begins one waiting job after the other, for ever."""
        await self._journal.commit()
        while True:
            changed = self.changed.next()
            waiting = self.book.waiting()
            if waiting:
                await self._run(waiting[0])
            else:
                await changed.wait()

    async def _run(self, job: training_pb2.TrainingJob) -> None:
        asked = self._asked_to_stop[job.training_job_id] = asyncio.Event()
        self._record(logic.begun(job))
        await self._journal.commit()
        telemetry.logger().info("job begins", job=job.training_job_id, model=job.spec.model_id)
        work = asyncio.create_task(self._attempt(job.training_job_id))
        stop = asyncio.create_task(asked.wait())
        try:
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))  # not `await work`: a stop of the service must not be taken for the job's
            if self.book.job(job.training_job_id).state == State.STATE_CANCELING:
                after = logic.stopped(self.book.job(job.training_job_id))
                self._remove_artifact(job)
            else:
                after = work.result()
            self._record(after)
            await self._journal.commit()
            if after.state != State.STATE_FAILED:  # else somebody may want to look at it
                (self._job_folder(job) / dataset.FILE).unlink(missing_ok=True)
            telemetry.logger().info("job ended", job=job.training_job_id, state=State.Name(after.state))
        finally:
            stop.cancel()
            work.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)
            del self._asked_to_stop[job.training_job_id]

    async def _attempt(self, identifier: str) -> training_pb2.TrainingJob:
        """The job after it was tried; failures of the job are no failures of the service."""
        try:
            return await self._train(identifier)
        except TrainingError as error:
            reason, message = error.reason, error.message
        except grpc.aio.AioRpcError as error:
            found = from_rpc_error(error)
            reason, message = found.reason, f"reading its data: {found.message}"
        except ServiceError as error:
            reason, message = error.reason, f"reading its data: {error.message}"
        except OSError as error:
            reason, message = "DISK", f"{error.filename}: {error.strerror}; free space, then create the job again"
        return logic.failed(self.book.job(identifier), reason, message)

    async def _train(self, identifier: str) -> training_pb2.TrainingJob:
        job = training_pb2.TrainingJob()
        job.CopyFrom(self.book.job(identifier))
        folder = self._job_folder(job)
        await asyncio.to_thread(_emptied, folder)
        data = await self._sources.gather(job.spec.data)
        await asyncio.to_thread(data.save, folder)
        job.stage = "starting"
        self._record(job)
        worker = await Worker.start(folder, translate.settings(job.spec), self._config.niceness)
        loop = asyncio.get_running_loop()
        recorded = 0.0
        try:
            async for message in worker.messages():
                if "progress" in message:
                    job.completed_steps, job.total_steps, job.stage = message["progress"]
                elif "fold" in message:
                    job.folds.append(translate.fold(message["fold"]))
                elif "failure" in message:
                    raise TrainingError(**message["failure"])
                elif "result" in message:
                    return self._succeeded(job, message["result"])
                if loop.time() >= recorded + RECORD_EVERY_S:
                    recorded = loop.time()
                    self._record(job)
        finally:
            await worker.stop()
        raise AssertionError("a worker that ends says how")

    def _succeeded(self, job: training_pb2.TrainingJob, result: dict[str, Any]) -> training_pb2.TrainingJob:
        job.state, job.stage = State.STATE_SUCCEEDED, ""
        job.engine_version, job.code_version = result["engine_version"], result["commit"]
        job.metrics.update(result["metrics"])
        job.result.artifact_path = f"{self._job_folder(job).relative_to(self._folder)}/{result['artifact']}"
        job.result.artifact_sha256 = result["onnx_sha256"]
        job.result.trained_until_ns = result["trained_until_ns"]
        return job

    def _job_folder(self, job: training_pb2.TrainingJob) -> Path:
        return self._folder / "jobs" / job.training_job_id

    def _remove_artifact(self, job: training_pb2.TrainingJob) -> None:
        shutil.rmtree(self._job_folder(job) / "artifact", ignore_errors=True)

    def _record(self, job: training_pb2.TrainingJob) -> training_pb2.TrainingJob:
        """Adds the change to the journal; the state is what the journal says."""
        now_ns = self._clock.now_ns()
        if job.state == State.STATE_RUNNING and not job.completed_steps and not job.HasField("start_time"):
            job.start_time.FromNanoseconds(now_ns)
        if job.state in logic.ENDED:
            job.end_time.FromNanoseconds(now_ns)
        event = events_pb2.TrainingJobChanged(training_job=job)
        if job.state != State.STATE_QUEUED or job.attempts:
            event.training_job.ClearField("spec")
        [envelope] = self._journal.add(
            [Event(payload=event, ts_event_ns=now_ns, ts_init_ns=now_ns, correlation_id=job.training_job_id)]
        )
        self._take(envelope)
        self._journal.commit_later()
        return self.book.job(job.training_job_id)

    def _take(self, envelope: event_pb2.EventEnvelope) -> None:
        self.book.apply(events_pb2.TrainingJobChanged.FromString(envelope.payload), envelope.seq)
        self.changed.notify()

    def _now(self) -> timestamp_pb2.Timestamp:
        now = timestamp_pb2.Timestamp()
        now.FromNanoseconds(self._clock.now_ns())
        return now


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
