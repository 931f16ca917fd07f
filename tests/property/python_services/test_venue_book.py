"""The venue with books under random commands: equal to the engine's twin, nothing lost, the same after a restart.

Commands go through the running service. More streams: ALPHAMESH_PROPERTY_EXAMPLES=500.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from execution_core.types import CommandKind, MatchEventKind, MatchReason, OrderType, SessionPhase
from mesh import topology
from python_services.local import LocalSystem
from tests.unit.execution_core.matching.reference_engine import Command, Event, ReferenceEngine, allowed_times

EXAMPLES = int(os.environ.get("ALPHAMESH_PROPERTY_EXAMPLES", "15"))
STEPS = 70
MIDDLE, BASE, TICK, LOT = 10_000, -100_000, 10_000_000, 10**9
CLOSED_KINDS = (MatchEventKind.CANCELED, MatchEventKind.EXPIRED)
Kind = venue_pb2.Report.Kind


class House:
    """market_data and a venue with books over the local transport; the venue can start again, empty or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        whole = topology.load().with_config("venue", {"market": "book"})
        mesh = replace(whole, services=tuple(s for s in whole.services if s.name in ("market_data", "venue")))
        self.system = LocalSystem(folder, mesh)
        self.loop.run_until_complete(self.system.__aenter__())
        self.venue = self.system.stub(venue_pb2_grpc.VenueServiceStub, "venue")
        self.market = self.system.stub(venue_pb2_grpc.PaperMarketServiceStub, "venue")

    async def restart(self, *, empty: bool) -> None:
        await self.system.stop("venue")
        if empty:
            shutil.rmtree(self.folder / "data" / "venue")
        await self.system.start("venue")

    async def reports(self) -> list[venue_pb2.Report]:
        last = 0
        found: list[venue_pb2.Report] = []
        async for response in self.venue.StreamReports(venue_pb2.StreamReportsRequest(from_seq=1)):
            last = max(last, response.last_seq)
            found += response.reports
            if len(found) == last:
                return found
        raise AssertionError("the stream ended")

    async def trades(self) -> list[venue_pb2.Trade]:
        found: list[venue_pb2.Trade] = []
        stream = self.venue.StreamTrades(venue_pb2.StreamTradesRequest(from_seq=1))
        async for response in stream:
            if not response.trades and not response.last_seq:
                continue
            found += response.trades
            return found
        raise AssertionError("the stream ended")

    def close(self) -> None:
        self.loop.run_until_complete(self.system.__aexit__(None, None, None))
        self.loop.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(tmp_path_factory.mktemp("house"))
    yield running
    running.close()


def new_id() -> str:
    return str(uuid.uuid4())


