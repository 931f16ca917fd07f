"""A desk with books whose reports read as sentences, for tests by example. Prices in cents, quantities in shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.type.v1 import trading_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit.convert import money_e9
from python_services.kit.journal import Journal
from python_services.venue.book.desk import Desk
from python_services.venue.config import BOOK, Config

E9 = 10**9
CENT = 10_000_000
Kind = venue_pb2.Report.Kind
Type = trading_pb2.OrderType
Tif = trading_pb2.TimeInForce
Phase = venue_pb2.SessionPhase
Mode = venue_pb2.SelfTradePrevention
INSTRUMENTS = ("IBM", "MSFT")
CENTS = {
    "price": "price_e9",
    "trigger": "trigger_price_e9",
    "trail": "trailing_offset_e9",
    "limit_offset": "limit_offset_e9",
}


def instruments() -> list[marketdata_pb2.Instrument]:
    """Shares with a tick of a cent."""
    return [
        marketdata_pb2.Instrument(
            instrument_id=name, price_increment_e9=CENT, size_increment_e9=E9, multiplier_e9=E9, currency_code="USD"
        )
        for name in INSTRUMENTS
    ]


def order(name: str, side: int, quantity: int, price: int | None = None, **fields: Any) -> venue_pb2.VenueOrder:
    """`name` is "account/client order id". Without a type: LIMIT with a price, MARKET without."""
    account, _, identifier = name.partition("/")
    values: dict[str, Any] = {
        "client_order_id": identifier,
        "account_id": account,
        "instrument_id": "IBM",
        "side": side,
        "order_type": Type.ORDER_TYPE_MARKET if price is None else Type.ORDER_TYPE_LIMIT,
        "time_in_force": Tif.TIME_IN_FORCE_DAY,
        "quantity_e9": quantity * E9,
        "ts_init_ns": 1,
    }
    for key, value in {"price": price, **fields}.items():
        if key == "display":
            values["display_quantity_e9"] = value * E9
        elif key in CENTS:
            values[CENTS[key]] = None if value is None else value * CENT
        else:
            values[key] = value
    return venue_pb2.VenueOrder(**values)


def sentence(report: venue_pb2.Report) -> str:
    """ "FILL a/1 5@105.01 leaves 0 TAKER"."""
    kind = Kind.Name(report.kind).removeprefix("KIND_")
    parts = [kind, f"{report.account_id}/{report.client_order_id}"]
    if report.kind == Kind.KIND_FILL:
        liquidity = trading_pb2.LiquidityFlag.Name(report.liquidity_flag).removeprefix("LIQUIDITY_FLAG_")
        size = f"{report.last_quantity_e9 // E9}@{report.last_price_e9 // CENT}"
        parts += [size, f"leaves {report.leaves_quantity_e9 // E9}", liquidity]
    elif report.kind == Kind.KIND_REPLACED:
        price = f"@{report.order.price_e9 // CENT}" if report.order.HasField("price_e9") else ""
        parts += [f"{report.order.quantity_e9 // E9}{price}", f"leaves {report.leaves_quantity_e9 // E9}"]
    return " ".join(part for part in (*parts, report.reason) if part)


class Floor:
    """Each call returns the sentences of the reports that it caused."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.config = Config(market=BOOK, **{"fee_per_lot_e9": 0, "minimum_fee_e9": 0, **config})
        self.open()

    def open(self) -> None:
        """Opens the journal and rebuilds the books from it."""
        self.journal = Journal(self.folder / "journal.db", "venue", "test", lambda error: None)
        self.desk = Desk(self.config, self.journal, instruments())
        self.told = len(self.desk.reports)

    def restart(self, **config: Any) -> None:
        """Forgets everything that is not in the journal."""
        self.journal.close()
        if config:
            self.config = Config(market=BOOK, **config)
        self.open()

    def news(self) -> list[str]:
        """Sentences since the last call."""
        fresh, self.told = self.desk.reports[self.told :], len(self.desk.reports)
        return [sentence(report) for report in fresh]

    def buy(self, name: str, quantity: int, price: int | None = None, **fields: Any) -> list[str]:
        self.desk.submit([order(name, trading_pb2.SIDE_BUY, quantity, price, **fields)])
        return self.news()

    def sell(self, name: str, quantity: int, price: int | None = None, **fields: Any) -> list[str]:
        self.desk.submit([order(name, trading_pb2.SIDE_SELL, quantity, price, **fields)])
        return self.news()

    def cancel(self, name: str) -> list[str]:
        account, _, identifier = name.partition("/")
        self.desk.cancel(account, [identifier])
        return self.news()

    def replace(self, name: str, side: int, quantity: int, price: int | None = None, **fields: Any) -> list[str]:
        self.desk.replace(order(name, side, quantity, price, **fields))
        return self.news()

    def advance(self, to_ns: int) -> list[str]:
        self.desk.advance(to_ns, [])
        return self.news()

    def phase(self, phase: Any) -> list[str]:
        self.desk.set_phase(["IBM"], phase)
        return self.news()

    def limits(self, lower: int | None = None, upper: int | None = None, reference: int | None = None) -> list[str]:
        values = {"lower_price_e9": lower, "upper_price_e9": upper, "reference_price_e9": reference}
        limits = venue_pb2.PriceLimits(**{k: None if v is None else v * CENT for k, v in values.items()})
        self.desk.set_limits("IBM", limits)
        return self.news()

    def depth(self) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """(bids, asks) of IBM as (price, shown quantity, orders), best first."""
        book = self.desk.book("IBM", 0)
        bids, asks = ([(x.price_e9 // CENT, x.quantity_e9 // E9, x.orders) for x in s] for s in (book.bids, book.asks))
        return bids, asks

    def fees(self) -> list[int]:
        """Fees of all fills, nano units."""
        return [money_e9(report.fee) for report in self.desk.reports if report.kind == Kind.KIND_FILL]
