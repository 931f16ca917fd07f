"""Services that run for real over the local transport, and a trader's view of them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.type.v1 import money_pb2, trading_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from mesh import topology
from python_services.local import LocalSystem

E9 = 10**9
ACCOUNT = "test"
INSTRUMENTS = ["AAPL", "MSFT", "IBM", "GOOG"]


def usd(units: int) -> money_pb2.Money:
    """Whole dollars."""
    return money_pb2.Money(currency_code="USD", units=units)


def new_id() -> str:
    """A fresh request id."""
    return str(uuid.uuid4())


def market_order(identifier: str, instrument: str, shares: int, **fields: object) -> order_pb2.OrderSpec:
    """A market order for the day; positive shares buy."""
    settings: dict[str, object] = {
        "client_order_id": identifier,
        "instrument_id": instrument,
        "side": trading_pb2.SIDE_BUY if shares > 0 else trading_pb2.SIDE_SELL,
        "order_type": trading_pb2.ORDER_TYPE_MARKET,
        "time_in_force": trading_pb2.TIME_IN_FORCE_DAY,
        "quantity_e9": abs(shares) * E9,
    }
    return order_pb2.OrderSpec(**(settings | fields))  # type: ignore[arg-type]


class Trader:
    """Market, venue and execution, driven day by day."""

    def __init__(self, system: LocalSystem) -> None:
        self.system = system
        self.execution = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
        self.venue = system.stub(venue_pb2_grpc.VenueServiceStub, "venue")
        self.market = system.stub(venue_pb2_grpc.PaperMarketServiceStub, "venue")
        self.data = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
        self.days: list[int] = []
        self.today = -1
        self.policy_version = 0

    async def open(self, cash: int = 1_000_000) -> None:
        """Opens the account and goes to the close of the first day of July 2009, with a generous policy."""
        start = int(datetime(2009, 7, 1, tzinfo=UTC).timestamp()) * E9
        days = marketdata_pb2.ListTradingDaysRequest(
            start_ns=start, end_ns=start + 60 * 86_400 * E9, instrument_ids=INSTRUMENTS
        )
        self.days = list((await self.data.ListTradingDays(days)).close_ns)
        await self.execution.OpenAccount(
            execution_pb2.OpenAccountRequest(request_id=new_id(), account_id=ACCOUNT, cash=usd(cash), ts_event_ns=start)
        )
        await self.next_day()
        await self.allow()

    async def next_day(self) -> execution_pb2.Account:
        """The next bar: fills, then a valuation at its close."""
        self.today += 1
        close = self.days[self.today]
        moved = await self.market.AdvanceMarket(
            venue_pb2.AdvanceMarketRequest(request_id=new_id(), to_ns=close, instrument_ids=INSTRUMENTS)
        )
        cut = marketdata_pb2.CutSnapshotRequest(
            request_id=new_id(), as_of_ns=close, instrument_ids=INSTRUMENTS, lookback_bars=20
        )
        header = (await self.data.CutSnapshot(cut)).header
        synced = await self.execution.SyncMarket(
            execution_pb2.SyncMarketRequest(
                request_id=new_id(),
                account_id=ACCOUNT,
                snapshot_id=header.snapshot_id,
                min_venue_seq=moved.last_seq,
            )
        )
        return synced.account

    async def allow(self, **limits: object) -> None:
        """A policy that allows nearly everything, but for `limits`."""
        self.policy_version += 1
        settings: dict[str, object] = {
            "version": self.policy_version,
            "ts_event_ns": self.days[self.today],
            "max_age_ns": 30 * 86_400 * E9,
            "price_max_age_ns": 30 * 86_400 * E9,
            "trading_state": trading_pb2.TRADING_STATE_ACTIVE,
            "gross_exposure_limit": usd(2_000_000),
            "net_exposure_limit": usd(2_000_000),
            "position_limit": usd(2_000_000),
            "order_notional_limit": usd(2_000_000),
            "order_notional_minimum": usd(0),
            "sector_limit": usd(2_000_000),
            "daily_loss_limit": usd(500_000),
            "drawdown_limit_bps": 9_000,
            "price_collar_bps": 1_000,
            "orders_per_second": 1_000,
            "leverage_limit_bps": 20_000,
            "concentration_limit_bps": 20_000,
        }
        policy = execution_pb2.RiskPolicy(**(settings | limits))  # type: ignore[arg-type]
        request = execution_pb2.ApplyRiskPolicyRequest(request_id=new_id(), account_id=ACCOUNT, policy=policy)
        await self.execution.ApplyRiskPolicy(request)

    async def submit(
        self,
        *orders: order_pb2.OrderSpec,
        mode: execution_pb2.BasketMode.ValueType = execution_pb2.BASKET_MODE_INDEPENDENT,
        request_id: str = "",
        validate_only: bool = False,
    ) -> list[order_pb2.Order]:
        """Submits a batch."""
        request = execution_pb2.SubmitOrdersRequest(
            request_id=request_id or new_id(),
            account_id=ACCOUNT,
            orders=orders,
            basket_mode=mode,
            validate_only=validate_only,
        )
        return list((await self.execution.SubmitOrders(request)).orders)

    async def order(self, identifier: str) -> order_pb2.Order:
        """Reads one order."""
        request = execution_pb2.GetOrderRequest(account_id=ACCOUNT, client_order_id=identifier)
        return (await self.execution.GetOrder(request)).order

    async def account(self) -> execution_pb2.GetAccountResponse:
        """Reads the account."""
        return await self.execution.GetAccount(execution_pb2.GetAccountRequest(account_id=ACCOUNT))


MODELS = frozenset({"feature_store", "learned_agent", "model_registry", "sentiment_agent", "training"})


def without_models() -> topology.Topology:
    """The default topology, but for what has to do with models: it starts in a third of the time."""
    whole = topology.load().without_triton().with_config("coordinator", {"agents": ["technical_agent"]})
    return replace(whole, services=tuple(service for service in whole.services if service.name not in MODELS))


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[LocalSystem]:
    """The services that trade, in this process."""
    async with LocalSystem(tmp_path, without_models()) as running:
        yield running


@pytest.fixture
async def trader(system: LocalSystem) -> Trader:
    """An account with cash, a policy and prices, at the close of 2009-07-01."""
    person = Trader(system)
    await person.open()
    return person