class Session:
    """Random commands to the venue, and to the twin in its own language."""

    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.random = random.Random(seed)
        self.twin = ReferenceEngine(BASE)
        self.now = 1
        self.orders: list[venue_pb2.VenueOrder] = []
        self.sequences: dict[int, int] = {}
        self.expected: list[tuple[Any, ...]] = []
        self.trades: dict[int, Event] = {}

    def price(self) -> int:
        return MIDDLE + self.random.randint(-10, 10)

    async def step(self) -> None:
        chance = self.random.random()
        if chance < 0.62 or not self.orders:
            await self.submit()
        elif chance < 0.72:
            await self.cancel(self.random.choice(self.orders))
        elif chance < 0.84:
            await self.amend(self.random.randrange(len(self.orders)))
        else:
            await self.control()

    def tell(self, command: Command) -> list[Event]:
        """What the twin answers, as the reports that the venue should make of it."""
        command.ts_event_ns = self.now
        events = self.twin.execute(command)
        for event in events:
            if event.kind == MatchEventKind.APPLIED:
                continue
            if event.kind == MatchEventKind.ACCEPTED:
                self.sequences[event.client_tag] = event.order
            if event.kind == MatchEventKind.FILL:
                self.trades[event.trade_id] = event
            self.expect(event.kind, event.client_tag, MatchReason(event.reason).name if event.reason else "", event)
        return events

    def expect(self, kind: int, tag: int, reason: str, event: Event | None = None) -> None:
        filled = (event.price, event.quantity, event.liquidity) if event and kind == MatchEventKind.FILL else ()
        refused = kind in (MatchEventKind.CANCEL_REJECTED, MatchEventKind.REPLACE_REJECTED)
        leaves = 0 if event is None or refused else event.leaves
        total = event.quantity if event and kind == MatchEventKind.REPLACED else 0
        self.expected.append((MatchEventKind(kind).name, str(tag), reason, leaves, total, *filled))

    async def submit(self) -> None:
        r = self.random
        self.now += r.choice([0, 0, 1, 3])
        kind = r.choice([OrderType.LIMIT] * 5 + list(OrderType))
        limited = kind not in (OrderType.MARKET, OrderType.STOP_MARKET, OrderType.MARKET_IF_TOUCHED)
        quantity = r.choice([1, 2, 5, 10, 10, 25])
        command = Command(
            CommandKind.NEW,
            side=r.randint(1, 2),
            order_type=kind,
            time_in_force=r.choice(sorted(allowed_times(kind))) if r.random() < 0.95 else r.randint(1, 7),
            flags=r.choice([0, 0, 0, 0, 1, 2]),
            self_trade=r.randint(1, 4),
            account=r.randint(0, 3),
            client_tag=len(self.orders) + 1,
            price=self.price() if limited and r.random() < 0.97 else None,
            quantity=quantity,
            stop_price=self.price() if r.random() < 0.8 else None,
            display_quantity=r.choice([0, 1, 2, quantity]),
            trailing_offset=r.randint(1, 6),
            limit_offset=r.randint(0, 3),
            expire_time_ns=self.now + r.randint(0, 40),
        )
        order = venue_pb2.VenueOrder(
            client_order_id=str(command.client_tag),
            account_id=f"account-{command.account}",
            instrument_id="IBM",
            side=command.side,  # type: ignore[arg-type]
            order_type=command.order_type,  # type: ignore[arg-type]
            time_in_force=command.time_in_force,  # type: ignore[arg-type]
            quantity_e9=quantity * LOT,
            price_e9=None if command.price is None else command.price * TICK,
            trigger_price_e9=None if command.stop_price is None else command.stop_price * TICK,
            trailing_offset_e9=command.trailing_offset * TICK,
            limit_offset_e9=command.limit_offset * TICK,
            display_quantity_e9=command.display_quantity * LOT,
            expire_time_ns=command.expire_time_ns,
            post_only=bool(command.flags & 1),
            reduce_only=bool(command.flags & 2),
            ts_init_ns=self.now,
            self_trade_prevention=command.self_trade,  # type: ignore[arg-type]
        )
        self.orders.append(order)
        self.tell(command)
        request = venue_pb2.SubmitOrdersRequest(request_id=new_id(), orders=[order, self.orders[0]])
        reports = (await self.house.venue.SubmitOrders(request)).reports
        # The second order is known: its first report again, and nothing happens.
        assert [report.client_order_id for report in reports] == [order.client_order_id, "1"]

    def live(self, tag: int) -> bool:
        return any(order.sequence == self.sequences.get(tag) for order in self.twin.live)

    async def cancel(self, order: venue_pb2.VenueOrder) -> None:
        tag = int(order.client_order_id)
        known = tag in self.sequences
        if self.live(tag):
            owner = int(order.account_id[-1])
            self.tell(Command(CommandKind.CANCEL, order=self.sequences[tag], account=owner, client_tag=tag))
        else:
            reason = "the order is closed" if known else "the order is not known here"
            self.expect(MatchEventKind.CANCEL_REJECTED, tag, reason)
        request = venue_pb2.CancelOrdersRequest(
            request_id=new_id(), account_id=order.account_id, client_order_ids=[order.client_order_id]
        )
        [report] = (await self.house.venue.CancelOrders(request)).reports
        assert (report.client_order_id, report.kind in (5, 9)) == (order.client_order_id, True)

    async def amend(self, index: int) -> None:
        r = self.random
        old = self.orders[index]
        wanted = venue_pb2.VenueOrder()
        wanted.CopyFrom(old)
        wanted.quantity_e9 = r.choice([1, 2, 5, 10, 30]) * LOT
        price = self.price() if r.random() < 0.5 else None
        trigger = self.price() if r.random() < 0.3 else None
        if price is not None:
            wanted.price_e9 = price * TICK
        if trigger is not None:
            wanted.trigger_price_e9 = trigger * TICK
        tag = int(old.client_order_id)
        if self.live(tag):
            command = Command(
                CommandKind.REPLACE,
                order=self.sequences[tag],
                account=int(old.account_id[-1]),
                client_tag=tag,
                quantity=wanted.quantity_e9 // LOT,
                price=price if wanted.price_e9 != old.price_e9 or not old.HasField("price_e9") else None,
                stop_price=(
                    trigger
                    if wanted.trigger_price_e9 != old.trigger_price_e9 or not old.HasField("trigger_price_e9")
                    else None
                ),
            )
            if any(event.kind == MatchEventKind.REPLACED and not event.reason for event in self.tell(command)):
                self.orders[index] = wanted
        else:
            known = tag in self.sequences
            reason = "the order is closed" if known else "the order is not known here"
            self.expect(MatchEventKind.REPLACE_REJECTED, tag, reason)
        await self.house.venue.ReplaceOrder(venue_pb2.ReplaceOrderRequest(request_id=new_id(), order=wanted))

    async def control(self) -> None:
        r = self.random
        choice = r.random()
        if choice < 0.55:
            phase = r.choice([SessionPhase.CONTINUOUS] * 3 + list(SessionPhase))
            events = self.tell(Command(CommandKind.SET_PHASE, phase=phase))
            request = venue_pb2.SetPhaseRequest(request_id=new_id(), instrument_ids=["IBM"], phase=int(phase))  # type: ignore[arg-type]
            [outcome] = (await self.house.market.SetPhase(request)).outcomes
            [applied] = [event for event in events if event.kind == MatchEventKind.APPLIED]
            shown = outcome.auction_price_e9 // TICK if outcome.HasField("auction_price_e9") else None
            assert (shown, outcome.auction_quantity_e9) == (applied.price, applied.quantity * LOT)
        elif choice < 0.75:
            lower, upper = r.choice([(None, None), (None, None), (MIDDLE - 8, MIDDLE + 8)])
            reference = r.choice([None, self.price()])
            self.tell(Command(CommandKind.SET_REFERENCE, price=reference))
            self.tell(Command(CommandKind.SET_BAND, price=lower, stop_price=upper))
            values = {"lower_price_e9": lower, "upper_price_e9": upper, "reference_price_e9": reference}
            limits = venue_pb2.PriceLimits(**{k: None if v is None else v * TICK for k, v in values.items()})
            await self.house.market.SetPriceLimits(
                venue_pb2.SetPriceLimitsRequest(request_id=new_id(), instrument_id="IBM", limits=limits)
            )
        else:
            self.now += r.randint(1, 20)
            self.tell(Command(CommandKind.ADVANCE_TIME))
            await self.house.market.AdvanceMarket(
                venue_pb2.AdvanceMarketRequest(request_id=new_id(), to_ns=self.now, instrument_ids=["IBM"])
            )


