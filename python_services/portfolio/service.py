"""The portfolio servicer: translates messages; decisions are made in logic.py and performance.py."""

from __future__ import annotations

import numpy as np

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.portfolio.v1 import events_pb2, portfolio_pb2, portfolio_pb2_grpc
from python_services.kit import convert
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.currency import Rate
from python_services.kit.errors import invalid, precondition
from python_services.kit.ids import request_id
from python_services.kit.journal import Event, Journal
from python_services.kit.ledger_view import AccountView, LedgerView, follow_ledger
from python_services.kit.snapshots import Snapshot, SnapshotClient
from python_services.kit.views import Follower

from . import logic, performance
from .allocation import Mandate, Method
from .config import Config

METHODS: dict[int, Method] = {
    portfolio_pb2.METHOD_MEAN_VARIANCE: "mean_variance",
    portfolio_pb2.METHOD_RISK_PARITY: "risk_parity",
}

NOTHING = Rate(0, 1)  # of a currency without a rate


class Portfolio(portfolio_pb2_grpc.PortfolioServiceServicer):
    """PortfolioService over a view of the ledger."""

    def __init__(
        self, config: Config, view: LedgerView, follower: Follower, snapshots: SnapshotClient, journal: Journal
    ) -> None:
        self._config = config
        self._view = view
        self._follower = follower
        self._snapshots = snapshots
        self._journal = journal
        self._estimates = logic.Estimates(
            covariance=config.covariance,
            ewma_decay=config.ewma_decay,
            minimum_history=config.minimum_history_bars,
            cash_buffer=config.cash_buffer_bps / 10_000,
        )

    async def ProposeTargets(
        self, request: portfolio_pb2.ProposeTargetsRequest, context: object
    ) -> portfolio_pb2.ProposeTargetsResponse:
        """Targets from forecasts, on the ledger's state at min_seq."""
        snapshot = await self._snapshots.get(request.snapshot_id)
        await self._follower.wait_for(request.min_seq)
        account = self._view.account(request.account_id)
        mandate = _mandate(request.mandate, account.currency)
        book, increments = self._book(account, snapshot)
        plan = logic.plan(snapshot.close, book, _forecast(request.forecast, len(book.names)), mandate, self._estimates)
        targets = [
            portfolio_pb2.Target(
                instrument_id=name,
                current_weight=now,
                target_weight=then,
                current_quantity_e9=held * increment,
                target_quantity_e9=convert.from_steps(lots, increment, "target_quantity_e9"),
            )
            for name, now, then, held, lots, increment in zip(
                book.names,
                book.weights.tolist(),
                plan.weights.tolist(),
                book.held.tolist(),
                plan.lots.tolist(),
                increments,
                strict=True,
            )
        ]
        proposal = portfolio_pb2.Proposal(
            target_id=request_id("target", request.request_id),
            decision_id=request.decision_id,
            method=request.mandate.method,
            targets=targets,
            turnover=plan.turnover,
            expected_cost=plan.cost,
            expected_return=plan.expected_return,
            expected_volatility=plan.expected_volatility,
            solver=plan.solver,
            equity=convert.money(book.equity, account.currency),
        )
        self._journal.add(
            [
                Event(
                    payload=events_pb2.TargetsProposed(
                        account_id=request.account_id, proposal=proposal, ledger_seq=account.seq
                    ),
                    ts_event_ns=snapshot.as_of_ns,
                    ts_init_ns=snapshot.as_of_ns,
                    correlation_id=request.decision_id,
                    causation_id=request.request_id,
                )
            ]
        )
        # Not the view's newest: later events that do not touch the account must not show in an answer.
        seq = max(request.min_seq, account.seq)
        response = portfolio_pb2.ProposeTargetsResponse(proposal=proposal, applied_seq=seq)
        self._journal.commit_later(response)
        return response

    async def GetPerformance(
        self, request: portfolio_pb2.GetPerformanceRequest, context: object
    ) -> portfolio_pb2.GetPerformanceResponse:
        """How the account has done, from the ledger's events."""
        await self._follower.wait_for(request.min_seq)
        account = self._view.account(request.account_id)
        traded_e9 = self._view.traded_notional_e9(account)
        answer = portfolio_pb2.Performance(
            account_id=account.account_id,
            initial_equity=convert.money(account.initial_cash_e9, account.currency),
            fees=convert.money(self._view.fees_e9(account), account.currency),
            traded_notional=convert.money(traded_e9, account.currency),
            valued_at_ns=account.valued_at_ns,
            equity_e9=account.equity_e9,
            fills=account.fills,
        )
        if account.equity_e9:
            equity = account.equity_e9[-1]
            answer.equity.CopyFrom(convert.money(equity, account.currency))
            answer.pnl.CopyFrom(convert.money(equity - account.initial_cash_e9, account.currency))
        figures = performance.figures(account.equity_e9, traded_e9, self._config.periods_per_year)
        for name, value in figures.items():
            setattr(answer, name, value)
        return portfolio_pb2.GetPerformanceResponse(performance=answer, applied_seq=self._follower.applied_seq)

    def _book(self, account: AccountView, snapshot: Snapshot) -> tuple[logic.Book, list[int]]:
        """Holdings in lots at the snapshot's marks, and the lot of each row; values in the account's currency.

        An instrument of a currency without a rate has no value: it is held as it is. What is bought in another
        currency is owed in it, so returns are those of prices in their own currency.
        """
        instruments = [self._instrument(name) for name in snapshot.instrument_ids]
        marks = snapshot.marks()
        rates = {
            currency: self._view.pairs.rate(currency, account.currency, marks) or NOTHING
            for currency in {instrument.currency_code for instrument in instruments}
        }
        equity = self._view.equity_at(account, marks)
        if equity <= 0:
            raise precondition(
                "EQUITY_NOT_POSITIVE",
                f"account {account.account_id} has equity {convert.decimal(equity)}; weights have no meaning, add cash",
                account_id=account.account_id,
            )
        increments = [instrument.size_increment_e9 for instrument in instruments]
        book = logic.Book(
            names=snapshot.instrument_ids,
            held=np.array(
                [
                    convert.to_steps(account.quantity_e9(name), increment, f"position {name}")
                    for name, increment in zip(snapshot.instrument_ids, increments, strict=True)
                ],
                dtype=np.int64,
            ),
            lot_values=np.array(
                [
                    rates[instrument.currency_code].worth(
                        convert.notional_e9(mark, instrument.size_increment_e9, instrument.multiplier_e9)
                    )
                    for mark, instrument in zip(snapshot.marks_e9, instruments, strict=True)
                ],
                dtype=np.int64,
            ),
            equity=equity,
            elsewhere=sum(
                self._view.rate(account, self._view.pairs.currency_of[name], marks).worth(
                    self._view.notional_e9(name, account.marks_e9.get(name, 0), holding.quantity_e9)
                )
                for name, holding in account.holdings.items()
                if not marks.get(name)
            ),
        )
        return book, increments

    def _instrument(self, name: str) -> marketdata_pb2.Instrument:
        try:
            return self._view.instruments[name]
        except KeyError:
            raise precondition(
                "INSTRUMENT_UNKNOWN",
                f"instrument {name} was not known when this service started; restart it",
                instrument_id=name,
            ) from None


