"""The paper venue's servicers. Every report is an event: durable before anyone sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.message import Message

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from python_services.kit import convert, paging
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import precondition
from python_services.kit.instruments import list_instruments
from python_services.kit.journal import Journal
from python_services.kit.signal import within

from . import book
from .config import Config
from .desk import Desk

HEARTBEAT_S = 5.0


class Venue(venue_pb2_grpc.VenueServiceServicer, venue_pb2_grpc.PaperMarketServiceServicer):
    """Translates messages to the desk and back."""

    def __init__(
        self,
        context: Context[Config],
        desk: Desk,
        journal: Journal,
        market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub,
    ) -> None:
        self._context = context
        self._desk = desk
        self._journal = journal
        self._market_data = market_data
        self._durable_reports = len(desk.reports)
        self._changed = context.signal()

    async def SubmitOrders(
        self, request: venue_pb2.SubmitOrdersRequest, context: object
    ) -> venue_pb2.SubmitOrdersResponse:
        """New orders; an order that is known is answered with its first report."""
        reports = [self._desk.submit(order) for order in request.orders]
        response = venue_pb2.SubmitOrdersResponse(reports=reports)
        await self._publish(response)
        return response

    async def CancelOrders(
        self, request: venue_pb2.CancelOrdersRequest, context: object
    ) -> venue_pb2.CancelOrdersResponse:
        """Cancels what still rests."""
        reports = [self._desk.cancel(request.account_id, identifier) for identifier in request.client_order_ids]
        response = venue_pb2.CancelOrdersResponse(reports=reports)
        await self._publish(response)
        return response

    async def ReplaceOrder(
        self, request: venue_pb2.ReplaceOrderRequest, context: object
    ) -> venue_pb2.ReplaceOrderResponse:
        """New terms for an order that still rests."""
        response = venue_pb2.ReplaceOrderResponse(report=self._desk.replace(request.order))
        await self._publish(response)
        return response

    async def ListOrders(self, request: venue_pb2.ListOrdersRequest, context: object) -> venue_pb2.ListOrdersResponse:
        """What the venue knows of an account."""
        await self._journal.barrier()
        orders = [
            order
            for order in self._desk.books.orders.values()
            if order.terms.account_id == request.account_id and (order.leaves or not request.open_only)
        ]
        listed, token = paging.page(orders, request.page_size, request.page_token, scope="venue.ListOrders")
        return venue_pb2.ListOrdersResponse(
            orders=[self._desk.status(order) for order in listed],
            next_page_token=token,
            applied_seq=self._durable_reports,
        )

    async def StreamReports(
        self, request: venue_pb2.StreamReportsRequest, context: object
    ) -> AsyncIterator[venue_pb2.StreamReportsResponse]:
        """Durable reports from from_seq on, then as they come; a heartbeat while nothing happens."""
        sent = request.from_seq - 1
        yield venue_pb2.StreamReportsResponse(last_seq=self._durable_reports)
        while not self._context.draining:
            changed = self._changed.next()
            if sent < self._durable_reports:
                batch, sent = self._desk.reports[sent : self._durable_reports], self._durable_reports
                yield venue_pb2.StreamReportsResponse(reports=batch, last_seq=sent)
                continue
            if not await within(changed, HEARTBEAT_S):
                yield venue_pb2.StreamReportsResponse(last_seq=self._durable_reports)
        reason = venue_pb2.StreamReportsResponse.END_REASON_DRAINING
        yield venue_pb2.StreamReportsResponse(last_seq=self._durable_reports, end_reason=reason)

    async def AdvanceMarket(
        self, request: venue_pb2.AdvanceMarketRequest, context: object
    ) -> venue_pb2.AdvanceMarketResponse:
        """Matches the resting orders on every bar between the venue's time and to_ns."""
        books = self._desk.books
        if request.to_ns <= books.now_ns:
            raise precondition(
                "MARKET_TIME_NOT_AFTER",
                f"to_ns {request.to_ns} is not after the venue's time {books.now_ns}; advance to a later moment",
                venue_time_ns=str(books.now_ns),
            )
        bars = marketdata_pb2.ListBarsResponse()
        if books.resting:
            wanted = {self._desk.instruments[order.terms.instrument].instrument_id for order in books.resting}
            bars = await self._market_data.ListBars(
                marketdata_pb2.ListBarsRequest(
                    instrument_ids=sorted(wanted), start_ns=books.now_ns, end_ns=request.to_ns
                )
            )
        before = len(self._desk.reports)
        self._desk.advance(request.to_ns, bars.bars)
        response = venue_pb2.AdvanceMarketResponse(last_seq=len(self._desk.reports))
        if len(self._desk.reports) == before:
            # Only the clock moved: a repeat moves it again, so the answer need not wait for the disk.
            self._journal.commit_later(response)
        else:
            await self._publish(response)
        return response

    async def GetFillModel(
        self, request: venue_pb2.GetFillModelRequest, context: object
    ) -> venue_pb2.GetFillModelResponse:
        """How this venue fills."""
        config = self._context.config
        return venue_pb2.GetFillModelResponse(
            fill_model=venue_pb2.FillModel(
                half_spread_ppm=config.half_spread_ppm,
                impact_ppm=config.impact_ppm,
                participation_cap_ppm=config.participation_cap_ppm,
                fee_per_lot=convert.money(config.fee_per_lot_e9, config.currency),
                taker_rate_e8=config.taker_rate_e8,
                maker_rate_e8=config.maker_rate_e8,
                minimum_fee=convert.money(config.minimum_fee_e9, config.currency),
            )
        )

    async def _publish(self, response: Message) -> None:
        reports = len(self._desk.reports)
        await self._journal.commit(response)
        self._durable_reports = max(self._durable_reports, reports)
        self._changed.notify()


async def build(context: Context[Config]) -> None:
    """Rebuilds the books from the journal and registers both services."""
    book.warm()
    market_data = context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    instruments = await list_instruments(market_data)
    journal = context.open_journal()
    desk = Desk(context.config, journal, list(instruments.values()))
    venue = Venue(context, desk, journal, market_data)
    context.add(venue_pb2_grpc.add_VenueServiceServicer_to_server, venue, "alphamesh.venue.v1.VenueService")
    context.add(venue_pb2_grpc.add_PaperMarketServiceServicer_to_server, venue, "alphamesh.venue.v1.PaperMarketService")


DEFINITION = ServiceDefinition(name="venue", version="0.1.0", config=Config, build=build)
