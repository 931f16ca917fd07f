"""Real services in one process over the local transport, for tests that start and stop them one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.portfolio.v1 import portfolio_pb2_grpc
from alphamesh.risk.v1 import risk_pb2_grpc
from alphamesh.type.v1 import money_pb2, trading_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from python_services.execution import service as execution
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.eventlog import LocalEventLog
from python_services.kit.ids import request_id
from python_services.kit.local import LocalServer, LocalTransport
from python_services.market_data import service as market_data
from python_services.portfolio import service as portfolio
from python_services.risk import service as risk
from python_services.venue import service as venue

NANO = 1_000_000_000
ACCOUNT = "demo"
NAMES = ("AAPL", "GOOG", "IBM", "MSFT")
DATA = {"datasets": ("bundled:us_equities_daily.csv.gz",), "instruments": "bundled:instruments.yaml"}


class Floor:
    """Starts services by definition; `data` is the directory that a restart finds again."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._transport = LocalTransport()
        self._log = LocalEventLog()
        self.contexts: dict[str, Context[Any]] = {}
        self.failures: list[BaseException] = []
        self.marketdata = marketdata_pb2_grpc.MarketDataServiceStub(self.channel("market_data"))
        self.market = venue_pb2_grpc.PaperMarketServiceStub(self.channel("venue"))
        self.execution = execution_pb2_grpc.ExecutionServiceStub(self.channel("execution"))
        self.portfolio = portfolio_pb2_grpc.PortfolioServiceStub(self.channel("portfolio"))
        self.risk = risk_pb2_grpc.RiskServiceStub(self.channel("risk"))

    def channel(self, service: str) -> Any:
        """A channel as the coordinator has it."""
        return self._transport.channel("coordinator", service)

    async def start(self, definition: ServiceDefinition[Any], **config: Any) -> None:
        """Builds one service and makes it reachable."""
        name = definition.name
        context = Context(
            name=name,
            version=definition.version,
            config=definition.config(**config),
            data_dir=self._data / name,
            events=self._log,
            connect=lambda service: self._transport.channel(name, service),
            fail=self.failures.append,
        )
        await definition.build(context)
        server = LocalServer(context.pipeline)
        context.register(server)
        self._transport.bind(name, server)
        self.contexts[name] = context

    async def start_all(self, **configs: dict[str, Any]) -> None:
        """All that portfolio and risk need, and both of them, on the bundled data."""
        for module in (market_data, venue, execution, portfolio, risk):
            definition = module.DEFINITION
            given = DATA if definition.name == "market_data" else configs.get(definition.name, {})
            await self.start(definition, **given)

    async def stop(self, name: str) -> None:
        """As if the process had ended: unreachable, its memory gone."""
        self._transport.unbind(name)
        context = self.contexts.pop(name)
        await context.close()

    async def close(self) -> None:
        """Stops what runs; raises the first failure that nobody expected."""
        for name in reversed(list(self.contexts)):
            await self.stop(name)
        if self.failures:
            raise self.failures[0]


class Session:
    """A client that goes through trading days like the coordinator does."""

    def __init__(self, floor: Floor, closes: list[int], lookback: int = 120) -> None:
        self.floor = floor
        self.closes = closes
        self.day = -1
        self.seq = 0
        self.snapshot = marketdata_pb2.SnapshotHeader()
        self._lookback = lookback

    @property
    def decision_id(self) -> str:
        """One per day."""
        return f"test-{self.day:04d}"

    async def open(self, cash: int) -> None:
        """Opens the account."""
        request = execution_pb2.OpenAccountRequest(
            request_id=request_id("open"), account_id=ACCOUNT, cash=usd(cash), ts_event_ns=self.closes[0] - 1
        )
        self.seq = (await self.floor.execution.OpenAccount(request)).applied_seq

    async def next_day(self) -> execution_pb2.Account:
        """Market to the next close, snapshot, fills and valuation."""
        self.day += 1
        close = self.closes[self.day]
        advanced = await self.floor.market.AdvanceMarket(
            venue_pb2.AdvanceMarketRequest(
                request_id=request_id(self.decision_id, "advance"), to_ns=close, instrument_ids=NAMES
            )
        )
        cut = marketdata_pb2.CutSnapshotRequest(
            request_id=request_id(self.decision_id, "snapshot"),
            as_of_ns=close,
            instrument_ids=NAMES,
            lookback_bars=self._lookback,
        )
        self.snapshot = (await self.floor.marketdata.CutSnapshot(cut)).header
        synced = await self.floor.execution.SyncMarket(
            execution_pb2.SyncMarketRequest(
                request_id=request_id(self.decision_id, "sync"),
                account_id=ACCOUNT,
                snapshot_id=self.snapshot.snapshot_id,
                min_venue_seq=advanced.last_seq,
                decision_id=self.decision_id,
            )
        )
        self.seq = synced.applied_seq
        return synced.account

    async def submit(self, changes: dict[str, int]) -> list[order_pb2.Order]:
        """Market orders for signed numbers of shares."""
        response = await self.floor.execution.SubmitOrders(
            execution_pb2.SubmitOrdersRequest(
                request_id=request_id(self.decision_id, "submit"),
                account_id=ACCOUNT,
                basket_mode=execution_pb2.BASKET_MODE_INDEPENDENT,
                orders=[
                    order_pb2.OrderSpec(
                        client_order_id=f"{self.decision_id}-{name}",
                        instrument_id=name,
                        side=trading_pb2.SIDE_BUY if shares > 0 else trading_pb2.SIDE_SELL,
                        order_type=trading_pb2.ORDER_TYPE_MARKET,
                        time_in_force=trading_pb2.TIME_IN_FORCE_DAY,
                        quantity_e9=abs(shares) * NANO,
                        decision_id=self.decision_id,
                    )
                    for name, shares in changes.items()
                ],
            )
        )
        self.seq = response.applied_seq
        return list(response.orders)


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
