"""What the registry learns of a model: every answer, and what came of it when its horizon has passed.

Beside the forecasts and never in their way: the queue is bounded, and what does not fit is counted and dropped.
Versions whose answers are not used (a shadow, and the other one of champion and canary) are asked here, the same
question.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import grpc
import numpy as np
from numpy.typing import NDArray

from alphamesh.model.v1 import model_pb2, model_pb2_grpc
from python_services.kit import ids, telemetry
from python_services.kit.client import persist
from python_services.kit.inference import InferenceClient, InferenceError, Reason
from python_services.kit.rollout import key_sha256
from python_services.kit.snapshots import Snapshot

from . import logic
from .versions import Version

WAITING = 256  # questions
_PATIENCE_S = 5.0
_REASONS = {reason: model_pb2.Observation.Reason.Value(f"REASON_{reason.name}") for reason in Reason}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One forecast's: the rows that the model was asked about, and the versions that were or are to be."""

    decision_id: str
    snapshot: Snapshot
    table: logic.Table
    rows: NDArray[np.int64]
    used: Version
    others: tuple[Version, ...]
    answer: logic.Answer | InferenceError
    latency_ns: int


@dataclass(kw_only=True)
class _Pending:
    """Predictions whose horizon has not passed: up probabilities by version."""

    question: Question
    ts_event_ns: int
    predicted: dict[int, NDArray[np.float64]] = field(default_factory=dict)


class Observer:
    """Records in the background, in the order of the questions."""

    def __init__(
        self,
        model_id: str,
        registry: model_pb2_grpc.ModelRegistryServiceAsyncStub,
        models: InferenceClient,
        timeout_s: float,
    ) -> None:
        self._model_id = model_id
        self._registry = registry
        self._models = models
        self._timeout_s = timeout_s
        self._queue: asyncio.Queue[Question] = asyncio.Queue(WAITING)
        self._pending: deque[_Pending] = deque(maxlen=4 * logic.HORIZON_BARS)
        self._dropped = 0

    def take(self, question: Question) -> None:
        """Never waits."""
        try:
            self._queue.put_nowait(question)
        except asyncio.QueueFull:
            self._dropped += 1
            telemetry.logger().warning("observation dropped", model=self._model_id, dropped=self._dropped)

    async def run(self) -> None:
        """Never returns."""
        while True:
            question = await self._queue.get()
            try:
                await self._resolve(question.snapshot)
                await self._record(question)
            except grpc.aio.AioRpcError as error:
                telemetry.logger().warning("observation lost", model=self._model_id, error=error.details())

    async def _record(self, question: Question) -> None:
        pending = _Pending(question=question, ts_event_ns=int(question.snapshot.ts_event_ns[-1]))
        await self._note(pending, question.used, question.answer, question.latency_ns)
        for version in question.others:
            begun = time.perf_counter_ns()
            answer = await logic.ask(
                self._models, self._model_id, version.number, question.table, question.rows, self._timeout_s
            )
            await self._note(pending, version, answer, time.perf_counter_ns() - begun)
        if pending.predicted:
            self._pending.append(pending)

    async def _note(
        self, pending: _Pending, version: Version, answer: logic.Answer | InferenceError, latency_ns: int
    ) -> None:
        question, observations = pending.question, []
        for place, row in enumerate(question.rows.tolist()):
            observation = self._about(pending, row)
            if isinstance(answer, InferenceError):
                observation.failure.reason = _REASONS[Reason(answer.reason)]
                observation.failure.latency_ns = latency_ns
            else:
                values = (float(answer.up_probability[place]), float(answer.volatility[place]))
                observation.answer.prediction.extend(values)
                observation.answer.latency_ns = latency_ns
                observation.answer.features.extend(question.table.values[row].tolist())
            observations.append(observation)
        if isinstance(answer, logic.Answer):
            pending.predicted[version.number] = answer.up_probability
        await self._send(question.decision_id, "asked", version.number, observations)

    async def _resolve(self, snapshot: Snapshot) -> None:
        """Outcomes of predictions that lie a horizon before the newest bar."""
        times = snapshot.ts_event_ns
        while self._pending:
            pending = self._pending[0]
            bar = int(np.searchsorted(times, pending.ts_event_ns))
            if bar + logic.HORIZON_BARS >= len(times):
                return
            self._pending.popleft()
            if times[bar] == pending.ts_event_ns:
                await self._tell(pending, snapshot, bar)

    async def _tell(self, pending: _Pending, snapshot: Snapshot, bar: int) -> None:
        columns = {name: column for column, name in enumerate(snapshot.instrument_ids)}
        names = pending.question.snapshot.instrument_ids
        for number, probability in pending.predicted.items():
            observations = []
            for place, row in enumerate(pending.question.rows.tolist()):
                column = columns.get(names[row])
                if column is None:
                    continue
                realized = float(snapshot.close[bar + logic.HORIZON_BARS, column] / snapshot.close[bar, column] - 1.0)
                if realized == realized:
                    observation = self._about(pending, row)
                    observation.outcome.value = float(realized > 0.0)
                    observation.outcome.realized_return = realized if probability[place] >= 0.5 else -realized
                    observations.append(observation)
            await self._send(pending.question.decision_id, "outcome", number, observations)

    def _about(self, pending: _Pending, row: int) -> model_pb2.Observation:
        question = pending.question
        key = f"{question.decision_id}|{question.snapshot.instrument_ids[row]}"
        return model_pb2.Observation(key_sha256=key_sha256(key), ts_event_ns=question.snapshot.as_of_ns)

    async def _send(self, decision_id: str, what: str, version: int, observations: list[model_pb2.Observation]) -> None:
        if not observations:
            return
        request = model_pb2.RecordObservationsRequest(
            request_id=ids.request_id(decision_id, self._model_id, version, what),
            model_id=self._model_id,
            version=version,
            observations=observations,
        )
        await persist(lambda: self._registry.RecordObservations(request), _PATIENCE_S)