def read(report: venue_pb2.Report) -> tuple[Any, ...]:
    """A report as the twin would put it."""
    kind = Kind.Name(report.kind).removeprefix("KIND_")
    filled: tuple[int, ...] = ()
    if report.kind == Kind.KIND_FILL:
        filled = (report.last_price_e9 // TICK, report.last_quantity_e9 // LOT, report.liquidity_flag)
    leaves = 0 if kind.endswith("REJECTED") else report.leaves_quantity_e9 // LOT
    total = report.order.quantity_e9 // LOT if report.kind == Kind.KIND_REPLACED else 0
    return kind, report.client_order_id, report.reason, leaves, total, *filled


def conserve(reports: list[venue_pb2.Report]) -> None:
    """Every lot that one side bought the other sold, and no order lost or won any."""
    leaves: dict[str, int] = {}
    filled: dict[str, int] = defaultdict(int)
    trades: dict[str, list[venue_pb2.Report]] = defaultdict(list)
    for report in reports:
        identifier = report.client_order_id
        if report.kind == Kind.KIND_ACCEPTED:
            leaves[identifier] = report.order.quantity_e9
        elif report.kind == Kind.KIND_FILL:
            trades[report.trade_id[:-2]].append(report)
            filled[identifier] += report.last_quantity_e9
            leaves[identifier] -= report.last_quantity_e9
            assert report.leaves_quantity_e9 == leaves[identifier] >= 0
        elif report.kind == Kind.KIND_REPLACED:
            leaves[identifier] = report.order.quantity_e9 - filled[identifier]
            assert report.leaves_quantity_e9 == leaves[identifier]
        elif report.kind in (Kind.KIND_CANCELED, Kind.KIND_EXPIRED):
            assert leaves.pop(identifier) > 0
        assert report.cumulative_quantity_e9 in (0, filled[identifier])
    for fills in trades.values():
        assert sorted(fill.trade_id[-2:] for fill in fills) == ["-B", "-S"]
        assert fills[0].last_price_e9 == fills[1].last_price_e9
        assert fills[0].last_quantity_e9 == fills[1].last_quantity_e9


async def scenario(house: House, seed: int) -> None:
    await house.restart(empty=True)
    session = Session(house, seed)
    for step in range(STEPS):
        await session.step()
        if step == STEPS // 2:
            before = await house.reports()
            await house.restart(empty=False)
            assert await house.reports() == before
    reports = await house.reports()
    assert [report.seq for report in reports] == list(range(1, len(reports) + 1))
    assert [read(report) for report in reports] == session.expected
    conserve(reports)
    book = await house.venue.GetBook(venue_pb2.GetBookRequest(instrument_id="IBM", levels=1000))
    assert (book.phase, book.applied_seq) == (session.twin.phase, len(reports))
    for side, levels in ((1, book.bids), (2, book.asks)):
        shown: dict[int, int] = {}
        for order in session.twin.queue(side):
            if order.price is not None:
                shown[order.price] = shown.get(order.price, 0) + order.shown
        assert {level.price_e9 // TICK: level.quantity_e9 // LOT for level in levels} == shown
    if session.trades:
        tape = [(t.trade_id, t.price_e9 // TICK, t.quantity_e9 // LOT) for t in await house.trades()]
        assert tape == [(f"IBM-{n}", e.price, e.quantity) for n, e in sorted(session.trades.items())]
    assert len(session.twin.live) == sum(
        [
            len((await house.venue.ListOrders(venue_pb2.ListOrdersRequest(account_id=name, open_only=True))).orders)
            for name in {order.account_id for order in session.orders}
        ]
    )


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_the_venue_equals_the_twin_through_its_service(house: House, seed: int) -> None:
    house.loop.run_until_complete(scenario(house, seed))
