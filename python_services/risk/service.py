"""The risk servicer: translates messages; decisions are made in logic.py, ladder.py and measures.py."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator

from google.protobuf.message import Message

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from alphamesh.risk.v1 import events_pb2, risk_pb2, risk_pb2_grpc
from alphamesh.type.v1 import trading_pb2
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import aborted, not_found, precondition
from python_services.kit.ids import request_id
from python_services.kit.journal import Event, Journal
from python_services.kit.ledger_view import AccountView, LedgerView, follow_ledger
from python_services.kit.snapshots import SnapshotClient
from python_services.kit.views import Follower

from . import analysis, holdings, ladder, logic, measures, policy, scenarios
from .config import Config
from .ladder import Cause, Wanted
from .reporting import Reporter, Valuations
from .state import AccountRisk, RiskState
from .stress import Stress
from .windows import replayed


class Risk(risk_pb2_grpc.RiskServiceServicer):
    """RiskService over a view of the ledger. One account is judged by one call at a time."""

    def __init__(
        self,
        context: Context[Config],
        view: LedgerView,
        follower: Follower,
        snapshots: SnapshotClient,
        execution: execution_pb2_grpc.ExecutionServiceAsyncStub,
        journal: Journal,
        stress: Stress,
        valuations: Valuations,
    ) -> None:
        self._config = context.config
        self._view = view
        self._follower = follower
        self._snapshots = snapshots
        self._execution = execution
        self._journal = journal
        self._stress = stress
        self._state = RiskState(context.config.limits)
        self._state.recover(journal)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._reporter = Reporter(
            context, view, follower, valuations, snapshots, stress, journal, self._state, self._decide
        )
        context.spawn(self._reporter.run(), "reports")

    async def SetLimits(self, request: risk_pb2.SetLimitsRequest, context: object) -> risk_pb2.SetLimitsResponse:
        """New limits; in force with the next policy."""
        policy.from_message(request.limits)
        account = self._view.accounts.get(request.account_id)
        currency = request.limits.order_minimum.currency_code
        if account is not None:
            _same_currency(currency, account)
        event = events_pb2.LimitsSet(account_id=request.account_id, limits=request.limits)
        self._add(event, request.ts_event_ns, causation_id=request.request_id)
        response = risk_pb2.SetLimitsResponse(etag=self._state.account(request.account_id).etag)
        await self._journal.commit(response)
        return response

    async def GetLimits(self, request: risk_pb2.GetLimitsRequest, context: object) -> risk_pb2.GetLimitsResponse:
        """Limits and state that are durable; the defaults for an account of the ledger without its own."""
        await self._journal.barrier()
        account = self._view.accounts.get(request.account_id)
        own = self._state.accounts.get(request.account_id)
        if own is None or not own.currency:
            if account is None:
                raise not_found("account", request.account_id, "open it in execution, or call SetLimits")
            own = own or AccountRisk(limits=self._config.limits)
        currency = own.currency or (account.currency if account is not None else "")
        return risk_pb2.GetLimitsResponse(
            limits=policy.to_message(own.limits, currency),
            trading_state=trading_pb2.TradingState.ValueType(own.wanted.state),
            policy_version=max(own.pushed_version, account.policy_version if account is not None else 0),
            etag=own.etag,
        )

    async def AssessPortfolio(
        self, request: risk_pb2.AssessPortfolioRequest, context: object
    ) -> risk_pb2.AssessPortfolioResponse:
        """Judges a portfolio, pushes the policy to the gate, then answers."""
        snapshot = await self._snapshots.get(request.snapshot_id)
        async with self._locks[request.account_id]:
            own = self._state.account(request.account_id)
            # A call that ran out of time after its push must find that push when it is repeated.
            await self._follower.wait_for(max(request.min_seq, own.pushed_seq))
            account = self._view.account(request.account_id)
            rests_on = account.seq
            if own.currency:
                _same_currency(own.currency, account)
            limits = own.limits
            proposed = dict(zip(request.instrument_ids, request.target_quantity_e9, strict=True))
            rows = holdings.rows(holdings.hold(account, proposed), snapshot, self._view.instruments, proposed)
            book = rows.book
            targets = rows.lots(
                (proposed.get(name, account.quantity_e9(name)) for name in book.names), "target_quantity_e9"
            )
            losses = ladder.losses(
                book.equity,
                account.day_start_equity_e9,
                account.peak_equity_e9,
                limits.daily_loss_bps,
                limits.drawdown_bps,
            )
            wanted = ladder.step(own.wanted, losses, snapshot.as_of_ns)
            history = measures.panel(
                holdings.columns(snapshot.close, snapshot, book.names),
                self._config.minimum_history_bars,
                self._config.var_decay,
                whole=not rows.foreign,
            )
            verdict = logic.assess(
                book,
                targets,
                limits,
                history,
                max(wanted.state, account.operator_state),
                self._stress.moves(book.names, snapshot.as_of_ns),
            )
            carried = verdict.carried
            pushed = await self._push(
                account,
                own,
                policy.policy(
                    account,
                    limits,
                    book.equity,
                    wanted.state,
                    self._next_version(account, own),
                    snapshot.as_of_ns,
                    None if carried is None else math.ceil(carried.value_at_risk * book.equity),
                ),
                after_seq=request.min_seq,
            )
            approved = {
                name: lots * increment
                for name, lots, increment in zip(book.names, verdict.approved.tolist(), rows.increments, strict=True)
            }
            assessment = policy.assessment(
                request, request_id("assessment", request.request_id), verdict, losses, pushed, approved
            )
            moved = self._request_state(request.account_id, own, wanted, request.request_id, request.decision_id)
            self._add(
                events_pb2.PortfolioAssessed(account_id=request.account_id, assessment=assessment, ledger_seq=rests_on),
                snapshot.as_of_ns,
                causation_id=request.request_id,
                correlation_id=request.decision_id,
            )
            seq = max(request.min_seq, rests_on)
            response = risk_pb2.AssessPortfolioResponse(assessment=assessment, applied_seq=seq)
            if moved:
                # Unlike the assessment, a step of the ladder that is lost might not be found again.
                await self._journal.commit(response)
            else:
                self._journal.commit_later(response)
            self._reporter.urge()
            return response

    async def SetTradingState(
        self, request: risk_pb2.SetTradingStateRequest, context: object
    ) -> risk_pb2.SetTradingStateResponse:
        """The operator's word: into the policy and, as execution's own state, to what acts on entering it."""
        async with self._locks[request.account_id]:
            own = self._state.account(request.account_id)
            if request.etag and request.etag != own.etag:
                raise aborted(
                    "ETAG_MISMATCH",
                    f"account {request.account_id} has etag {own.etag!r}, not {request.etag!r}; read GetLimits again",
                    etag=own.etag,
                )
            ledger = await self._execution.GetAccount(execution_pb2.GetAccountRequest(account_id=request.account_id))
            await self._follower.wait_for(ledger.applied_seq)
            account = self._view.account(request.account_id)
            version = account.policy_version
            if account.policy is not None and account.policy.trading_state != request.trading_state:
                changed = execution_pb2.RiskPolicy()
                changed.CopyFrom(account.policy)
                changed.trading_state = request.trading_state
                changed.version = self._next_version(account, own)
                version = await self._push(account, own, changed, after_seq=account.policy_seq)
            if account.operator_state != request.trading_state:
                await self._execution.SetTradingState(
                    execution_pb2.SetTradingStateRequest(
                        request_id=request_id("risk-state", request.request_id),
                        account_id=request.account_id,
                        trading_state=request.trading_state,
                        reason=request.reason,
                    )
                )
            wanted = Wanted(
                state=request.trading_state, cause=Cause.OPERATOR, reason=request.reason, ts_ns=account.ts_ns
            )
            self._request_state(request.account_id, own, wanted, request.request_id, "")
            response = risk_pb2.SetTradingStateResponse(trading_state=request.trading_state, policy_version=version)
            await self._journal.commit(response)
            return response

    async def GetRiskReport(
        self, request: risk_pb2.GetRiskReportRequest, context: object
    ) -> risk_pb2.GetRiskReportResponse:
        """See reporting.py."""
        return await self._reporter.get(request)

    async def WatchRiskReports(
        self, request: risk_pb2.WatchRiskReportsRequest, context: object
    ) -> AsyncIterator[risk_pb2.WatchRiskReportsResponse]:
        """See reporting.py."""
        async for response in self._reporter.watch(request):
            yield response

    async def BacktestValueAtRisk(
        self, request: risk_pb2.BacktestValueAtRiskRequest, context: object
    ) -> risk_pb2.BacktestValueAtRiskResponse:
        """See reporting.py."""
        return await self._reporter.backtest(request)

    def _next_version(self, account: AccountView, own: AccountRisk) -> int:
        return max(account.policy_version, own.pushed_version) + 1

    async def _push(
        self, account: AccountView, own: AccountRisk, wanted: execution_pb2.RiskPolicy, *, after_seq: int
    ) -> int:
        """Puts the policy in force and returns its version. Raises what ApplyRiskPolicy raises.

        A call that was cut short after its push finds its policy in the ledger and does not push again.
        """
        if account.policy is not None and account.policy_seq > after_seq:
            same = execution_pb2.RiskPolicy()
            same.CopyFrom(wanted)
            same.version = account.policy_version
            if same == account.policy:
                own.pushed_version = account.policy_version
                return account.policy_version
        applied = await self._execution.ApplyRiskPolicy(
            execution_pb2.ApplyRiskPolicyRequest(
                request_id=request_id("risk", account.account_id, wanted.version),
                account_id=account.account_id,
                policy=wanted,
            )
        )
        own.pushed_version, own.pushed_seq = wanted.version, applied.applied_seq
        return wanted.version

    def _request_state(
        self, account_id: str, own: AccountRisk, wanted: Wanted, causation_id: str, correlation_id: str
    ) -> bool:
        """Records the state wanted; whether it is another one."""
        if wanted == own.wanted:
            return False
        event = events_pb2.TradingStateRequested(
            account_id=account_id,
            trading_state=trading_pb2.TradingState.ValueType(wanted.state),
            reason=wanted.reason,
            cause=events_pb2.TradingStateRequested.Cause.ValueType(wanted.cause),
        )
        self._add(event, wanted.ts_ns, causation_id=causation_id, correlation_id=correlation_id)
        return True

    def _add(self, payload: Message, ts_ns: int, *, causation_id: str, correlation_id: str = "") -> None:
        """Decides one event, and applies it as a restart would."""
        event = Event(
            payload=payload,
            ts_event_ns=ts_ns,
            ts_init_ns=ts_ns,
            causation_id=causation_id,
            correlation_id=correlation_id,
        )
        self._decide(event)

    def _decide(self, event: Event) -> None:
        """Adds one event, and applies it."""
        for envelope in self._journal.add([event]):
            self._state.apply(envelope)


def _same_currency(currency: str, account: AccountView) -> None:
    if currency != account.currency:
        raise precondition(
            "CURRENCY_MISMATCH",
            f"limits.order_minimum is in {currency}, account {account.account_id} in {account.currency}; use that",
        )


async def build(context: Context[Config]) -> None:
    """Makes every kernel ready, reads the scenarios, follows the ledger, recovers limits and states."""
    logic.warm()
    analysis.warm()
    listed = scenarios.load(context.config.report.stress)
    market_data = context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    snapshots = SnapshotClient.of(context)
    valuations = Valuations()
    view, follower = await follow_ledger(context, snapshots, valuations.valued)
    scenarios.check_instruments(listed, view.instruments, context.config.report.stress)
    stress = Stress(
        listed,
        await replayed(market_data, listed, view.instruments),
        {name: instrument.sector for name, instrument in view.instruments.items()},
    )
    servicer = Risk(
        context,
        view,
        follower,
        snapshots,
        context.stub(execution_pb2_grpc.ExecutionServiceStub, "execution"),
        context.open_journal(),
        stress,
        valuations,
    )
    context.add(risk_pb2_grpc.add_RiskServiceServicer_to_server, servicer, "alphamesh.risk.v1.RiskService")


DEFINITION = ServiceDefinition(name="risk", version="0.1.0", config=Config, build=build)
