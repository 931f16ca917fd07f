"""The portfolio servicer: translates messages; decisions are made in logic.py and performance.py."""

from __future__ import annotations

import numpy as np

from alphamesh.portfolio.v1 import events_pb2, portfolio_pb2, portfolio_pb2_grpc
from python_services.kit import convert
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import invalid, precondition
from python_services.kit.ids import request_id
from python_services.kit.journal import Event, Journal
from python_services.kit.ledger_view import LedgerView, follow_ledger
from python_services.kit.snapshots import SnapshotClient
from python_services.kit.views import Follower

from . import holdings, logic, performance
from .allocation import Mandate, Method
from .config import Config

METHODS: dict[int, Method] = {
    portfolio_pb2.METHOD_MEAN_VARIANCE: "mean_variance",
    portfolio_pb2.METHOD_RISK_PARITY: "risk_parity",
}


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
        self._listing: holdings.Listing | None = None  # of the last snapshot: nearly always the next one's, too
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
        if self._listing is None or self._listing.names != snapshot.instrument_ids:
            self._listing = holdings.Listing(snapshot.instrument_ids, self._view.instruments)
        book = holdings.book(self._view, account, snapshot, self._listing)
        plan = logic.plan(snapshot.close, book, _forecast(request.forecast, len(book.names)), mandate, self._estimates)
        at = np.flatnonzero((book.held != 0) | (plan.lots != 0))
        increments = [self._listing.increments[row] for row in at]
        proposal = portfolio_pb2.Proposal(
            target_id=request_id("target", request.request_id),
            decision_id=request.decision_id,
            method=request.mandate.method,
            instrument_index=at.tolist(),
            current_weight=book.weights[at].tolist(),
            target_weight=plan.weights[at].tolist(),
            current_quantity_e9=_quantities(book.held[at], increments, "current_quantity_e9"),
            target_quantity_e9=_quantities(plan.lots[at], increments, "target_quantity_e9"),
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
                        account_id=request.account_id,
                        proposal=proposal,
                        ledger_seq=account.seq,
                        snapshot_id=request.snapshot_id,
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


def _quantities(lots: logic.Lots, increments: list[int], field: str) -> list[int]:
    return [convert.from_steps(lot, step, field) for lot, step in zip(lots.tolist(), increments, strict=True)]


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
    index = np.array(message.instrument_index, dtype=np.intp)
    if index.size and index.max() >= rows:
        raise invalid("forecast.instrument_index", f"{index.max()} is no row of the snapshot", f"use 0 to {rows - 1}")
    if np.unique(index).size != index.size:
        raise invalid("forecast.instrument_index", "names a row twice", "combine the forecasts of a row first")
    return logic.Forecast(
        rows=index,
        expected=np.array(message.expected_return, dtype=np.float64),
        confidence=np.array(message.confidence, dtype=np.float64),
        horizon=message.horizon_bars,
    )


async def build(context: Context[Config]) -> None:
    """Makes every kernel ready, follows the ledger and registers the service."""
    logic.warm()
    snapshots = SnapshotClient.of(context)
    view, follower = await follow_ledger(context, snapshots)
    servicer = Portfolio(context.config, view, follower, snapshots, context.open_journal())
    context.add(
        portfolio_pb2_grpc.add_PortfolioServiceServicer_to_server,
        servicer,
        "alphamesh.portfolio.v1.PortfolioService",
    )


DEFINITION = ServiceDefinition(name="portfolio", version="0.1.0", config=Config, build=build)
