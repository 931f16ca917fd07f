"""Rollouts as a stream: those of now, then each change in the order of the journal, with heartbeats."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import grpc

from alphamesh.audit.v1 import event_pb2
from alphamesh.model.v1 import events_pb2, model_pb2
from python_services.kit.context import Context
from python_services.kit.errors import ServiceError
from python_services.kit.signal import within

from .config import Config
from .registry import Registry

HEARTBEAT_S = 5.0
_CHANGED = events_pb2.RolloutChanged.DESCRIPTOR.full_name
EndReason = model_pb2.WatchRolloutsResponse.EndReason


class Watching:
    """What is durable, and nothing else."""

    def __init__(self, context: Context[Config], registry: Registry) -> None:
        self._context = context
        self._registry = registry
        self._changed = context.signal()
        self._known_from = registry.journal.durable_seq
        self._frames: list[tuple[int, int]] = []  # first and last event of those with a rollout, after `_known_from`
        registry.journal.listen(self._look)

    def _look(self, frame: event_pb2.EventFrame) -> None:
        """Most frames hold observations only, and wake nobody."""
        if any(envelope.schema == _CHANGED for envelope in frame.events):
            self._frames.append((frame.first_seq, frame.first_seq + frame.count - 1))
            self._changed.notify()

    async def watch(self, request: model_pb2.WatchRolloutsRequest) -> AsyncIterator[model_pb2.WatchRolloutsResponse]:
        """Raises ServiceError (OUT_OF_RANGE)."""
        journal = self._registry.journal
        await journal.barrier()
        if request.from_seq > journal.durable_seq + 1:
            raise ServiceError(
                grpc.StatusCode.OUT_OF_RANGE,
                "AHEAD",
                f"from_seq is {request.from_seq} and the registry is at {journal.durable_seq}; watch from 0",
            )
        if request.from_seq:
            sent = request.from_seq - 1
        else:
            sent = journal.durable_seq
            models = self._registry.state.models
            now = [models[name].rollout for name in sorted(models) if request.model_id in ("", name)]
            yield model_pb2.WatchRolloutsResponse(seq=sent, updates=[rollout for rollout in now if rollout is not None])
        while not self._context.draining:
            changed = self._changed.next()
            updates = [found for frame in self._since(sent) for found in _rollouts(frame, sent, request.model_id)]
            sent = max(sent, journal.durable_seq)
            if updates:
                yield model_pb2.WatchRolloutsResponse(seq=sent, updates=updates)
            if not await within(changed, HEARTBEAT_S):
                yield model_pb2.WatchRolloutsResponse(seq=sent)
        yield model_pb2.WatchRolloutsResponse(seq=sent, end_reason=EndReason.END_REASON_SHUTTING_DOWN)

    def _since(self, sent: int) -> Iterator[event_pb2.EventFrame]:
        """Durable frames that may hold a rollout after `sent`."""
        journal = self._registry.journal
        if sent < self._known_from:
            yield from journal.read(sent + 1)
        else:
            for first, last in self._frames:
                if last > sent:
                    yield next(journal.read(first))


def _rollouts(frame: event_pb2.EventFrame, sent: int, model_id: str) -> list[model_pb2.Rollout]:
    found = [
        events_pb2.RolloutChanged.FromString(envelope.payload).rollout
        for envelope in frame.events
        if envelope.schema == _CHANGED and envelope.seq > sent
    ]
    return [rollout for rollout in found if model_id in ("", rollout.model_id)]
