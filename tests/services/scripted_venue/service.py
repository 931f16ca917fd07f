"""A venue that says what a test tells it to: also what no honest venue would say.

It speaks the contract like any other. What it knows outlives a stop of the service, like a real venue's books.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from alphamesh.type.v1 import money_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import ServiceError
from python_services.kit.signal import Signal, within

Kind = venue_pb2.Report.Kind


@dataclass(frozen=True, kw_only=True)
class Config:
    """Nothing to configure; the paper venue's settings are taken and not used."""

    half_spread_ppm: int = 0
    impact_ppm: int = 0
    participation_cap_ppm: int = 0
    fee_per_lot_e9: int = 0
    minimum_fee_e9: int = 0


@dataclass
class Book:
    """What the venue knows, and how it behaves."""

    orders: dict[str, venue_pb2.VenueOrderStatus] = field(default_factory=dict)
    reports: list[venue_pb2.Report] = field(default_factory=list)
    silent: bool = False  # takes requests and answers none
    blind: bool = False  # cannot list its orders
    unreachable: bool = False  # what is sent gets lost on the way
    acknowledges: bool = True
    submissions: list[venue_pb2.SubmitOrdersRequest] = field(default_factory=list)
    changed: Signal = field(default_factory=Signal)

    def enter(self, order: venue_pb2.VenueOrder) -> None:
        """An order that rests here."""
        self.orders[order.client_order_id] = venue_pb2.VenueOrderStatus(
            order=order, venue_order_id=f"V{len(self.orders) + 1}", open=True, leaves_quantity_e9=order.quantity_e9
        )

    def report(self, kind: Kind.ValueType, name: str, **fields: object) -> venue_pb2.Report:
        """Appends a report as it is told; it names the order's own facts where `fields` do not."""
        status = self.orders.get(name, venue_pb2.VenueOrderStatus())
        known: dict[str, object] = {
            "seq": len(self.reports) + 1,
            "kind": kind,
            "client_order_id": name,
            "venue_order_id": status.venue_order_id,
            "account_id": status.order.account_id,
            "instrument_id": status.order.instrument_id,
            "ts_event_ns": max((report.ts_event_ns for report in self.reports), default=status.order.ts_init_ns),
        }
        self.reports.append(venue_pb2.Report(**(known | fields)))  # type: ignore[arg-type]
        self.changed.notify()
        return self.reports[-1]

    def fill(self, name: str, quantity_e9: int, price_e9: int, **fields: object) -> venue_pb2.Report:
        """Fills part of an order and says so."""
        status = self.take(name, quantity_e9)
        known: dict[str, object] = {
            "trade_id": f"T{len(self.reports) + 1}",
            "last_quantity_e9": quantity_e9,
            "last_price_e9": price_e9,
            "fee": money_pb2.Money(currency_code="USD", units=1),
            "cumulative_quantity_e9": status.cumulative_quantity_e9,
            "leaves_quantity_e9": status.leaves_quantity_e9,
        }
        return self.report(Kind.KIND_FILL, name, **(known | fields))

    def take(self, name: str, quantity_e9: int) -> venue_pb2.VenueOrderStatus:
        """Fills part of an order and says nothing."""
        status = self.orders[name]
        status.cumulative_quantity_e9 += quantity_e9
        status.leaves_quantity_e9 = max(status.leaves_quantity_e9 - quantity_e9, 0)
        status.open = status.open and status.leaves_quantity_e9 > 0
        return status

    def close(self, name: str) -> None:
        """Ends an order and says nothing."""
        self.orders[name].open, self.orders[name].leaves_quantity_e9 = False, 0


# By data directory: a test finds the book of its own system.
books: dict[Path, Book] = {}


