"""What of the desk's reports and trades is durable, and so may be read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import Message

from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit.context import Context
from python_services.kit.journal import Journal
from python_services.kit.signal import Signal, within

from .config import Config

T = TypeVar("T")

HEARTBEAT_S = 5.0
BATCH = 1_000


class Desk(Protocol):
    """What both markets do: on bars, and with books."""

    reports: list[venue_pb2.Report]
    trades: list[venue_pb2.Trade]

    @property
    def now_ns(self) -> int:
        """The venue's time."""

    @property
    def wanted(self) -> list[str]:
        """Instruments whose bars are needed to advance."""

    def submit(self, orders: Sequence[venue_pb2.VenueOrder]) -> list[venue_pb2.Report]:
        """New orders; one first report each."""

    def cancel(self, account_id: str, client_order_ids: Sequence[str]) -> list[venue_pb2.Report]:
        """Cancels; one answer each."""

    def replace(self, order: venue_pb2.VenueOrder) -> venue_pb2.Report:
        """New terms; one answer."""

    def orders(self, account_id: str, *, open_only: bool) -> list[tuple[str, str]]:
        """The orders of an account, in order of arrival: account_id, client_order_id."""

    def status(self, key: tuple[str, str]) -> venue_pb2.VenueOrderStatus:
        """Where an order stands."""

    def advance(self, to_ns: int, bars: Sequence[marketdata_pb2.Bar]) -> None:
        """Moves the venue's time."""


class Feed(Generic[T]):
    """A log that grows: only its durable part is shown."""

    def __init__(self, items: list[T], changed: Signal, context: Context[Config]) -> None:
        self._items = items
        self._changed = changed
        self._context = context
        self.durable = len(items)

    async def follow(self, sent: int) -> AsyncIterator[list[T]]:
        """Nothing at once, as a sign of life; then what comes after `sent`, in batches, and nothing as a heartbeat.

        Ends when the service drains.
        """
        yield []
        while not self._context.draining:
            changed = self._changed.next()
            if sent < self.durable:
                stop = min(sent + BATCH, self.durable)
                batch, sent = self._items[sent:stop], stop
                yield batch
            elif not await within(changed, HEARTBEAT_S):
                yield []


class Publisher:
    """Commits what the desk decided, then shows it."""

    def __init__(self, context: Context[Config], desk: Desk, journal: Journal) -> None:
        self._desk = desk
        self._changed = context.signal()
        self.journal = journal
        self.reports = Feed(desk.reports, self._changed, context)
        self.trades = Feed(desk.trades, self._changed, context)

    async def commit(self, response: Message) -> None:
        """Returns when everything decided so far is durable, together with the answer."""
        reports, trades = len(self._desk.reports), len(self._desk.trades)
        await self.journal.commit(response)
        self.reports.durable = max(self.reports.durable, reports)
        self.trades.durable = max(self.trades.durable, trades)
        self._changed.notify()
