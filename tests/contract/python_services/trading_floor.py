"""Real services in one process, driven through trading days as the coordinator does, one call at a time."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import grpc

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.portfolio.v1 import portfolio_pb2, portfolio_pb2_grpc
from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from alphamesh.type.v1 import money_pb2, trading_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from mesh.topology import Topology
from mesh.topology import load as load_topology
from python_services.kit.ids import request_id
from python_services.local import LocalSystem

NANO = 1_000_000_000
ACCOUNT = "demo"
NAMES = ("AAPL", "GOOG", "IBM", "MSFT")
FIRST = datetime.datetime(2009, 7, 1, tzinfo=datetime.UTC)
CASH = 1_000_000


def topology(**configs: dict[str, Any]) -> Topology:
    """The product's own, with other configurations."""
    found = load_topology()
    for name, changes in configs.items():
        found = found.with_config(name, changes)
    return found


class Floor:
    """A system with an open account, and the client that trades it."""

    def __init__(self, system: LocalSystem) -> None:
        self.system = system
        self.marketdata = self._stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
        self.market = self._stub(venue_pb2_grpc.PaperMarketServiceStub, "venue")
        self.execution = self._stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
        self.portfolio = self._stub(portfolio_pb2_grpc.PortfolioServiceStub, "portfolio")
        self.risk = self._stub(risk_pb2_grpc.RiskServiceStub, "risk")
        self.closes: list[int] = []
        self.day = -1
        self.seq = 0
        self.snapshot = marketdata_pb2.SnapshotHeader()

    def _stub(self, stub: Any, service: str) -> Any:
        return self.system.stub(stub, service, caller="coordinator")

    @property
    def decision_id(self) -> str:
        """One per day."""
        return f"test-{self.day:04d}"

    async def open(self) -> None:
        """Opens the account before the first day."""
        first = int(FIRST.timestamp()) * NANO
        days = marketdata_pb2.ListTradingDaysRequest(
            start_ns=first, end_ns=first + 90 * 86_400 * NANO, instrument_ids=NAMES
        )
        self.closes = list((await self.marketdata.ListTradingDays(days)).close_ns)
        request = execution_pb2.OpenAccountRequest(
            request_id=request_id("open"), account_id=ACCOUNT, cash=usd(CASH), ts_event_ns=self.closes[0] - 1
        )
        self.seq = (await self.execution.OpenAccount(request)).applied_seq

    async def next_day(self) -> execution_pb2.Account:
        """Market to the next close, snapshot, fills and valuation."""
        self.day += 1
        close = self.closes[self.day]
        advance = venue_pb2.AdvanceMarketRequest(
            request_id=request_id(self.decision_id, "advance"), to_ns=close, instrument_ids=NAMES
        )
        advanced = await self.market.AdvanceMarket(advance)
        cut = marketdata_pb2.CutSnapshotRequest(
            request_id=request_id(self.decision_id, "snapshot"),
            as_of_ns=close,
            instrument_ids=NAMES,
            lookback_bars=120,
        )
        self.snapshot = (await self.marketdata.CutSnapshot(cut)).header
        synced = await self.execution.SyncMarket(
            execution_pb2.SyncMarketRequest(
                request_id=request_id(self.decision_id, "sync"),
                account_id=ACCOUNT,
                snapshot_id=self.snapshot.snapshot_id,
                min_venue_seq=advanced.last_seq,
                decision_id=self.decision_id,
            )
        )
        self.seq = synced.applied_seq
        account: execution_pb2.Account = synced.account
        return account

    def proposal(self, expected: dict[str, float], **mandate: Any) -> portfolio_pb2.ProposeTargetsRequest:
        """A request with forecasts for some instruments."""
        fields: dict[str, Any] = {
            "method": portfolio_pb2.METHOD_MEAN_VARIANCE,
            "risk_aversion": 5.0,
            "maximum_weight": 0.3,
            "maximum_gross": 1.0,
            "cost_per_notional": 0.001,
            "maximum_turnover": 0.5,
            "minimum_trade": usd(500),
        }
        size = len(expected)
        return portfolio_pb2.ProposeTargetsRequest(
            request_id=request_id(self.decision_id, "portfolio"),
            decision_id=self.decision_id,
            account_id=ACCOUNT,
            snapshot_id=self.snapshot.snapshot_id,
            min_seq=self.seq,
            mandate=portfolio_pb2.Mandate(**{**fields, **mandate}),
            forecast=portfolio_pb2.CombinedForecast(
                instrument_index=[NAMES.index(name) for name in expected],
                expected_return=list(expected.values()),
                volatility=[0.05] * size,
                confidence=[1.0] * size,
                horizon_bars=5,
            ),
        )

    def assessment(self, shares: dict[str, int]) -> risk_pb2.AssessPortfolioRequest:
        """A request to judge holdings in shares."""
        return risk_pb2.AssessPortfolioRequest(
            request_id=request_id(self.decision_id, "risk"),
            decision_id=self.decision_id,
            account_id=ACCOUNT,
            snapshot_id=self.snapshot.snapshot_id,
            min_seq=self.seq,
            instrument_ids=list(shares),
            target_quantity_e9=[quantity * NANO for quantity in shares.values()],
        )

    async def buy(self, shares: dict[str, int]) -> list[order_pb2.Order]:
        """Market orders; a negative number sells."""
        request = execution_pb2.SubmitOrdersRequest(
            request_id=request_id(self.decision_id, "submit"),
            account_id=ACCOUNT,
            basket_mode=execution_pb2.BASKET_MODE_INDEPENDENT,
            orders=[
                order_pb2.OrderSpec(
                    client_order_id=f"{self.decision_id}-{name}",
                    instrument_id=name,
                    side=trading_pb2.SIDE_BUY if quantity > 0 else trading_pb2.SIDE_SELL,
                    order_type=trading_pb2.ORDER_TYPE_MARKET,
                    time_in_force=trading_pb2.TIME_IN_FORCE_DAY,
                    quantity_e9=abs(quantity) * NANO,
                    decision_id=self.decision_id,
                )
                for name, quantity in shares.items()
            ],
        )
        response = await self.execution.SubmitOrders(request)
        self.seq = response.applied_seq
        return list(response.orders)

    async def ledger(self) -> execution_pb2.Account:
        """The account as execution has it."""
        response = await self.execution.GetAccount(execution_pb2.GetAccountRequest(account_id=ACCOUNT))
        account: execution_pb2.Account = response.account
        return account


def usd(amount: int) -> money_pb2.Money:
    """Whole dollars."""
    return money_pb2.Money(currency_code="USD", units=amount)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The error of a call that must fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call succeeded")


def system(run_dir: Path, **configs: dict[str, Any]) -> LocalSystem:
    """The whole product over the local transport."""
    return LocalSystem(run_dir, topology(**configs))
