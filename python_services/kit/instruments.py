"""The instruments of the universe, read once from market_data."""

from __future__ import annotations

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc

PAGE = 5000


async def list_instruments(
    market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub,
) -> dict[str, marketdata_pb2.Instrument]:
    """All instruments by instrument_id, in that order."""
    found: dict[str, marketdata_pb2.Instrument] = {}
    token = ""
    while True:
        request = marketdata_pb2.ListInstrumentsRequest(page_size=PAGE, page_token=token)
        response = await market_data.ListInstruments(request)
        found.update((instrument.instrument_id, instrument) for instrument in response.instruments)
        token = response.next_page_token
        if not token:
            return found
