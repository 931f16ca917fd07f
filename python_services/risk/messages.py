"""The backtest of forecasts as messages."""

from __future__ import annotations

from collections.abc import Sequence

from alphamesh.risk.v1 import risk_pb2

from .backtest import Day, LikelihoodTest, Result


def backtest(
    days: Sequence[Day], results: Sequence[Result], skipped: int, applied_seq: int
) -> risk_pb2.BacktestValueAtRiskResponse:
    """The answer to BacktestValueAtRisk."""
    return risk_pb2.BacktestValueAtRiskResponse(
        results=[
            risk_pb2.BacktestResult(
                method=risk_pb2.TailRisk.Method.ValueType(result.tail.method),
                variant=result.tail.variant,
                level=result.tail.level,
                value_at_risk=result.forecasts.tolist(),
                exceptions=result.exceptions,
                expected_exceptions=result.expected,
                coverage=_ratio(result.coverage),
                independence=_ratio(result.independence),
                conditional_coverage=_ratio(result.conditional),
                zone=risk_pb2.BacktestResult.Zone.ValueType(result.zone),
            )
            for result in results
        ],
        days=[
            risk_pb2.BacktestDay(forecast_ns=day.forecast_ns, realized_ns=day.realized_ns, pnl=day.gain) for day in days
        ],
        days_skipped=skipped,
        applied_seq=applied_seq,
    )


def _ratio(test: LikelihoodTest | None) -> risk_pb2.LikelihoodRatio | None:
    return None if test is None else risk_pb2.LikelihoodRatio(statistic=test.statistic, p_value=test.p_value)
