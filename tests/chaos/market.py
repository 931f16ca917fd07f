"""What a round begins with: accounts, a day of the market, marks, and a policy that binds."""

from __future__ import annotations

from datetime import UTC, datetime

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.type.v1 import money_pb2, trading_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc

from .client import LOOSE, Client, Instrument, Limits
from .ledger_check import Facts

E9 = 10**9
DAY_NS = 86_400 * E9
NAMES = ["AAPL", "GOOG", "IBM", "MSFT"]
FIRST_DAY = int(datetime(2009, 7, 1, tzinfo=UTC).timestamp()) * E9
ORDERS_PER_SECOND = 4_096  # of market time: the most that the gate's memory of recent orders has room for


def usd(units: int) -> money_pb2.Money:
    """Whole units."""
    return money_pb2.Money(currency_code="USD", units=units)


class Market:
    """Drives market time for all accounts, through a client that insists."""

    def __init__(self, client: Client, accounts: tuple[str, ...]) -> None:
        self._client = client
        self._accounts = accounts
        links = client.links
        self._data = links.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
        self._paper = links.stub(venue_pb2_grpc.PaperMarketServiceStub, "venue")
        self._execution = links.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
        self._days: list[int] = []
        self._today = -1
        self._facts: dict[str, marketdata_pb2.Instrument] = {}
        self._version = 0
        self._now_ns = 0
        self.instruments: dict[str, Instrument] = {}

    async def open(self) -> None:
        """Opens the accounts."""
        client = self._client
        days = marketdata_pb2.ListTradingDaysRequest(
            start_ns=FIRST_DAY, end_ns=FIRST_DAY + 1300 * DAY_NS, instrument_ids=NAMES
        )
        self._days = list((await client.insist("days", self._data.ListTradingDays, days)).response.close_ns)
        listed = await client.insist("instruments", self._data.ListInstruments, marketdata_pb2.ListInstrumentsRequest())
        self._facts = {one.instrument_id: one for one in listed.response.instruments if one.instrument_id in NAMES}
        for account in self._accounts:
            request = execution_pb2.OpenAccountRequest(
                request_id=client.new_id(), account_id=account, cash=usd(LOOSE), ts_event_ns=FIRST_DAY
            )
            await client.insist("open", self._execution.OpenAccount, request)

    async def next_day(self, accounts: tuple[str, ...] = ()) -> None:
        """The market moves by a bar, then `accounts` (all) are valued at its close."""
        client = self._client
        self._today += 1
        close = self._days[self._today]
        request = venue_pb2.AdvanceMarketRequest(request_id=client.new_id(), to_ns=close, instrument_ids=NAMES)
        moved = await client.insist("advance", self._paper.AdvanceMarket, request)
        cut = marketdata_pb2.CutSnapshotRequest(
            request_id=client.new_id(), as_of_ns=close, instrument_ids=NAMES, lookback_bars=5
        )
        snapshot = (await client.insist("cut", self._data.CutSnapshot, cut)).response.header.snapshot_id
        for account in accounts or self._accounts:
            sync = execution_pb2.SyncMarketRequest(
                request_id=client.new_id(),
                account_id=account,
                snapshot_id=snapshot,
                min_venue_seq=moved.response.last_seq,
            )
            await client.insist("sync", self._execution.SyncMarket, sync)
        self._now_ns = max(self._now_ns, close)

    def learn(self, marks: dict[str, int]) -> None:
        """The marks that the ledger recorded last."""
        self.instruments = {
            name: Instrument(
                instrument_id=name,
                tick_e9=facts.price_increment_e9,
                lot_e9=facts.size_increment_e9,
                multiplier_e9=facts.multiplier_e9,
                mark_e9=marks.get(name, 0),
            )
            for name, facts in self._facts.items()
        }

    def facts(self) -> dict[str, Facts]:
        """What the independent checker is told about instruments."""
        return {
            name: Facts(
                tick_e9=facts.price_increment_e9,
                lot_e9=facts.size_increment_e9,
                multiplier_e9=facts.multiplier_e9,
                sector=facts.sector,
            )
            for name, facts in self._facts.items()
        }

    async def allow(self, limits: Limits, accounts: tuple[str, ...] = ()) -> None:
        """A new version of the policy, a second of market time later: the ledger's clock moves with it."""
        self._version += 1
        self._now_ns += E9
        policy = execution_pb2.RiskPolicy(
            version=self._version,
            ts_event_ns=self._now_ns,
            max_age_ns=5_000 * DAY_NS,
            price_max_age_ns=5_000 * DAY_NS,
            trading_state=trading_pb2.TRADING_STATE_ACTIVE,
            gross_exposure_limit=usd(limits.gross),
            net_exposure_limit=usd(limits.net),
            position_limit=usd(limits.position),
            order_notional_limit=usd(limits.order_notional),
            order_notional_minimum=usd(0),
            sector_limit=usd(limits.sector),
            daily_loss_limit=usd(LOOSE),
            drawdown_limit_bps=9_000,
            price_collar_bps=10_000,
            orders_per_second=ORDERS_PER_SECOND,
            leverage_limit_bps=1_000_000,
            concentration_limit_bps=1_000_000,
            short_allowed=True,
        )
        for account in accounts or self._accounts:
            request = execution_pb2.ApplyRiskPolicyRequest(
                request_id=self._client.new_id(), account_id=account, policy=policy
            )
            await self._client.insist("policy", self._execution.ApplyRiskPolicy, request)

    async def clear(self, account: str) -> int:
        """Cancels and gives back what is open; returns how much is left (the venue may not have answered)."""
        client, ledger = self._client, self._execution
        request = execution_pb2.CancelAllOrdersRequest(request_id=client.new_id(), account_id=account)
        await client.insist("clear", ledger.CancelAllOrders, request)
        listed = execution_pb2.ListReservationsRequest(account_id=account, page_size=5_000)
        held = (await client.insist("list", ledger.ListReservations, listed)).response.reservations
        if held:
            back = execution_pb2.ReleaseReservationsRequest(
                request_id=client.new_id(), account_id=account, reservation_ids=[one.reservation_id for one in held]
            )
            await client.insist("release", ledger.ReleaseReservations, back)
        read = execution_pb2.GetAccountRequest(account_id=account)
        found = (await client.insist("look", ledger.GetAccount, read)).response.account
        return int(found.open_orders) + int(found.reservations)
