"""Between the contracts of agents, decisions and portfolio: columns copied, nothing decided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alphamesh.agent.v1 import agent_pb2
from alphamesh.decision.v1 import decision_pb2
from alphamesh.portfolio.v1 import portfolio_pb2

from .aggregate import Combined, Estimate


def estimate(forecast: agent_pb2.AgentForecast) -> Estimate:
    """An agent's estimates as arrays."""
    columns = forecast.estimates
    return Estimate(
        agent_id=forecast.agent_id,
        horizon_bars=forecast.horizon_bars,
        instrument_index=np.array(columns.instrument_index, np.int64),
        expected_return=np.array(columns.expected_return, np.float64),
        volatility=np.array(columns.volatility, np.float64),
        confidence=np.array(columns.confidence, np.float64),
    )


def fill_signal(signal: decision_pb2.Signal, forecast: agent_pb2.AgentForecast, instrument_ids: Sequence[str]) -> None:
    """Copies a forecast into the decision's record."""
    columns = forecast.estimates
    signal.agent_id, signal.agent_version = forecast.agent_id, forecast.agent_version
    signal.horizon_bars = forecast.horizon_bars
    if forecast.HasField("model_version"):
        signal.model_version = forecast.model_version
    if forecast.HasField("degraded"):
        signal.degraded = forecast.degraded
    signal.instrument_index.extend(columns.instrument_index)
    signal.expected_return.extend(columns.expected_return)
    signal.volatility.extend(columns.volatility)
    signal.confidence.extend(columns.confidence)
    for evidence in columns.evidence:
        signal.evidence_name.append(evidence.name)
        signal.evidence_value.extend(evidence.value)
    for abstention in forecast.abstentions:
        reason = agent_pb2.Abstention.Reason.Name(abstention.reason).removeprefix("REASON_")
        detail = f" ({abstention.detail})" if abstention.detail else ""
        signal.abstentions.append(f"{instrument_ids[abstention.instrument_index]}: {reason}{detail}")


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
