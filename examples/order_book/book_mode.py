"""Play the recording into the running venue: its levels and trades as orders of two accounts, and a visitor among them.

python -m examples.order_book.book_mode --seconds 10

The venue runs with ``market: book``. What the recording displays rests as orders of the account "record"; its trades
come as immediate-or-cancel orders of the account "flow"; once a second a visitor joins both best prices, post-only,
behind what was there before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphamesh.type.v1 import trading_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from execution_core.types import FeedKind, Side
from mesh import topology
from python_services.local import LocalSystem

from .recording import load

Records = NDArray[np.void]

INSTRUMENT = "BTCUSDT"
TICK_E9, LOT_E9 = 100_000_000, 1_000_000  # 0.1 USDT, 0.001 BTC
WINDOW = 580_000, 650_000  # ticks
VISITOR_LOTS, VISITOR_EVERY_NS = 10, 1_000_000_000
LIMIT = trading_pb2.ORDER_TYPE_LIMIT
GTC, IOC = trading_pb2.TIME_IN_FORCE_GTC, trading_pb2.TIME_IN_FORCE_IOC
OLDEST = venue_pb2.SELF_TRADE_PREVENTION_CANCEL_OLDEST
Kind = venue_pb2.Report.Kind
FILES = {
    "bars.csv": "instrument_id,date,open,high,low,close,volume,adj_close\n"
    "BTCUSDT,2024-08-07,55100,57700,54500,55100,1000,55100\n",
    "instruments.yaml": 'session: {timezone: UTC, open: "00:00", close: "23:59"}\ninstruments:\n'
    "  - {instrument_id: BTCUSDT, currency_code: USD, price_increment: 0.1, size_increment: 0.001}\n",
}


def messages(seconds: float) -> Iterator[Records]:
    """The recording's rows, message by message, for so long."""
    rows = load()
    rows = rows[(rows["price"] >= WINDOW[0]) & (rows["price"] <= WINDOW[1])]
    rows = rows[rows["ts_init_ns"] < rows["ts_init_ns"][0] + int(seconds * 1e9)]
    borders = np.flatnonzero(np.diff(rows["ts_init_ns"]) | np.diff(rows["ts_event_ns"])) + 1
    yield from np.split(rows, borders)


