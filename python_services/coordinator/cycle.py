"""One decision cycle: market -> snapshot -> forecasts -> aggregate -> portfolio -> risk -> record -> orders.

Every step carries a request_id made from the decision, so a cycle that was interrupted is simply run
again: the services answer what they answered before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np

from alphamesh.agent.v1 import agent_pb2
from alphamesh.decision.v1 import decision_pb2, events_pb2
from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.portfolio.v1 import portfolio_pb2
from alphamesh.risk.v1 import risk_pb2
from alphamesh.type.v1 import money_pb2, trading_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit import tracing
from python_services.kit.breaker import BreakerOpenError
from python_services.kit.client import persist
from python_services.kit.ids import request_id
from python_services.kit.journal import Event, Journal

from . import aggregate
from .actions import act
from .clients import Clients
from .config import Config
from .plan import planned_changes
from .translate import combined_forecast, estimate, fill_signal, mandate

D = decision_pb2.Decision


@dataclass
class Steps:
    """How long each step took: measured for people, never part of an event."""

    elapsed_ns: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """Times the block, which is a span of the decision's trace too."""
        with self.timed(name), tracing.step(name):
            yield

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Times the block."""
        started = time.perf_counter_ns()
        try:
            yield
        finally:
            self.elapsed_ns[name] = time.perf_counter_ns() - started


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a cycle leads to."""

    decision: decision_pb2.Decision
    equity: money_pb2.Money
    steps: Steps


