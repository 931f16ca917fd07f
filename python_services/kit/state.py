"""StateService: what every service that keeps state offers beside its own contract, without a line of its own.

Its journal can be read by followers that found a gap in the event log, and its views can be compared with what the
journals say.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from alphamesh.audit.v1 import event_pb2, state_pb2, state_pb2_grpc

from .errors import precondition
from .journal import ZERO_HASH, Journal
from .signal import Signal, within
from .views import Follower, Refetch, View, extend

NAME = "alphamesh.audit.v1.StateService"
HEARTBEAT_S = 5.0
BATCH_BYTES = 1 << 20  # of frames in one message


class ServedView(Protocol):
    """A view that can be compared with its streams."""

    async def compare(self) -> state_pb2.ViewComparison:
        """Rebuilds it from the writers' journals. Raises what reading them raises."""


class FollowedView:
    """A view that a follower feeds."""

    def __init__(self, name: str, follower: Follower, view: View, fresh: Callable[[], View], refetch: Refetch) -> None:
        """`fresh` makes an empty view with the same inputs; `refetch` reads the writer's journal."""
        self._name = name
        self._follower = follower
        self._view = view
        self._fresh = fresh
        self._refetch = refetch

    async def compare(self) -> state_pb2.ViewComparison:
        """The state after the writer's last event against all events from the first one on."""
        stream, again = self._follower.stream, self._fresh()
        seq, last = 0, ZERO_HASH
        while True:
            seq, last = await extend(again, self._refetch(seq + 1), seq, last, stream)
            await self._follower.wait_for(seq)
            if self._follower.applied_seq == seq:
                break  # else it has taken another event meanwhile
        served, rebuilt = (
            hashlib.sha256(digest + state).digest()
            for digest, state in ((self._follower.applied_hash, self._view.dump()), (last, again.dump()))
        )
        return state_pb2.ViewComparison(
            view=self._name,
            applied_stream_seqs={stream: seq},
            served_sha256=served,
            rebuilt_sha256=rebuilt,
            events=seq,
            snapshot_seq=self._follower.started_at,
        )


class State(state_pb2_grpc.StateServiceServicer):
    """The journal and the views of one service."""

    def __init__(self, changed: Signal, draining: Callable[[], bool]) -> None:
        self._changed = changed
        self._draining = draining
        self.journal: Journal | None = None
        self.views: list[ServedView] = []

    def keep(self, journal: Journal) -> None:
        """Serves `journal`."""
        self.journal = journal
        journal.listen(lambda _frame: self._changed.notify())

    async def ReadEvents(
        self, request: state_pb2.ReadEventsRequest, context: object
    ) -> AsyncIterator[state_pb2.ReadEventsResponse]:
        """The journal's frames from from_seq on, many in a message."""
        journal = self.journal
        if journal is None:
            raise precondition(
                "NO_JOURNAL", "this service keeps no journal; ask the one that the stream is named after"
            )
        next_seq = request.from_seq
        while not self._draining():
            changed = self._changed.next()
            while next_seq <= journal.durable_seq:
                frames = _batch(journal, next_seq)
                next_seq = frames[-1].first_seq + frames[-1].count
                yield state_pb2.ReadEventsResponse(frames=frames, last_seq=journal.durable_seq)
            if request.stop_at_end:
                reason = state_pb2.ReadEventsResponse.END_REASON_CAUGHT_UP
                yield state_pb2.ReadEventsResponse(last_seq=journal.durable_seq, end_reason=reason)
                return
            if not await within(changed, HEARTBEAT_S):
                yield state_pb2.ReadEventsResponse(last_seq=journal.durable_seq)
        reason = state_pb2.ReadEventsResponse.END_REASON_DRAINING
        yield state_pb2.ReadEventsResponse(last_seq=journal.durable_seq, end_reason=reason)

    async def VerifyViews(
        self, request: state_pb2.VerifyViewsRequest, context: object
    ) -> AsyncIterator[state_pb2.VerifyViewsResponse]:
        """One comparison for each view."""
        for view in self.views:
            yield state_pb2.VerifyViewsResponse(comparison=await view.compare())


def refetch_from(stub: Any) -> Refetch:
    """Reads a writer's journal through its StateService, to the end."""

    async def refetch(from_seq: int) -> AsyncIterator[event_pb2.EventFrame]:
        async for response in stub.ReadEvents(state_pb2.ReadEventsRequest(from_seq=from_seq, stop_at_end=True)):
            for frame in response.frames:
                yield frame

    return refetch


def _batch(journal: Journal, from_seq: int) -> list[event_pb2.EventFrame]:
    frames, size = [], 0
    for frame in journal.read(from_seq):
        frames.append(frame)
        size += frame.ByteSize()
        if size >= BATCH_BYTES:
            break
    return frames