class Player:
    """Keeps the orders of "record" at what the recording displays."""

    def __init__(self, system: LocalSystem) -> None:
        self.venue = system.stub(venue_pb2_grpc.VenueServiceStub, "venue")
        self.market = system.stub(venue_pb2_grpc.PaperMarketServiceStub, "venue")
        self.now = 0
        self.numbers = 0
        self.applied = 0
        self.leaves: dict[str, int] = {}
        self.levels: dict[tuple[int, int], list[str]] = {}
        self.displayed: dict[tuple[int, int], int] = {}
        self.quotes: list[str] = []
        self.counts: Counter[str] = Counter()
        self.visitor = Counter[str]()

    def order(self, account: str, side: int, price: int, lots: int, tif: int, **fields: Any) -> venue_pb2.VenueOrder:
        self.numbers += 1
        return venue_pb2.VenueOrder(
            client_order_id=str(self.numbers),
            account_id=account,
            instrument_id=INSTRUMENT,
            side=side,  # type: ignore[arg-type]
            order_type=LIMIT,
            time_in_force=tif,  # type: ignore[arg-type]
            quantity_e9=lots * LOT_E9,
            price_e9=price * TICK_E9,
            ts_init_ns=self.now,
            **fields,
        )

    async def play(self, rows: Records) -> None:
        """One message: what it takes away first, then its trades and what it adds."""
        self.now = max(self.now + 1, int(rows["ts_event_ns"][0]))
        orders, gone = [], []
        targets: dict[tuple[int, int], int] = {}
        for row in rows:
            side, price, lots = int(row["side"]), int(row["price"]), int(row["lots"])
            if row["kind"] == FeedKind.TRADE:
                self.counts["recorded trades"] += 1
                orders.append(self.order("flow", side, price, lots, IOC))
            elif row["kind"] == FeedKind.DEPTH:
                targets[side, price] = lots
            elif row["kind"] == FeedKind.CLEAR:
                better = (lambda p, end=price: p >= end) if side == Side.BUY else (lambda p, end=price: p <= end)
                targets |= {key: 0 for key in self.displayed if key[0] == side and better(key[1])}
        for (side, price), lots in targets.items():
            self.displayed[side, price] = lots
            waiting = self.levels.setdefault((side, price), [])
            waiting[:] = [name for name in waiting if self.leaves.get(name)]
            missing = lots - sum(self.leaves[name] for name in waiting)
            while missing < 0:
                newest = waiting.pop()
                gone.append(newest)
                missing += self.leaves[newest]
            if missing:
                order = self.order("record", side, price, missing, GTC, self_trade_prevention=OLDEST)
                waiting.append(order.client_order_id)
                orders.append(order)
        await self.send("record", orders, gone)

    async def visit(self) -> None:
        """The visitor joins the best prices, if they moved away from its quotes or filled them."""
        book = await self.venue.GetBook(venue_pb2.GetBookRequest(instrument_id=INSTRUMENT, levels=1))
        if not book.bids or not book.asks:
            return
        gone = [name for name in self.quotes if self.leaves.get(name)]
        best = ((Side.BUY, book.bids[0]), (Side.SELL, book.asks[0]))
        orders = [
            self.order("visitor", side, level.price_e9 // TICK_E9, VISITOR_LOTS, GTC, post_only=True)
            for side, level in best
        ]
        self.quotes = [order.client_order_id for order in orders]
        await self.send("visitor", orders, gone)

    async def send(self, account: str, orders: list[venue_pb2.VenueOrder], gone: list[str]) -> None:
        """Cancels, then orders, then time; returns when their reports are read."""
        if gone:
            await self.venue.CancelOrders(
                venue_pb2.CancelOrdersRequest(request_id=new_id(), account_id=account, client_order_ids=gone)
            )
        for start in range(0, len(orders), 5_000):
            await self.venue.SubmitOrders(
                venue_pb2.SubmitOrdersRequest(request_id=new_id(), orders=orders[start : start + 5_000])
            )
        self.now += 1
        moved = await self.market.AdvanceMarket(
            venue_pb2.AdvanceMarketRequest(request_id=new_id(), to_ns=self.now, instrument_ids=[INSTRUMENT])
        )
        while self.applied < moved.last_seq:
            for report in (await anext(self.stream)).reports:
                self.read(report)

    def read(self, report: venue_pb2.Report) -> None:
        """Keeps what is left of every order, and what the visitor traded."""
        self.applied = report.seq
        self.leaves[report.client_order_id] = report.leaves_quantity_e9 // LOT_E9
        self.counts[Kind.Name(report.kind).removeprefix("KIND_").lower()] += 1
        if report.account_id == "visitor" and report.kind == Kind.KIND_FILL:
            self.visitor["fills"] += 1
            self.visitor["lots"] += report.last_quantity_e9 // LOT_E9
            self.visitor["bought" if report.trade_id.endswith("-B") else "sold"] += report.last_quantity_e9 // LOT_E9

    async def run(self, seconds: float) -> None:
        """Plays all messages."""
        next_visit = 0
        async with contextlib.aclosing(self.reports()) as self.stream:
            for rows in messages(seconds):
                await self.play(rows)
                self.counts["messages"] += 1
                if self.now >= next_visit:
                    next_visit = self.now + VISITOR_EVERY_NS
                    await self.visit()

    async def reports(self) -> Any:
        """The venue's reports from the first one on."""
        async for response in self.venue.StreamReports(venue_pb2.StreamReportsRequest(from_seq=1)):
            yield response

    async def agreement(self, levels: int) -> tuple[int, int]:
        """(levels of the venue's book, without the visitor, that show what the recording displays; levels compared)."""
        book = await self.venue.GetBook(venue_pb2.GetBookRequest(instrument_id=INSTRUMENT, levels=levels))
        own = {name for name in self.quotes if self.leaves.get(name)}
        mine = Counter[tuple[int, int]]()
        for status in (
            await self.venue.ListOrders(venue_pb2.ListOrdersRequest(account_id="visitor", open_only=True))
        ).orders:
            if status.order.client_order_id in own:
                mine[status.order.side, status.order.price_e9 // TICK_E9] += status.leaves_quantity_e9 // LOT_E9
        same = 0
        for side, rows in ((Side.BUY, book.bids), (Side.SELL, book.asks)):
            for row in rows:
                key = int(side), row.price_e9 // TICK_E9
                same += row.quantity_e9 // LOT_E9 - mine[key] == self.displayed.get(key, 0)
        return same, len(book.bids) + len(book.asks)


def new_id() -> str:
    """A fresh request id."""
    return str(uuid.uuid4())


def mesh(folder: Path) -> topology.Topology:
    """market_data with the one instrument, and a venue with books."""
    folder.mkdir(exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    whole = topology.load()
    data = {"datasets": [str(folder / "bars.csv")], "instruments": str(folder / "instruments.yaml")}
    fees = {"fee_per_lot_e9": 0, "minimum_fee_e9": 0, "maker_rate_e8": 20_000, "taker_rate_e8": 50_000}
    whole = whole.with_config("market_data", data).with_config("venue", {"market": "book", **fees})
    return replace(whole, services=tuple(s for s in whole.services if s.name in ("market_data", "venue")))


async def replay(folder: Path, seconds: float) -> Player:
    """Plays so much of the recording and prints what came of it."""
    async with LocalSystem(folder / "run", mesh(folder)) as system:
        player = Player(system)
        middle = venue_pb2.PriceLimits(reference_price_e9=sum(WINDOW) // 2 * TICK_E9)
        await player.market.SetPriceLimits(
            venue_pb2.SetPriceLimitsRequest(request_id=new_id(), instrument_id=INSTRUMENT, limits=middle)
        )
        await player.run(seconds)
        same, compared = await player.agreement(50)
    for name, count in sorted(player.counts.items()):
        print(f"{name:16} {count:>8,}")
    print(f"{'visitor':16} " + ", ".join(f"{name} {count}" for name, count in player.visitor.items()))
    print(f"{'levels as recorded':16} {same} of {compared}")
    player.counts["same"], player.counts["compared"] = same, compared
    return player


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(replay(Path(name), parser.parse_args().seconds))
