"""One decision cycle: market -> snapshot -> forecasts -> aggregate -> portfolio -> risk -> record -> orders.

Every step carries a request_id made from the decision, so a cycle that was interrupted is simply run
again: the services answer what they answered before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

import grpc

from alphamesh.decision.v1 import decision_pb2, events_pb2
from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.portfolio.v1 import portfolio_pb2
from alphamesh.risk.v1 import risk_pb2
from alphamesh.type.v1 import money_pb2, trading_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit import telemetry, tracing
from python_services.kit.client import persist
from python_services.kit.errors import is_away
from python_services.kit.ids import request_id
from python_services.kit.journal import Event, Journal
from python_services.kit.snapshots import SnapshotClient

from . import aggregate, rules
from .actions import act
from .answers import Missing, Said
from .clients import Clients
from .config import Config
from .deliberation import View, deliberate, learn
from .fanout import Fanout, Late, Question
from .memory import Memory
from .plan import planned_changes
from .translate import combined_forecast, mandate

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
        memory: Memory,
    ) -> None:
        self._config = config
        self._clients = clients
        self._journal = journal
        self._session = session
        self._spec = session.spec
        self._memory = memory
        self._fanout = Fanout(clients, session.spec.policy, self._record_late)
        self._snapshots = SnapshotClient(clients.market_data)
        self._now_ns = session.spec.start_ns

    async def run(
        self, number: int, close_ns: int, previous_ns: int | None, recorded: decision_pb2.Decision | None
    ) -> Outcome:
        """Decides at `close_ns`. `recorded` is the decision if an interrupted run recorded it already.

        `previous_ns`: the close before, after which corporate actions are due; None for the first cycle.
        """
        self._now_ns = close_ns
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
            decision = recorded or decision_pb2.Decision(
                decision_id=decision_id,
                session_id=self._session.session_id,
                cycle=number,
                as_of_ns=close_ns,
                account_id=self._spec.account_id,
            )
            synced, answers = await self._observe(decision, previous_ns, steps, decided=recorded is not None)
            if recorded is None:
                decision.ledger_seq = synced.applied_seq
                await self._decide(decision, answers, steps)
            async with steps.step("submit"):
                await self._submit(decision)
        return Outcome(decision=decision, equity=synced.account.equity, steps=steps)

    async def _observe(
        self, decision: decision_pb2.Decision, previous_ns: int | None, steps: Steps, *, decided: bool
    ) -> tuple[execution_pb2.SyncMarketResponse, Mapping[str, Sequence[Said] | Missing]]:
        """The account, and the agents' answers; puts the snapshot and what it teaches into the decision.

        `decided`: an interrupted run made the decision already, so that nobody is asked.
        """
        patience, decision_id, close_ns = self._config.step_retry_s, decision.decision_id, decision.as_of_ns

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

        advanced, header = await asyncio.gather(advance(), cut())
        if not decided:
            decision.snapshot_id = header.snapshot_id
            decision.instrument_ids.extend(header.instrument_ids)

        async def sync() -> execution_pb2.SyncMarketResponse:
            request = execution_pb2.SyncMarketRequest(
                request_id=request_id(decision_id, "sync"),
                account_id=self._spec.account_id,
                snapshot_id=header.snapshot_id,
                min_venue_seq=advanced.last_seq,
                decision_id=decision_id,
            )
            async with steps.step("sync_market"):
                return await persist(lambda: self._clients.execution.SyncMarket(request), patience)

        async def forecast() -> dict[str, Sequence[Said] | Missing]:
            question = Question(
                decision_id=decision_id,
                snapshot_id=header.snapshot_id,
                instruments=len(header.instrument_ids),
            )
            async with steps.step("forecast"):
                return await self._fanout.ask(question)

        async def look_back() -> None:
            """While the agents think: the market's regime, and what became of earlier forecasts."""
            snapshot = await persist(lambda: self._snapshots.get(header.snapshot_id), patience)
            with steps.timed("score"):
                learn(decision, snapshot.close, self._memory)

        if decided:
            return await sync(), {}
        synced, answers, _ = await asyncio.gather(sync(), forecast(), look_back())
        return synced, answers

    async def _decide(
        self, decision: decision_pb2.Decision, answers: Mapping[str, Sequence[Said] | Missing], steps: Steps
    ) -> None:
        """Fills the decision, and makes it durable together with what it says about the agents."""
        policy, close_ns = self._spec.policy, decision.as_of_ns
        seen = self._memory.roster.news(self._listings())
        async with steps.step("aggregate"):
            memory = replace(self._memory)
            for registered in seen:
                memory.registered(registered, close_ns)
            view = deliberate(decision, answers, policy, memory, self._config.horizon_bars)
        if view.combined is None:
            decision.outcome = D.OUTCOME_HOLD_NO_QUORUM
            decision.explanation = f"{view.problem}: positions are held"
        else:
            await self._trade(decision, view, steps)
        async with steps.step("record"):
            self._memory.draft = view.draft
            roster = self._memory.roster  # a person may have changed it meanwhile
            for registered in seen:
                roster = roster.registered(registered, close_ns)
            changes = roster.decided(decision).judged(policy.lifecycle, view.draft.record, decision.decision_id)
            facts = [*seen, events_pb2.DecisionMade(decision=decision), *changes]
            self._journal.add(
                [
                    Event(payload=fact, ts_event_ns=close_ns, ts_init_ns=close_ns, correlation_id=decision.decision_id)
                    for fact in facts
                ]
            )
            await self._journal.commit()

    def _listings(self) -> dict[str, list[tuple[str, str, str]]]:
        return {
            service: [(name, kind, version) for name, (kind, version) in sorted(agents.items())]
            for service, agents in sorted(self._fanout.listings.items())
        }

    async def _trade(self, decision: decision_pb2.Decision, view: View, steps: Steps) -> None:
        assert view.combined is not None
        async with steps.step("portfolio"):
            proposal = await self._propose(decision, view.combined)
        targets = _within_vetoes(decision, proposal, view.forbidden)
        try:
            async with steps.step("risk"):
                assessment = await self._assess(decision, proposal, targets)
        except grpc.aio.AioRpcError as error:
            if not self._spec.policy.risk_view or not is_away(error, slow=True):
                raise
            self._hold_without_risk(decision, f"the risk service gave no verdict: {error.details()}")
            return
        if self._spec.policy.risk_view and not assessment.policy_version:
            self._hold_without_risk(decision, "the risk service has no policy in force")
            return
        self._plan(decision, proposal, assessment)

    @staticmethod
    def _hold_without_risk(decision: decision_pb2.Decision, why: str) -> None:
        decision.outcome = D.OUTCOME_HOLD_NO_RISK_VIEW
        decision.explanation = f"{why}: positions are held"

    async def _record_late(self, late: Late) -> None:
        """An answer after the deadline: recorded, and no part of any decision."""
        refused = isinstance(late.answer, Missing)
        event = events_pb2.AnswerLate(
            decision_id=late.decision_id,
            service=late.service,
            agent_ids=[] if isinstance(late.answer, Missing) else [said.estimate.agent_id for said in late.answer],
            result=late.answer.reason if isinstance(late.answer, Missing) else "ANSWERED",
        )
        telemetry.logger().warning("late answer", agents=late.service, decision=late.decision_id, refused=refused)
        now_ns = self._now_ns
        self._journal.add(
            [Event(payload=event, ts_event_ns=now_ns, ts_init_ns=now_ns, correlation_id=late.decision_id)]
        )
        await self._journal.commit()

    async def close(self) -> None:
        """Waits for no late answer any more."""
        await self._fanout.close()

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

    async def _assess(
        self, decision: decision_pb2.Decision, proposal: portfolio_pb2.Proposal, targets: Sequence[int]
    ) -> risk_pb2.Assessment:
        request = risk_pb2.AssessPortfolioRequest(
            request_id=request_id(decision.decision_id, "risk"),
            decision_id=decision.decision_id,
            account_id=decision.account_id,
            snapshot_id=decision.snapshot_id,
            min_seq=decision.ledger_seq,
            instrument_ids=[target.instrument_id for target in proposal.targets],
            target_quantity_e9=targets,
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


def _within_vetoes(
    decision: decision_pb2.Decision, proposal: portfolio_pb2.Proposal, forbidden: Mapping[int, rules.Mask]
) -> list[int]:
    """Target quantities without what a veto forbids, in the order of the proposal."""
    place = {name: row for row, name in enumerate(decision.instrument_ids)}
    return [
        rules.allowed(
            target.current_quantity_e9,
            target.target_quantity_e9,
            no_long=bool(forbidden[rules.LONG][place[target.instrument_id]]),
            no_short=bool(forbidden[rules.SHORT][place[target.instrument_id]]),
        )
        for target in proposal.targets
    ]


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
