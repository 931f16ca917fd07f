"""What the registry learns of a model: every answer, and what came of it when its horizon has passed.

Beside the forecasts and never in their way: the queue is bounded, and what does not fit is counted and dropped.
Versions whose answers are not used (a shadow, and the other one of champion and canary) are asked here, the same
question.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class _Pending:
    """Predictions whose horizon has not passed: up probabilities by version, and what the rows are called."""

    decision_id: str
    as_of_ns: int
    newest_bar_ns: int
    instrument_ids: tuple[str, ...]
    rows: NDArray[np.int64]
    predicted: dict[int, NDArray[np.float64]]

    def about(self, rows: NDArray[np.int64]) -> model_pb2.Observation:
        """The decision is the question; its rows are the instruments' places in the snapshot."""
        key = key_sha256(self.decision_id)
        return model_pb2.Observation(key_sha256=key, ts_event_ns=self.as_of_ns, row=rows.tolist())


class Observer:
    """Records in the background, in the order of the questions; one call for each version and decision."""

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
                await self._record(question)
            except grpc.aio.AioRpcError as error:
                telemetry.logger().warning("observation lost", model=self._model_id, error=error.details())

    async def _record(self, question: Question) -> None:
        """What came of earlier questions, then this one's answers."""
        observations: defaultdict[int, list[model_pb2.Observation]] = defaultdict(list)
        for number, outcome in self._outcomes(question.snapshot):
            observations[number].append(outcome)
        pending = _Pending(
            decision_id=question.decision_id,
            as_of_ns=question.snapshot.as_of_ns,
            newest_bar_ns=int(question.snapshot.ts_event_ns[-1]),
            instrument_ids=question.snapshot.instrument_ids,
            rows=question.rows,
            predicted={},
        )
        about, answer, latency_ns = pending.about(question.rows), question.answer, question.latency_ns
        features = logic.rows(question.table, question.rows).astype("<f4", copy=False).tobytes()
        for version in (question.used, *question.others):
            if version is not question.used:
                begun = time.perf_counter_ns()
                answer = await logic.ask(
                    self._models, self._model_id, version.number, question.table, question.rows, self._timeout_s
                )
                latency_ns = time.perf_counter_ns() - begun
            observations[version.number].append(_answered(about, answer, latency_ns, features))
            if isinstance(answer, logic.Answer):
                pending.predicted[version.number] = answer.up_probability
        if pending.predicted:
            self._pending.append(pending)
        for number, found in observations.items():
            await self._send(question.decision_id, number, found)

    def _outcomes(self, snapshot: Snapshot) -> Iterator[tuple[int, model_pb2.Observation]]:
        """(version, outcome) of predictions that lie a horizon before the newest bar."""
        times = snapshot.ts_event_ns
        while self._pending:
            pending = self._pending[0]
            bar = int(np.searchsorted(times, pending.newest_bar_ns))
            if bar + logic.HORIZON_BARS >= len(times):
                return
            self._pending.popleft()
            if times[bar] == pending.newest_bar_ns:
                yield from _came(pending, snapshot, bar)

    async def _send(self, decision_id: str, version: int, observations: list[model_pb2.Observation]) -> None:
        request = model_pb2.RecordObservationsRequest(
            request_id=ids.request_id(decision_id, self._model_id, version, "observed"),
            model_id=self._model_id,
            version=version,
            observations=observations,
        )
        await persist(lambda: self._registry.RecordObservations(request), _PATIENCE_S)


def _answered(
    about: model_pb2.Observation, answer: logic.Answer | InferenceError, latency_ns: int, features: bytes
) -> model_pb2.Observation:
    observation = model_pb2.Observation()
    observation.CopyFrom(about)
    if isinstance(answer, InferenceError):
        observation.failure.reason = _REASONS[Reason(answer.reason)]
        observation.failure.latency_ns = latency_ns
    else:
        outputs = np.column_stack([answer.up_probability, answer.volatility])
        observation.answer.prediction.extend(outputs.ravel().tolist())
        observation.answer.latency_ns = latency_ns
        observation.answer.features = features
    return observation


def _came(pending: _Pending, snapshot: Snapshot, bar: int) -> Iterator[tuple[int, model_pb2.Observation]]:
    """What the closes say of each row that still has them."""
    column = pending.rows
    if pending.instrument_ids != snapshot.instrument_ids:
        names = [pending.instrument_ids[row] for row in column.tolist()]
        column = np.array([snapshot.places.get(name, -1) for name in names], dtype=np.int64)
    realized = snapshot.close[bar + logic.HORIZON_BARS, column] / snapshot.close[bar, column] - 1.0
    known = np.isfinite(realized) & (column >= 0)
    if not known.any():
        return
    realized, about = realized[known], pending.about(pending.rows[known])
    about.outcome.value.extend((realized > 0.0).astype(np.float64).tolist())
    for number, probability in pending.predicted.items():
        observation = model_pb2.Observation()
        observation.CopyFrom(about)
        made = np.where(probability[known] >= 0.5, realized, -realized)
        observation.outcome.realized_return.extend(made.tolist())
        yield number, observation
