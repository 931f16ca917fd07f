"""Backfills: jobs that compute past rows onto disk, one after the other, in a thread that yields to everything else."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc

from alphamesh.audit.v1 import event_pb2
from alphamesh.feature.v1 import events_pb2, feature_pb2
from python_services.kit import telemetry
from python_services.kit.errors import ServiceError, not_found, precondition
from python_services.kit.journal import Event, Journal
from python_services.kit.signal import Signal

from .bars import Bars
from .catalog import Catalog
from .market import Market
from .offline import Offline, Task, tasks

State = feature_pb2.Backfill.State
ENDED = (State.STATE_SUCCEEDED, State.STATE_FAILED, State.STATE_CANCELED)
_CHANGED = events_pb2.BackfillChanged.DESCRIPTOR.full_name
PROGRESS_S = 0.5
NICENESS = 10


class Backfills:
    """Jobs by id, oldest first, and every state that each has been in. What it was doing at a kill, it goes on with."""

    def __init__(
        self, catalog: Catalog, market: Market, offline: Offline, journal: Journal, changed: Signal, waiting_limit: int
    ) -> None:
        self._catalog = catalog
        self._market = market
        self._offline = offline
        self._journal = journal
        self._limit = waiting_limit
        self.changed = changed
        self.updates: dict[str, list[feature_pb2.Backfill]] = {}
        self._work = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "backfill", initializer=_yield_to_others)

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Takes the next event of the journal."""
        if envelope.schema == _CHANGED:
            self._take(events_pb2.BackfillChanged.FromString(envelope.payload).backfill)

    def get(self, backfill_id: str) -> feature_pb2.Backfill:
        """The job as it is now. Raises ServiceError (NOT_FOUND)."""
        found = self.updates.get(backfill_id)
        if found is None:
            raise not_found("backfill", backfill_id, "ListBackfills names the known ones")
        return found[-1]

    def create(self, request: feature_pb2.CreateBackfillRequest) -> feature_pb2.Backfill:
        """A job in the queue. Raises ServiceError: NOT_FOUND, RESOURCE_EXHAUSTED (BACKFILLS_WAITING)."""
        self._catalog.computable(request.feature_set_version)
        waiting = sum(updates[-1].state == State.STATE_QUEUED for updates in self.updates.values())
        if waiting >= self._limit:
            raise ServiceError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "BACKFILLS_WAITING",
                f"{waiting} backfills wait already; cancel one, or come back when some have ended",
            )
        job = feature_pb2.Backfill(
            backfill_id=f"backfill-{uuid.uuid5(uuid.NAMESPACE_OID, request.request_id).hex[:12]}",
            feature_set_version=request.feature_set_version,
            instrument_ids=request.instrument_ids,
            start_ns=request.start_ns,
            end_ns=request.end_ns,
            state=State.STATE_QUEUED,
        )
        job.create_time.FromNanoseconds(time.time_ns())
        self._change(job)
        self._work.set()
        return job

    def cancel(self, backfill_id: str) -> feature_pb2.Backfill:
        """Asks a job to stop. Raises ServiceError: NOT_FOUND, FAILED_PRECONDITION (ALREADY_ENDED)."""
        job = self.get(backfill_id)
        if job.state in ENDED:
            raise precondition("ALREADY_ENDED", f"{backfill_id} has ended: {State.Name(job.state)}")
        if job.state == State.STATE_QUEUED:
            return self._end(job, State.STATE_CANCELED)
        return self._change(_with(job, state=State.STATE_CANCELING))

    async def run(self) -> None:
        """Works through the queue for ever; what was under way when the process ended comes first."""
        while True:
            self._work.clear()
            for updates in list(self.updates.values()):
                if updates[-1].state not in ENDED:
                    await self._job(updates[-1])
            await self._work.wait()

    async def close(self) -> None:
        """Stops after the partition that is being written."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _job(self, job: feature_pb2.Backfill) -> None:
        if job.state == State.STATE_QUEUED:
            job = self._change(_with(job, state=State.STATE_RUNNING))
        try:
            await self._write(job)
        except Exception as error:  # the job's own failure is told in the job; the service goes on
            telemetry.logger().warning("backfill failed", backfill_id=job.backfill_id, exc_info=error)
            self._end(self.get(job.backfill_id), State.STATE_FAILED, failure=f"{type(error).__name__}: {error}")

    async def _write(self, job: feature_pb2.Backfill) -> None:
        features = self._catalog.computable(job.feature_set_version)
        await self._market.need(job.instrument_ids)
        market: dict[str, Bars] = {name: self._market.get(name) for name in job.instrument_ids}
        listed: list[Task] = [
            task for name in job.instrument_ids for task in tasks(name, market[name], job.start_ns, job.end_ns)
        ]
        total, written = sum(len(task.moments) for task in listed), 0
        digest = hashlib.sha256(job.feature_set_version.encode())
        loop, told = asyncio.get_running_loop(), 0.0
        if job.total_rows != total:
            self._change(_with(self.get(job.backfill_id), total_rows=total))
        for task in listed:
            if self.get(job.backfill_id).state == State.STATE_CANCELING:
                self._end(self.get(job.backfill_id), State.STATE_CANCELED, written_rows=written)
                return
            bars = market[task.instrument_id]
            digest.update(
                await loop.run_in_executor(
                    self._thread, self._offline.write, job.feature_set_version, features, task, bars
                )
            )
            written += len(task.moments)
            if loop.time() - told > PROGRESS_S and written < total:
                told = loop.time()
                self._change(_with(self.get(job.backfill_id), written_rows=written))
        self._end(
            self.get(job.backfill_id), State.STATE_SUCCEEDED, written_rows=written, content_sha256=digest.hexdigest()
        )

    def _end(
        self, job: feature_pb2.Backfill, state: feature_pb2.Backfill.State.ValueType, **fields: object
    ) -> feature_pb2.Backfill:
        ended = _with(job, state=state, **fields)
        ended.end_time.FromNanoseconds(time.time_ns())
        return self._change(ended)

    def _change(self, job: feature_pb2.Backfill) -> feature_pb2.Backfill:
        now = self._market.now_ns
        self._journal.add([Event(payload=events_pb2.BackfillChanged(backfill=job), ts_event_ns=now, ts_init_ns=now)])
        self._journal.commit_later()
        self._take(job)
        self.changed.notify()
        return job

    def _take(self, job: feature_pb2.Backfill) -> None:
        self.updates.setdefault(job.backfill_id, []).append(job)


def _with(job: feature_pb2.Backfill, **fields: object) -> feature_pb2.Backfill:
    changed = feature_pb2.Backfill()
    changed.CopyFrom(job)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _yield_to_others() -> None:
    """On Linux a thread has a niceness of its own."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