class Venue(venue_pb2_grpc.VenueServiceServicer, venue_pb2_grpc.PaperMarketServiceServicer):
    """The contract's servicer."""

    def __init__(self, context: Context[Config], book: Book) -> None:
        self._context = context
        self._book = book
        book.changed = context.signal()

    async def SubmitOrders(
        self, request: venue_pb2.SubmitOrdersRequest, context: object
    ) -> venue_pb2.SubmitOrdersResponse:
        """Takes orders, and acknowledges them unless told otherwise."""
        if self._book.unreachable:
            await asyncio.Event().wait()
        self._book.submissions.append(request)
        for order in request.orders:
            self._book.enter(order)
        self._answer_or_not()
        if not self._book.acknowledges:
            return venue_pb2.SubmitOrdersResponse()
        reports = [self._book.report(Kind.KIND_ACCEPTED, order.client_order_id) for order in request.orders]
        return venue_pb2.SubmitOrdersResponse(reports=reports)

    async def CancelOrders(
        self, request: venue_pb2.CancelOrdersRequest, context: object
    ) -> venue_pb2.CancelOrdersResponse:
        """Cancels what is open."""
        self._answer_or_not()
        reports = []
        for name in request.client_order_ids:
            known = name in self._book.orders and self._book.orders[name].open
            if known:
                self._book.close(name)
            kind = Kind.KIND_CANCELED if known else Kind.KIND_CANCEL_REJECTED
            reports.append(self._book.report(kind, name, account_id=request.account_id))
        return venue_pb2.CancelOrdersResponse(reports=reports)

    async def ReplaceOrder(
        self, request: venue_pb2.ReplaceOrderRequest, context: object
    ) -> venue_pb2.ReplaceOrderResponse:
        """Takes the new terms."""
        self._answer_or_not()
        report = self._book.report(Kind.KIND_REPLACED, request.order.client_order_id, order=request.order)
        return venue_pb2.ReplaceOrderResponse(report=report)

    async def ListOrders(self, request: venue_pb2.ListOrdersRequest, context: object) -> venue_pb2.ListOrdersResponse:
        """All orders of the account, on one page."""
        if self._book.blind:
            raise ServiceError(grpc.StatusCode.UNAVAILABLE, "BLIND", "the venue cannot list its orders now")
        found = [s for s in self._book.orders.values() if s.order.account_id == request.account_id]
        return venue_pb2.ListOrdersResponse(orders=found, applied_seq=len(self._book.reports))

    async def StreamReports(
        self, request: venue_pb2.StreamReportsRequest, context: object
    ) -> AsyncIterator[venue_pb2.StreamReportsResponse]:
        """Reports as they are."""
        book, sent = self._book, request.from_seq - 1
        yield venue_pb2.StreamReportsResponse(last_seq=len(book.reports))
        while not self._context.draining:
            changed = book.changed.next()
            if sent < len(book.reports):
                batch, sent = book.reports[sent:], len(book.reports)
                yield venue_pb2.StreamReportsResponse(reports=batch, last_seq=sent)
                continue
            await within(changed, 5)

    async def AdvanceMarket(
        self, request: venue_pb2.AdvanceMarketRequest, context: object
    ) -> venue_pb2.AdvanceMarketResponse:
        """Nothing fills by itself."""
        return venue_pb2.AdvanceMarketResponse(last_seq=len(self._book.reports))

    def _answer_or_not(self) -> None:
        if self._book.silent:
            raise ServiceError(grpc.StatusCode.UNAVAILABLE, "SILENT", "the answer is lost")


async def build(context: Context[Config]) -> None:
    """Serves the book of this data directory."""
    venue = Venue(context, books.setdefault(context.data_dir, Book()))
    context.add(venue_pb2_grpc.add_VenueServiceServicer_to_server, venue, "alphamesh.venue.v1.VenueService")
    context.add(venue_pb2_grpc.add_PaperMarketServiceServicer_to_server, venue, "alphamesh.venue.v1.PaperMarketService")


DEFINITION = ServiceDefinition(name="venue", version="0.1.0", config=Config, build=build)
