"""The venue's clock and market control."""

from __future__ import annotations

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from python_services.kit import convert
from python_services.kit.errors import precondition

from .book.desk import Desk as BookDesk
from .config import Config
from .publisher import Desk, Publisher


class PaperMarket(venue_pb2_grpc.PaperMarketServiceServicer):
    """Moves time, and says what may trade."""

    def __init__(
        self,
        config: Config,
        desk: Desk,
        publisher: Publisher,
        book: BookDesk | None,
        market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub,
    ) -> None:
        self._config = config
        self._desk = desk
        self._publisher = publisher
        self._book = book
        self._market_data = market_data

    async def AdvanceMarket(
        self, request: venue_pb2.AdvanceMarketRequest, context: object
    ) -> venue_pb2.AdvanceMarketResponse:
        """Moves market time: on bars, matches the resting orders on every bar up to to_ns."""
        desk = self._desk
        if request.to_ns <= desk.now_ns:
            raise precondition(
                "MARKET_TIME_NOT_AFTER",
                f"to_ns {request.to_ns} is not after the venue's time {desk.now_ns}; advance to a later moment",
                venue_time_ns=str(desk.now_ns),
            )
        bars = marketdata_pb2.ListBarsResponse()
        if wanted := desk.wanted:
            # As known then: a correction that came in later must not change a fill, now or in a replay.
            bars = await self._market_data.ListBars(
                marketdata_pb2.ListBarsRequest(
                    instrument_ids=wanted, start_ns=desk.now_ns, end_ns=request.to_ns, known_at_ns=request.to_ns
                )
            )
        desk.advance(request.to_ns, bars.bars)
        response = venue_pb2.AdvanceMarketResponse(last_seq=len(desk.reports))
        # Also when only the clock moved: the stream is the same after a kill, and the snapshot, cut meanwhile, waits
        # for the disk anyway.
        await self._publisher.commit(response)
        return response

    async def SetPhase(self, request: venue_pb2.SetPhaseRequest, context: object) -> venue_pb2.SetPhaseResponse:
        """A new phase of some books, with the auction that it ends."""
        outcomes = having_books(self._book).set_phase(request.instrument_ids, request.phase)
        response = venue_pb2.SetPhaseResponse(outcomes=outcomes, last_seq=len(self._desk.reports))
        await self._publisher.commit(response)
        return response

    async def SetPriceLimits(
        self, request: venue_pb2.SetPriceLimitsRequest, context: object
    ) -> venue_pb2.SetPriceLimitsResponse:
        """The price band and the reference price of one book."""
        canceled = having_books(self._book).set_limits(request.instrument_id, request.limits)
        response = venue_pb2.SetPriceLimitsResponse(canceled_orders=canceled, last_seq=len(self._desk.reports))
        await self._publisher.commit(response)
        return response

    async def GetFillModel(
        self, request: venue_pb2.GetFillModelRequest, context: object
    ) -> venue_pb2.GetFillModelResponse:
        """How this venue fills; orders that trade with each other have neither spread nor impact of a model."""
        config = self._config
        on_bars = self._book is None
        return venue_pb2.GetFillModelResponse(
            fill_model=venue_pb2.FillModel(
                half_spread_ppm=config.half_spread_ppm if on_bars else 0,
                impact_ppm=config.impact_ppm if on_bars else 0,
                participation_cap_ppm=config.participation_cap_ppm if on_bars else 0,
                fee_per_lot=convert.money(config.fee_per_lot_e9, config.currency),
                taker_rate_e8=config.taker_rate_e8,
                maker_rate_e8=config.maker_rate_e8,
                minimum_fee=convert.money(config.minimum_fee_e9, config.currency),
            )
        )


def having_books(book: BookDesk | None) -> BookDesk:
    """The desk with books. Raises ServiceError when this venue fills on bars."""
    if book is None:
        raise precondition("VENUE_HAS_NO_BOOKS", "this venue fills on bars; configure it with `market: book`")
    return book
