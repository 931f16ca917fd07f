"""Translations: limits, assessments and the gate's policy, between messages and the pure modules."""

from __future__ import annotations

from collections.abc import Iterable

from alphamesh.execution.v1 import execution_pb2
from alphamesh.risk.v1 import risk_pb2
from alphamesh.type.v1 import money_pb2, trading_pb2
from python_services.kit import convert
from python_services.kit.errors import precondition
from python_services.kit.ledger_view import AccountView

from .config import Limits
from .ladder import Losses
from .logic import SCALE, Use, Verdict

SAME = (  # fields that the message and the dataclass share
    "gross_exposure_bps",
    "net_exposure_bps",
    "position_bps",
    "sector_bps",
    "order_bps",
    "daily_loss_bps",
    "drawdown_bps",
    "var_bps",
    "price_collar_bps",
    "short_allowed",
    "max_age_ns",
    "orders_per_second",
)


def from_message(message: risk_pb2.Limits) -> Limits:
    """Raises ServiceError (FAILED_PRECONDITION) when the limits contradict each other."""
    limits = Limits(
        **{name: getattr(message, name) for name in SAME},
        order_minimum_e9=convert.money_e9(message.order_minimum),
        restricted_instrument_ids=tuple(message.restricted_instrument_ids),
        stressed_loss_bps=message.stressed_loss_bps if message.HasField("stressed_loss_bps") else None,
    )
    if problem := limits.contradiction():
        raise precondition("LIMITS_CONTRADICT", problem)
    return limits


def to_message(limits: Limits, currency: str) -> risk_pb2.Limits:
    """Limits of an account whose money is in `currency`."""
    return risk_pb2.Limits(
        **{name: getattr(limits, name) for name in SAME},
        order_minimum=convert.money(limits.order_minimum_e9, currency),
        restricted_instrument_ids=limits.restricted_instrument_ids,
        stressed_loss_bps=limits.stressed_loss_bps,
    )


def policy(
    account: AccountView, limits: Limits, equity_e9: int, state: int, version: int, ts_ns: int, var_e9: int | None
) -> execution_pb2.RiskPolicy:
    """What the gate is to enforce: shares of equity as money, rounded down."""

    def share(bps: int, of_e9: int = equity_e9) -> money_pb2.Money:
        return convert.money(max(of_e9, 0) * bps // 10_000, account.currency)

    message = execution_pb2.RiskPolicy(
        version=version,
        ts_event_ns=ts_ns,
        max_age_ns=limits.max_age_ns,
        trading_state=trading_pb2.TradingState.ValueType(state),
        gross_exposure_limit=share(limits.gross_exposure_bps),
        net_exposure_limit=share(limits.net_exposure_bps),
        position_limit=share(limits.position_bps),
        order_notional_limit=share(limits.order_bps),
        order_notional_minimum=convert.money(limits.order_minimum_e9, account.currency),
        sector_limit=share(limits.sector_bps),
        daily_loss_limit=share(limits.daily_loss_bps, account.day_start_equity_e9),
        drawdown_limit_bps=limits.drawdown_bps,
        price_collar_bps=limits.price_collar_bps,
        price_max_age_ns=limits.max_age_ns,
        orders_per_second=limits.orders_per_second,
        leverage_limit_bps=limits.gross_exposure_bps,
        concentration_limit_bps=limits.position_bps,
        short_allowed=limits.short_allowed,
        restricted_instrument_ids=limits.restricted_instrument_ids,
    )
    if var_e9 is not None:
        message.var_budget.CopyFrom(share(limits.var_bps))
        message.var_used.CopyFrom(convert.money(var_e9, account.currency))
    return message


def assessment(
    request: risk_pb2.AssessPortfolioRequest,
    assessment_id: str,
    verdict: Verdict,
    losses: Losses,
    version: int,
    approved_e9: dict[str, int],
) -> risk_pb2.Assessment:
    """The answer to AssessPortfolio."""
    message = risk_pb2.Assessment(
        assessment_id=assessment_id,
        decision_id=request.decision_id,
        verdict=risk_pb2.Assessment.Verdict.ValueType(verdict.outcome),
        scale=verdict.scale_millionths / SCALE,
        limit_uses=limit_uses(verdict.uses, losses),
        policy_version=version,
        approved_quantity_e9=[approved_e9[name] for name in request.instrument_ids],
    )
    if verdict.risk is not None:
        message.value_at_risk, message.expected_shortfall = verdict.risk
        if verdict.carried is not None:
            message.incremental_value_at_risk = verdict.risk.value_at_risk - verdict.carried.value_at_risk
    if verdict.stress is not None:
        message.stressed_scenario, message.stressed_loss = verdict.stress
    return message


def limit_uses(uses: Iterable[Use], losses: Losses) -> list[risk_pb2.LimitUse]:
    """The limits on a portfolio, then those on losses."""
    return [
        *(
            risk_pb2.LimitUse(limit=use.limit, used_bps=use.used_bps, limit_bps=use.limit_bps, violated=use.violated)
            for use in uses
        ),
        risk_pb2.LimitUse(
            limit="daily_loss_bps",
            used_bps=losses.daily_loss_bps,
            limit_bps=losses.daily_loss_limit_bps,
            violated=losses.daily_loss_reached,
        ),
        risk_pb2.LimitUse(
            limit="drawdown_bps",
            used_bps=losses.drawdown_bps,
            limit_bps=losses.drawdown_limit_bps,
            violated=losses.drawdown_reached,
        ),
    ]
