"""The venue's servicers. Every report is an event: durable before anyone sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from python_services.kit import paging
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.instruments import list_instruments

from .bars import books
from .bars.desk import Desk as BarsDesk
from .book import exchange
from .book.desk import Desk as BookDesk
from .config import BOOK, Config
from .market import PaperMarket, having_books
from .publisher import Desk, Publisher


class Venue(venue_pb2_grpc.VenueServiceServicer):
    """Orders, reports and market data: translates messages to the desk and back."""

    def __init__(self, desk: Desk, publisher: Publisher, book: BookDesk | None) -> None:
        self._desk = desk
        self._publisher = publisher
        self._book = book

    async def SubmitOrders(
        self, request: venue_pb2.SubmitOrdersRequest, context: object
    ) -> venue_pb2.SubmitOrdersResponse:
        """New orders; an order that is known is answered with its first report."""
        response = venue_pb2.SubmitOrdersResponse(reports=self._desk.submit(request.orders))
        await self._publisher.commit(response)
        return response

    async def CancelOrders(
        self, request: venue_pb2.CancelOrdersRequest, context: object
    ) -> venue_pb2.CancelOrdersResponse:
        """Cancels what still rests."""
        reports = self._desk.cancel(request.account_id, request.client_order_ids)
        response = venue_pb2.CancelOrdersResponse(reports=reports)
        await self._publisher.commit(response)
        return response

    async def ReplaceOrder(
        self, request: venue_pb2.ReplaceOrderRequest, context: object
    ) -> venue_pb2.ReplaceOrderResponse:
        """New terms for an order that still rests."""
        response = venue_pb2.ReplaceOrderResponse(report=self._desk.replace(request.order))
        await self._publisher.commit(response)
        return response

    async def ListOrders(self, request: venue_pb2.ListOrdersRequest, context: object) -> venue_pb2.ListOrdersResponse:
        """What the venue knows of an account."""
        await self._publisher.journal.barrier()
        orders = self._desk.orders(request.account_id, open_only=request.open_only)
        listed, token = paging.page(orders, request.page_size, request.page_token, scope="venue.ListOrders")
        return venue_pb2.ListOrdersResponse(
            orders=[self._desk.status(key) for key in listed],
            next_page_token=token,
            applied_seq=self._publisher.reports.durable,
        )

    async def StreamReports(
        self, request: venue_pb2.StreamReportsRequest, context: object
    ) -> AsyncIterator[venue_pb2.StreamReportsResponse]:
        """Durable reports from from_seq on, then as they come; a heartbeat while nothing happens."""
        feed = self._publisher.reports
        async for reports in feed.follow(request.from_seq - 1):
            yield venue_pb2.StreamReportsResponse(reports=reports, last_seq=feed.durable)
        reason = venue_pb2.StreamReportsResponse.END_REASON_DRAINING
        yield venue_pb2.StreamReportsResponse(last_seq=feed.durable, end_reason=reason)

    async def GetBook(self, request: venue_pb2.GetBookRequest, context: object) -> venue_pb2.GetBookResponse:
        """The best levels of a book, as of the last durable command."""
        desk = having_books(self._book)
        await self._publisher.journal.barrier()
        return desk.book(request.instrument_id, request.levels)

    async def StreamTrades(
        self, request: venue_pb2.StreamTradesRequest, context: object
    ) -> AsyncIterator[venue_pb2.StreamTradesResponse]:
        """Durable trades from from_seq on, then as they come; a heartbeat while nothing happens."""
        having_books(self._book)
        feed = self._publisher.trades
        wanted = frozenset(request.instrument_ids)
        last = request.from_seq - 1
        async for trades in feed.follow(last):
            last = trades[-1].seq if trades else last
            chosen = [trade for trade in trades if not wanted or trade.instrument_id in wanted]
            yield venue_pb2.StreamTradesResponse(trades=chosen, last_seq=last)
        reason = venue_pb2.StreamTradesResponse.END_REASON_DRAINING
        yield venue_pb2.StreamTradesResponse(last_seq=last, end_reason=reason)


async def build(context: Context[Config]) -> None:
    """Rebuilds the books from the journal and registers both services."""
    config = context.config
    market_data = context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    instruments = list((await list_instruments(market_data)).values())
    journal = context.open_journal()
    book = None
    if config.market == BOOK:
        exchange.warm()
        desk: Desk = (book := BookDesk(config, journal, instruments))
        await journal.commit()
    else:
        books.warm()
        desk = BarsDesk(config, journal, instruments)
    publisher = Publisher(context, desk, journal)
    venue, market = Venue(desk, publisher, book), PaperMarket(config, desk, publisher, book, market_data)
    context.add(venue_pb2_grpc.add_VenueServiceServicer_to_server, venue, "alphamesh.venue.v1.VenueService")
    context.add(
        venue_pb2_grpc.add_PaperMarketServiceServicer_to_server, market, "alphamesh.venue.v1.PaperMarketService"
    )


DEFINITION = ServiceDefinition(name="venue", version="0.1.0", config=Config, build=build)
