"""Jobs as their events tell of them: which there are, which is next, and which change may follow which."""

from __future__ import annotations

from collections.abc import Sequence

from alphamesh.training.v1 import events_pb2, training_pb2
from python_services.kit.errors import not_found, precondition

State = training_pb2.TrainingJob.State
ENDED = frozenset({State.STATE_SUCCEEDED, State.STATE_FAILED, State.STATE_CANCELED})


class Book:
    """Every job and its updates, from the first event on."""

    def __init__(self) -> None:
        self._updates: dict[str, list[training_pb2.TrainingJob]] = {}
        self.applied_seq = 0

    def apply(self, changed: events_pb2.TrainingJobChanged, seq: int) -> None:
        """Takes the next event. The specification, which only the first one carries, is put back."""
        job = training_pb2.TrainingJob()
        job.CopyFrom(changed.training_job)
        updates = self._updates.setdefault(job.training_job_id, [])
        if updates and not job.HasField("spec"):
            job.spec.CopyFrom(updates[0].spec)
        updates.append(job)
        self.applied_seq = seq

    def job(self, identifier: str) -> training_pb2.TrainingJob:
        """As it is now; not to be changed. Raises ServiceError (NOT_FOUND)."""
        return self.updates(identifier)[-1]

    def updates(self, identifier: str) -> Sequence[training_pb2.TrainingJob]:
        """The job after each of its changes, oldest first. Raises ServiceError (NOT_FOUND)."""
        if identifier not in self._updates:
            raise not_found("training_job", identifier, "list them with ListTrainingJobs")
        return self._updates[identifier]

    def newest_first(
        self, model_id: str = "", state: State.ValueType = State.STATE_UNSPECIFIED
    ) -> list[training_pb2.TrainingJob]:
        """Jobs of a model and in a state; of all without."""
        jobs = [updates[-1] for updates in reversed(self._updates.values())]
        return [job for job in jobs if model_id in ("", job.spec.model_id) and state in (0, job.state)]

    def waiting(self) -> list[training_pb2.TrainingJob]:
        """Jobs that wait, in the order in which they are begun."""
        return [updates[-1] for updates in self._updates.values() if updates[-1].state == State.STATE_QUEUED]

    def unfinished(self) -> list[training_pb2.TrainingJob]:
        """Jobs that a process that is gone was at work on, when this is asked at the start."""
        busy = (State.STATE_RUNNING, State.STATE_CANCELING)
        return [updates[-1] for updates in self._updates.values() if updates[-1].state in busy]


def canceled(job: training_pb2.TrainingJob) -> training_pb2.TrainingJob:
    """The job after somebody asked it to stop. Raises ServiceError (FAILED_PRECONDITION) when it has ended."""
    if job.state in ENDED:
        state = State.Name(job.state).removeprefix("STATE_").lower()
        raise precondition("JOB_ENDED", f"job {job.training_job_id} has ended ({state}); there is nothing to cancel")
    after = _copy(job)
    after.state = State.STATE_CANCELED if job.state == State.STATE_QUEUED else State.STATE_CANCELING
    return after


def begun(job: training_pb2.TrainingJob) -> training_pb2.TrainingJob:
    """The job at the start of an attempt: nothing of an earlier one is left."""
    after = _copy(job)
    after.state, after.attempts = State.STATE_RUNNING, job.attempts + 1
    after.completed_steps = after.total_steps = 0
    after.stage = "gathering data"
    del after.folds[:]
    return after


def interrupted(job: training_pb2.TrainingJob, maximum_attempts: int) -> training_pb2.TrainingJob:
    """The job after the service, and its process with it, was lost: what was computed is gone.

    It waits for another attempt, which gives the same result, unless it was to stop, or was begun too often.
    """
    after = _copy(job)
    after.stage = ""
    if job.state == State.STATE_CANCELING:
        after.state = State.STATE_CANCELED
    elif job.attempts >= maximum_attempts:
        return failed(
            job, "INTERRUPTED", f"its process was lost {job.attempts} times; look for why in the service's log, then "
            "create it again",
        )  # fmt: skip
    else:
        after.state = State.STATE_QUEUED
    return after


def failed(job: training_pb2.TrainingJob, reason: str, message: str) -> training_pb2.TrainingJob:
    """The job after it failed."""
    after = _copy(job)
    after.state, after.stage = State.STATE_FAILED, ""
    after.failure.reason, after.failure.message = reason, message
    return after


def stopped(job: training_pb2.TrainingJob) -> training_pb2.TrainingJob:
    """The job after its process stopped because it was asked to."""
    after = _copy(job)
    after.state, after.stage = State.STATE_CANCELED, ""
    return after


def _copy(job: training_pb2.TrainingJob) -> training_pb2.TrainingJob:
    after = training_pb2.TrainingJob()
    after.CopyFrom(job)
    return after
