"""From the combined view to orders: portfolio, vetoes, risk, plan; submission once the decision is durable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc

from alphamesh.decision.v1 import decision_pb2
from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.portfolio.v1 import portfolio_pb2
from alphamesh.risk.v1 import risk_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.kit.client import persist
from python_services.kit.errors import is_away
from python_services.kit.ids import request_id

from . import aggregate, rules
from .clients import Clients
from .config import Config
from .deliberation import View
from .plan import planned_changes
from .steps import Steps
from .translate import combined_forecast, mandate

D = decision_pb2.Decision


class Desk:
    """Trades what the agents of one session agree on."""

    def __init__(self, config: Config, clients: Clients, spec: decision_pb2.SessionSpec) -> None:
        self._config = config
        self._clients = clients
        self._spec = spec

    async def trade(self, decision: decision_pb2.Decision, view: View, steps: Steps) -> None:
        """Targets, the verdict of risk and the planned orders, into `decision`; or why positions are held."""
        assert view.combined is not None
        async with steps.step("portfolio"):
            proposal = await self._propose(decision, view.combined)
        targets = _within_vetoes(proposal, view.forbidden)
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
        message.instrument_index.extend(proposal.instrument_index)
        message.current_weight.extend(proposal.current_weight)
        message.target_weight.extend(proposal.target_weight)
        message.current_quantity_e9.extend(proposal.current_quantity_e9)
        message.target_quantity_e9.extend(proposal.target_quantity_e9)
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
            instrument_ids=[decision.instrument_ids[row] for row in proposal.instrument_index],
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
            [decision.instrument_ids[row] for row in proposal.instrument_index],
            proposal.current_quantity_e9,
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

    async def submit(self, decision: decision_pb2.Decision) -> None:
        """The orders of a decision that is durable; each once, however often this is repeated."""
        if not decision.orders:
            return
        request = execution_pb2.SubmitOrdersRequest(
            request_id=request_id(decision.decision_id, "submit"),
            account_id=decision.account_id,
            basket_mode=execution_pb2.BASKET_MODE_AS_MUCH_AS_FITS,
            orders=_order_specs(decision),
        )
        await persist(lambda: self._clients.execution.SubmitOrders(request), self._config.step_retry_s)


def _within_vetoes(proposal: portfolio_pb2.Proposal, forbidden: Mapping[int, rules.Mask]) -> list[int]:
    """Target quantities without what a veto forbids, in the order of the proposal."""
    return [
        rules.allowed(
            current, target, no_long=bool(forbidden[rules.LONG][row]), no_short=bool(forbidden[rules.SHORT][row])
        )
        for row, current, target in zip(
            proposal.instrument_index, proposal.current_quantity_e9, proposal.target_quantity_e9, strict=True
        )
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
