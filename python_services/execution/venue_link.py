"""The line to the venue: reports come in by sequence, whichever way they arrive, each exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import grpc

from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from python_services.kit import telemetry
from python_services.kit.signal import Signal

RETRY_S = 0.2


class VenueLink:
    """Orders reports from the stream and from answers into one gapless sequence."""

    def __init__(
        self,
        venue: venue_pb2_grpc.VenueServiceAsyncStub,
        applied_seq: int,
        apply: Callable[[venue_pb2.Report], None],
        commit: Callable[[], None],
    ) -> None:
        """`apply` takes each report in order; `commit` is called after a batch came from the stream.

        It may take its time: what a crash loses, the venue sends again.
        """
        self._venue = venue
        self._apply = apply
        self._commit = commit
        self._waiting: dict[int, venue_pb2.Report] = {}
        self._changed = Signal()
        self._connected = asyncio.Event()
        self.connections = 0
        self.reconnected = Signal()
        self.applied_seq = applied_seq
        self.last_seq = applied_seq

    def take(self, reports: Iterable[venue_pb2.Report]) -> None:
        """Applies what continues the sequence; keeps the rest until the gap closes."""
        for report in reports:
            if report.seq > self.applied_seq:
                self._waiting[report.seq] = report
        moved = False
        while (report := self._waiting.pop(self.applied_seq + 1, None)) is not None:
            self._apply(report)
            self.applied_seq += 1
            moved = True
        self.last_seq = max(self.last_seq, self.applied_seq)
        if moved:
            self._changed.notify()

    async def wait_for(self, seq: int) -> None:
        """Returns when the report `seq` is applied; the caller's deadline bounds the wait."""
        while self.applied_seq < seq:
            await self._changed.next().wait()

    async def caught_up(self) -> None:
        """Returns once the stream is open and everything the venue had at that moment is applied."""
        await self._connected.wait()
        await self.wait_for(self.last_seq)

    async def run(self) -> None:
        """Follows the venue's stream for ever; a lost connection is opened again where it broke off."""
        log = telemetry.logger()
        while True:
            try:
                request = venue_pb2.StreamReportsRequest(from_seq=self.applied_seq + 1)
                async for response in self._venue.StreamReports(request):
                    self.last_seq = max(self.last_seq, response.last_seq)
                    if response.reports:
                        self.take(response.reports)
                        self._commit()
                    if not self._connected.is_set():
                        self._connected.set()
                        self.connections += 1
                        self.reconnected.notify()
                log.info("venue stream ended", applied_seq=self.applied_seq)
            except grpc.aio.AioRpcError as error:
                log.warning("venue stream lost", applied_seq=self.applied_seq, error=error.details())
            self._connected.clear()
            await asyncio.sleep(RETRY_S)