class Cycle:
    """Runs the cycles of one session."""

    def __init__(
        self,
        config: Config,
        clients: Clients,
        journal: Journal,
        session: decision_pb2.Session,
    ) -> None:
        self._config = config
        self._clients = clients
        self._journal = journal
        self._session = session
        self._spec = session.spec

    async def run(
        self, number: int, close_ns: int, previous_ns: int | None, recorded: decision_pb2.Decision | None
    ) -> Outcome:
        """Decides at `close_ns`. `recorded` is the decision if an interrupted run recorded it already.

        `previous_ns`: the close before, after which corporate actions are due; None for the first cycle.
        """
        decision_id = f"{self._session.session_id}-{number:04d}"
        facts: dict[str, str | int] = {"alphamesh.session_id": self._session.session_id, "alphamesh.cycle": number}
        with tracing.decision(decision_id, facts):
            outcome = await self._run(decision_id, number, close_ns, previous_ns, recorded)
            facts["alphamesh.snapshot_id"] = outcome.decision.snapshot_id
            facts["alphamesh.outcome"] = D.Outcome.Name(outcome.decision.outcome).removeprefix("OUTCOME_")
        return outcome

    async def _run(
        self,
        decision_id: str,
        number: int,
        close_ns: int,
        previous_ns: int | None,
        recorded: decision_pb2.Decision | None,
    ) -> Outcome:
        steps = Steps()
        with steps.timed("cycle"):
            snapshot, sync, answers = await self._observe(decision_id, close_ns, previous_ns, steps)
            decision = recorded
            if decision is None:
                decision = decision_pb2.Decision(
                    decision_id=decision_id,
                    session_id=self._session.session_id,
                    cycle=number,
                    as_of_ns=close_ns,
                    account_id=self._spec.account_id,
                    snapshot_id=snapshot.snapshot_id,
                    instrument_ids=snapshot.instrument_ids,
                    ledger_seq=sync.applied_seq,
                )
                await self._decide(decision, answers, steps)
                async with steps.step("record"):
                    event = Event(
                        payload=events_pb2.DecisionMade(decision=decision),
                        ts_event_ns=close_ns,
                        ts_init_ns=close_ns,
                        correlation_id=decision_id,
                    )
                    self._journal.add([event])
                    await self._journal.commit()
            async with steps.step("submit"):
                await self._submit(decision)
        return Outcome(decision=decision, equity=sync.account.equity, steps=steps)

    async def _observe(
        self, decision_id: str, close_ns: int, previous_ns: int | None, steps: Steps
    ) -> tuple[
        marketdata_pb2.SnapshotHeader,
        execution_pb2.SyncMarketResponse,
        dict[str, agent_pb2.ComputeForecastsResponse | str],
    ]:
        patience = self._config.step_retry_s

        async def advance() -> venue_pb2.AdvanceMarketResponse:
            if previous_ns is not None:
                async with steps.step("corporate_actions"):
                    await act(
                        self._clients,
                        decision_id,
                        self._spec,
                        previous_ns=previous_ns,
                        close_ns=close_ns,
                        patience_s=patience,
                    )
            request = venue_pb2.AdvanceMarketRequest(
                request_id=request_id(decision_id, "advance"),
                to_ns=close_ns,
                instrument_ids=self._spec.instrument_ids,
            )
            async with steps.step("advance_market"):
                return await persist(lambda: self._clients.market.AdvanceMarket(request), patience)

        async def cut() -> marketdata_pb2.SnapshotHeader:
            request = marketdata_pb2.CutSnapshotRequest(
                request_id=request_id(decision_id, "snapshot"),
                as_of_ns=close_ns,
                instrument_ids=self._spec.instrument_ids,
                lookback_bars=self._spec.lookback_bars,
            )
            async with steps.step("snapshot"):
                return (await persist(lambda: self._clients.market_data.CutSnapshot(request), patience)).header

        advanced, snapshot = await asyncio.gather(advance(), cut())

        async def sync() -> execution_pb2.SyncMarketResponse:
            request = execution_pb2.SyncMarketRequest(
                request_id=request_id(decision_id, "sync"),
                account_id=self._spec.account_id,
                snapshot_id=snapshot.snapshot_id,
                min_venue_seq=advanced.last_seq,
                decision_id=decision_id,
            )
            async with steps.step("sync_market"):
                return await persist(lambda: self._clients.execution.SyncMarket(request), patience)

        async def forecast() -> dict[str, agent_pb2.ComputeForecastsResponse | str]:
            async with steps.step("forecast"):
                names = list(self._clients.agents)
                answers = await asyncio.gather(*(self._ask(name, decision_id, snapshot.snapshot_id) for name in names))
                return dict(zip(names, answers, strict=True))

        synced, answers = await asyncio.gather(sync(), forecast())
        return snapshot, synced, answers

    async def _ask(self, service: str, decision_id: str, snapshot_id: str) -> agent_pb2.ComputeForecastsResponse | str:
        """The answer of an agent service, or why there is none: an agent never stops the cycle.

        One that is away is asked again until the deadline: a restart within it costs no vote. One that stayed away
        for several decisions is not waited for any more, until a trial finds it back.
        """
        request = agent_pb2.ComputeForecastsRequest(decision_id=decision_id, snapshot_id=snapshot_id)
        patience = self._spec.forecast_timeout_ns / 1e9
        compute = self._clients.agents[service].ComputeForecasts

        async def ask() -> agent_pb2.ComputeForecastsResponse:
            async with asyncio.timeout(patience):
                return await persist(lambda: compute(request, timeout=patience), patience)

        try:
            response = await self._clients.breakers[service].call(ask)
        except TimeoutError:
            return f"DEADLINE_EXCEEDED: no answer within {patience:g} s"
        except BreakerOpenError as error:
            return f"{error.reason}: {error.message}"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        if response.snapshot_id != snapshot_id or response.data_sha256 != snapshot_id:
            return f"refused: it read snapshot {response.snapshot_id} with hash {response.data_sha256}"
        return response

    async def _decide(
        self,
        decision: decision_pb2.Decision,
        answers: Mapping[str, agent_pb2.ComputeForecastsResponse | str],
        steps: Steps,
    ) -> None:
        estimates = []
        async with steps.step("aggregate"):
            for service, answer in answers.items():
                if isinstance(answer, str):
                    decision.missing.add(service=service, reason=answer)
                    continue
                for forecast in answer.forecasts:
                    fill_signal(decision.signals.add(), forecast, decision.instrument_ids)
                    if forecast.HasField("estimates"):
                        estimates.append(estimate(forecast))
            combined = aggregate.combine(estimates, len(decision.instrument_ids), self._config.horizon_bars)
        if len(decision.signals) < self._spec.quorum:
            decision.outcome = D.OUTCOME_HOLD_NO_QUORUM
            decision.explanation = (
                f"{len(decision.signals)} agents answered, the quorum is {self._spec.quorum}: positions are held"
            )
            return
        self._fill_aggregate(decision.aggregate, combined)
        async with steps.step("portfolio"):
            proposal = await self._propose(decision, combined)
        async with steps.step("risk"):
            assessment = await self._assess(decision, proposal)
        self._plan(decision, proposal, assessment)

    def _fill_aggregate(self, message: decision_pb2.Aggregate, combined: aggregate.Combined) -> None:
        message.method = aggregate.METHOD
        message.instrument_index.extend(combined.instrument_index.tolist())
        message.expected_return.extend(combined.expected_return.tolist())
        message.volatility.extend(combined.volatility.tolist())
        message.confidence.extend(combined.confidence.tolist())
        message.agent_id.extend(combined.agent_ids)
        message.contribution.extend(np.ravel(combined.contribution).tolist())
        message.horizon_bars = self._config.horizon_bars

    async def _propose(self, decision: decision_pb2.Decision, combined: aggregate.Combined) -> portfolio_pb2.Proposal:
        request = portfolio_pb2.ProposeTargetsRequest(
            request_id=request_id(decision.decision_id, "portfolio"),
            decision_id=decision.decision_id,
            account_id=decision.account_id,
            snapshot_id=decision.snapshot_id,
            min_seq=decision.ledger_seq,
            mandate=mandate(self._spec.mandate),
            forecast=combined_forecast(combined, self._config.horizon_bars),
        )
        response = await persist(lambda: self._clients.portfolio.ProposeTargets(request), self._config.step_retry_s)
        proposal = response.proposal
        message = decision.portfolio
        message.target_id, message.turnover, message.solver = proposal.target_id, proposal.turnover, proposal.solver
        for target in proposal.targets:
            message.current_weight.append(target.current_weight)
            message.target_weight.append(target.target_weight)
            message.current_quantity_e9.append(target.current_quantity_e9)
            message.target_quantity_e9.append(target.target_quantity_e9)
        return proposal

    async def _assess(self, decision: decision_pb2.Decision, proposal: portfolio_pb2.Proposal) -> risk_pb2.Assessment:
        request = risk_pb2.AssessPortfolioRequest(
            request_id=request_id(decision.decision_id, "risk"),
            decision_id=decision.decision_id,
            account_id=decision.account_id,
            snapshot_id=decision.snapshot_id,
            min_seq=decision.ledger_seq,
            instrument_ids=[target.instrument_id for target in proposal.targets],
            target_quantity_e9=[target.target_quantity_e9 for target in proposal.targets],
        )
        response = await persist(lambda: self._clients.risk.AssessPortfolio(request), self._config.step_retry_s)
        assessment = response.assessment
        verdict = risk_pb2.Assessment.Verdict.Name(assessment.verdict).removeprefix("VERDICT_")
        decision.risk.assessment_id, decision.risk.verdict = assessment.assessment_id, verdict
        decision.risk.scale, decision.risk.policy_version = assessment.scale, assessment.policy_version
        for use in assessment.limit_uses:
            if use.violated:
                decision.risk.violations.append(f"{use.limit}: {use.used_bps:.1f} of {use.limit_bps:.1f} bps")
        return assessment

    def _plan(
        self, decision: decision_pb2.Decision, proposal: portfolio_pb2.Proposal, assessment: risk_pb2.Assessment
    ) -> None:
        changes = planned_changes(
            [target.instrument_id for target in proposal.targets],
            [target.current_quantity_e9 for target in proposal.targets],
            assessment.approved_quantity_e9,
        )
        for instrument_id, quantity_e9 in changes:
            decision.orders.add(
                client_order_id=f"{decision.decision_id}-{instrument_id}",
                instrument_id=instrument_id,
                side=trading_pb2.SIDE_BUY if quantity_e9 > 0 else trading_pb2.SIDE_SELL,
                quantity_e9=abs(quantity_e9),
            )
        verdict = decision.risk.verdict.lower()
        if decision.orders:
            decision.outcome = D.OUTCOME_TRADE
            decision.explanation = f"{len(decision.orders)} orders towards {proposal.target_id}; risk: {verdict}"
        elif assessment.verdict == risk_pb2.Assessment.VERDICT_REJECTED:
            decision.outcome = D.OUTCOME_HOLD_RISK
            decision.explanation = "risk rejected the portfolio and nothing reduces it: positions are held"
        else:
            decision.outcome = D.OUTCOME_NO_TRADE
            decision.explanation = "holdings are at their targets, or every trade is below the minimum"

    async def _submit(self, decision: decision_pb2.Decision) -> None:
        if not decision.orders:
            return
        request = execution_pb2.SubmitOrdersRequest(
            request_id=request_id(decision.decision_id, "submit"),
            account_id=decision.account_id,
            basket_mode=execution_pb2.BASKET_MODE_AS_MUCH_AS_FITS,
            orders=_order_specs(decision),
        )
        await persist(lambda: self._clients.execution.SubmitOrders(request), self._config.step_retry_s)


def _order_specs(decision: decision_pb2.Decision) -> Sequence[order_pb2.OrderSpec]:
    return [
        order_pb2.OrderSpec(
            client_order_id=planned.client_order_id,
            instrument_id=planned.instrument_id,
            side=planned.side,
            order_type=trading_pb2.ORDER_TYPE_MARKET,
            time_in_force=trading_pb2.TIME_IN_FORCE_DAY,
            quantity_e9=planned.quantity_e9,
            decision_id=decision.decision_id,
        )
        for planned in decision.orders
    ]