def _mandate(message: portfolio_pb2.Mandate, currency: str) -> Mandate:
    if message.minimum_trade.currency_code != currency:
        raise precondition(
            "CURRENCY_MISMATCH",
            f"mandate.minimum_trade is in {message.minimum_trade.currency_code}; the account is in {currency}",
        )
    minimum = convert.money_e9(message.minimum_trade)
    if minimum < 0:
        raise invalid("mandate.minimum_trade", "is below zero", "use zero to trade any size")
    return Mandate(
        method=METHODS[message.method],
        risk_aversion=message.risk_aversion,
        maximum_weight=message.maximum_weight,
        maximum_gross=message.maximum_gross,
        short_allowed=message.short_allowed,
        cost_per_notional=message.cost_per_notional,
        maximum_turnover=message.maximum_turnover,
        minimum_trade_e9=minimum,
    )


def _forecast(message: portfolio_pb2.CombinedForecast, rows: int) -> logic.Forecast:
    index = list(message.instrument_index)
    if index and max(index) >= rows:
        raise invalid("forecast.instrument_index", f"{max(index)} is no row of the snapshot", f"use 0 to {rows - 1}")
    if len(set(index)) != len(index):
        raise invalid("forecast.instrument_index", "names a row twice", "combine the forecasts of a row first")
    return logic.Forecast(
        rows=np.array(index, dtype=np.intp),
        expected=np.array(message.expected_return, dtype=np.float64),
        confidence=np.array(message.confidence, dtype=np.float64),
        horizon=message.horizon_bars,
    )


async def build(context: Context[Config]) -> None:
    """Makes every kernel ready, follows the ledger and registers the service."""
    logic.warm()
    market_data = context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    snapshots = SnapshotClient(market_data, context.snapshots)
    view, follower = await follow_ledger(context, snapshots)
    servicer = Portfolio(context.config, view, follower, snapshots, context.open_journal())
    context.add(
        portfolio_pb2_grpc.add_PortfolioServiceServicer_to_server,
        servicer,
        "alphamesh.portfolio.v1.PortfolioService",
    )


DEFINITION = ServiceDefinition(name="portfolio", version="0.1.0", config=Config, build=build)
