"""Between the contracts of agents, decisions and portfolio: columns copied, nothing decided."""

from __future__ import annotations

import numpy as np

from alphamesh.agent.v1 import agent_pb2
from alphamesh.decision.v1 import decision_pb2, roster_pb2
from alphamesh.portfolio.v1 import portfolio_pb2
from python_services.kit import packed
from python_services.kit.ids import content_id

from .aggregate import METHOD, Combined
from .answers import Said
from .estimates import Estimate, Floats, Integers
from .record import Skill
from .rules import Applied
from .scoring import Score

_REASONS = {number: name.removeprefix("REASON_") for name, number in agent_pb2.Abstention.Reason.items()}


_COLUMNS = {  # of Estimates to those of Signal
    agent_pb2.Estimates.INSTRUMENT_INDEX_FIELD_NUMBER: decision_pb2.Signal.INSTRUMENT_INDEX_FIELD_NUMBER,
    agent_pb2.Estimates.EXPECTED_RETURN_FIELD_NUMBER: decision_pb2.Signal.EXPECTED_RETURN_FIELD_NUMBER,
    agent_pb2.Estimates.VOLATILITY_FIELD_NUMBER: decision_pb2.Signal.VOLATILITY_FIELD_NUMBER,
    agent_pb2.Estimates.CONFIDENCE_FIELD_NUMBER: decision_pb2.Signal.CONFIDENCE_FIELD_NUMBER,
}


def fill_signal(signal: decision_pb2.Signal, said: Said) -> None:
    """Copies a forecast into the decision's record, but for its evidence."""
    forecast = said.forecast
    signal.agent_id, signal.agent_version = forecast.agent_id, forecast.agent_version
    signal.horizon_bars = forecast.horizon_bars
    if forecast.HasField("model_version"):
        signal.model_version = forecast.model_version
    if forecast.HasField("degraded"):
        signal.degraded = forecast.degraded
    signal.MergeFromString(b"".join(packed.field(to, said.columns.get(number, b"")) for number, to in _COLUMNS.items()))
    for abstention in forecast.abstentions:
        signal.abstained.add(
            reason=_REASONS.get(abstention.reason, str(abstention.reason)),
            detail=abstention.detail,
            instrument_index=abstention.instrument_index,
        )


def fill_evidence(signal: decision_pb2.Signal, said: Said, *, whole: bool) -> None:
    """What the estimates were made from: the values, or their hash."""
    signal.evidence_name.extend(said.evidence_names)
    if whole:
        signal.MergeFromString(packed.field(signal.EVIDENCE_VALUE_FIELD_NUMBER, said.evidence))
    elif said.evidence_names:
        signal.evidence_sha256 = content_id(said.evidence)


def fill_realised(message: decision_pb2.RealisedReturns, rows: Integers, returns: Floats) -> None:
    """Returns over a horizon that ended."""
    message.instrument_index.extend(rows.tolist())
    message.MergeFromString(packed.column(message.VALUE_FIELD_NUMBER, returns))


def fill_voice(
    voice: decision_pb2.Voice,
    estimate: Estimate,
    state: roster_pb2.AgentState.ValueType,
    record: Skill,
    skill: float,
    share: float,
    weight: float,
) -> None:
    """What a voice weighed."""
    voice.agent_id, voice.version, voice.state = estimate.agent_id, estimate.version, state
    voice.observations, voice.information_coefficient = record.observations, record.information_coefficient
    voice.brier, voice.skill, voice.share, voice.weight = record.brier, skill, share, weight


def fill_score(message: decision_pb2.ForecastScore, score: Score) -> None:
    """What became of one agent's forecasts."""
    message.agent_id, message.version, message.horizon_bars = score.agent_id, score.version, score.horizon_bars
    if score.regime is not None:
        message.regime = score.regime
    message.forecasts = score.forecasts
    message.sum_xy, message.sum_xx, message.sum_yy = score.sum_xy, score.sum_xx, score.sum_yy
    if score.cross_sectional is not None:
        message.cross_sectional = score.cross_sectional
    message.sum_brier, message.sum_absolute_error = score.sum_brier, score.sum_absolute_error
    message.stated.extend(score.stated)
    message.hits.extend(score.hits)
    message.sum_p.extend(score.sum_p)


def fill_rule(message: decision_pb2.AppliedRule, rule: Applied) -> None:
    """A conflict rule that applied."""
    message.rule, message.kind, message.effect = rule.rule, rule.kind, rule.effect
    message.agent_id.extend(rule.agent_ids)
    message.instrument_index.extend(np.flatnonzero(rule.rows).tolist())


def fill_aggregate(message: decision_pb2.Aggregate, combined: Combined, horizon_bars: int) -> None:
    """The combined view, with everyone's share in it."""
    message.method = METHOD
    message.instrument_index.extend(combined.instrument_index.tolist())
    message.agent_id.extend(combined.agent_ids)
    message.MergeFromString(
        packed.column(message.EXPECTED_RETURN_FIELD_NUMBER, combined.expected_return)
        + packed.column(message.VOLATILITY_FIELD_NUMBER, combined.volatility)
        + packed.column(message.CONFIDENCE_FIELD_NUMBER, combined.confidence)
        + packed.column(message.CONTRIBUTION_FIELD_NUMBER, np.ravel(combined.contribution))
    )
    message.horizon_bars = horizon_bars


def combined_forecast(combined: Combined, horizon_bars: int) -> portfolio_pb2.CombinedForecast:
    """The combined view as the portfolio service takes it."""
    return portfolio_pb2.CombinedForecast(
        instrument_index=combined.instrument_index.tolist(),
        expected_return=combined.expected_return.tolist(),
        volatility=combined.volatility.tolist(),
        confidence=combined.confidence.tolist(),
        horizon_bars=horizon_bars,
    )


def mandate(spec: decision_pb2.PortfolioMandate) -> portfolio_pb2.Mandate:
    """A session's mandate as the portfolio service takes it."""
    return portfolio_pb2.Mandate(
        method=portfolio_pb2.Method.Value(f"METHOD_{spec.method}"),
        risk_aversion=spec.risk_aversion,
        maximum_weight=spec.maximum_weight,
        maximum_gross=spec.maximum_gross,
        short_allowed=spec.short_allowed,
        cost_per_notional=spec.cost_per_notional,
        maximum_turnover=spec.maximum_turnover,
        minimum_trade=spec.minimum_trade,
    )
