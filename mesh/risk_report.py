"""What the risk service says about an account: as plain values for reports, and as tables for people."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import grpc

from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from alphamesh.type.v1 import money_pb2
from python_services.kit.convert import decimal, money_e9

from . import tables
from .connect import System
from .session import day_of

T = TypeVar("T")


async def read(
    system: System, account_id: str, min_seq: int
) -> tuple[risk_pb2.RiskReport | None, risk_pb2.BacktestValueAtRiskResponse | None]:
    """(report of now, backtest of the account's days).

    No report for an account that was never valued; no backtest where thousands of instruments and days take
    longer than its deadline.
    """
    report = await read_report(system, account_id, min_seq)
    stub = system.stub(risk_pb2_grpc.RiskServiceStub, "risk")
    request = risk_pb2.BacktestValueAtRiskRequest(account_id=account_id, min_seq=min_seq)
    return report, await _unless(grpc.StatusCode.DEADLINE_EXCEEDED, stub.BacktestValueAtRisk(request))


async def read_report(system: System, account_id: str, min_seq: int) -> risk_pb2.RiskReport | None:
    """A report of now, made after those of every batch of fills up to `min_seq`; None for an account never valued."""
    stub = system.stub(risk_pb2_grpc.RiskServiceStub, "risk")
    request = risk_pb2.GetRiskReportRequest(account_id=account_id, min_seq=min_seq)
    answer = await _unless(grpc.StatusCode.FAILED_PRECONDITION, stub.GetRiskReport(request))
    return None if answer is None else answer.report


async def _unless(code: grpc.StatusCode, call: Awaitable[T]) -> T | None:
    """The answer, or None when the call ends with `code`."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is code:
            return None
        raise


def plain(report: risk_pb2.RiskReport) -> dict[str, Any]:
    """A report: money and quantities are exact decimals in strings, shares are of equity, null is not computed."""
    names = [position.instrument_id for position in report.positions]
    return {
        "account_id": report.account_id,
        "snapshot_id": report.snapshot_id,
        "date": day_of(report.as_of_ns),
        "as_of_ns": report.as_of_ns,
        "ledger_seq": report.ledger_seq,
        "equity": _money(report.equity),
        "currency": report.equity.currency_code,
        "gross_exposure": _money(report.gross_exposure),
        "net_exposure": _money(report.net_exposure),
        "leverage": _optional(report, "leverage"),
        "positions": [
            {
                "instrument_id": position.instrument_id,
                "quantity": decimal(position.quantity_e9),
                "mark": decimal(position.mark_e9),
                "value": _money(position.value),
                "weight": _optional(position, "weight"),
                "liquidation_days": _optional(position, "liquidation_days"),
            }
            for position in report.positions
        ],
        "tail_risks": [_tail(tail, names) for tail in report.tail_risks],
        "stress": [
            {
                "scenario": row.scenario,
                "kind": risk_pb2.StressResult.Kind.Name(row.kind).removeprefix("KIND_"),
                "description": row.description,
                "pnl": _optional(row, "pnl"),
                "worst_instrument_id": row.worst_instrument_id or None,
                "worst_instrument_pnl": _optional(row, "worst_instrument_pnl"),
                "distance": _optional(row, "distance"),
                "absent_reason": row.absent_reason or None,
            }
            for row in report.stress_results
        ],
        "worst_stress": _worst(report),
        "limits": [
            {"limit": use.limit, "used_bps": use.used_bps, "limit_bps": use.limit_bps, "violated": use.violated}
            for use in report.limit_uses
        ],
        "liquidity": None
        if not report.HasField("liquidity")
        else {
            "level": report.liquidity.level,
            "value_at_risk": report.liquidity.value_at_risk,
            "cost": report.liquidity.cost,
            "liquidation_days": report.liquidity.liquidation_days,
        },
        "model": {
            "observations": report.model.observations,
            "decay": report.model.decay,
            "degrees_of_freedom": _optional(report.model, "degrees_of_freedom"),
            "draws": report.model.draws,
            "seed": report.model.seed,
        },
    }


def plain_backtest(answer: risk_pb2.BacktestValueAtRiskResponse) -> dict[str, Any]:
    """The backtest: every test, and the days that it rests on."""
    return {
        "days": len(answer.days),
        "days_skipped": answer.days_skipped,
        "results": [
            {
                "method": _method(result.method),
                "variant": result.variant,
                "level": result.level,
                "exceptions": result.exceptions,
                "expected_exceptions": result.expected_exceptions,
                "coverage": _ratio(result, "coverage"),
                "independence": _ratio(result, "independence"),
                "conditional_coverage": _ratio(result, "conditional_coverage"),
                "zone": risk_pb2.BacktestResult.Zone.Name(result.zone).removeprefix("ZONE_"),
            }
            for result in answer.results
        ],
        "daily": [
            {
                "date": day_of(day.forecast_ns),
                "forecast_ns": day.forecast_ns,
                "realized_ns": day.realized_ns,
                "pnl": day.pnl,
                "value_at_risk": [result.value_at_risk[i] for result in answer.results],
            }
            for i, day in enumerate(answer.days)
        ],
    }


def show(content: Mapping[str, Any], *, whole: bool = True) -> None:
    """Tables of `plain`; without `whole` only what a session's summary has room for."""
    facts = tables.table(f"Risk of {content['account_id']} on {content['date']}", "", "")
    worst, liquidity = content["worst_stress"], content["liquidity"]
    for name, value in (
        ("equity", tables.money(content["equity"], content["currency"])),
        ("gross, net", f"{tables.money(content['gross_exposure'], content['currency'])}, "
                       f"{tables.money(content['net_exposure'], content['currency'])}"),
        ("leverage", tables.number(content["leverage"])),
        ("worst stress", "not computed" if worst is None else f"{worst['scenario']} {worst['pnl']:.2%}"),
        ("liquidity-adjusted VaR", "not computed" if liquidity is None else
         f"{liquidity['value_at_risk']:.2%} at {liquidity['level']:.0%}, {liquidity['liquidation_days']:.2g} days"),
    ):  # fmt: skip
        facts.add_row(name, value)
    if whole:
        facts.add_row("ledger sequence", str(content["ledger_seq"]))
        facts.add_row("snapshot", content["snapshot_id"])
    tables.console.print(facts)
    _show_tails(content["tail_risks"], whole=whole)
    if whole:
        _show_stress(content["stress"])
    _show_limits(content["limits"])


def show_backtest(content: Mapping[str, Any]) -> None:
    """The table of `plain_backtest`."""
    if not content["results"]:
        return
    title = f"VaR backtest over {content['days']} days with positions"
    rows = tables.table(
        title, "method", "level", "exceptions", "expected", "Kupiec LR", "p", "independence p", "both p", "zone",
        numbers=frozenset({"level", "exceptions", "expected", "Kupiec LR", "p", "independence p", "both p"}),
    )  # fmt: skip
    for result in content["results"]:
        ratios = [result[name] for name in ("coverage", "independence", "conditional_coverage")]
        chances = ["" if ratio is None else f"{ratio['p_value']:.3f}" for ratio in ratios]
        rows.add_row(
            f"{result['method'].lower()}, {result['variant']}",
            f"{result['level']:.0%}",
            str(result["exceptions"]),
            f"{result['expected_exceptions']:.1f}",
            "" if ratios[0] is None else f"{ratios[0]['statistic']:.2f}",
            *chances,
            result["zone"],
        )
    tables.console.print(rows)


def _show_tails(tails: Sequence[Mapping[str, Any]], *, whole: bool) -> None:
    names = [part["instrument_id"] for part in tails[0]["contributions"]] if tails else []
    numbers = frozenset({"level", "VaR", "ES", *names})
    rows = tables.table("Value at risk, one day", "method", "level", "VaR", "ES", *names, numbers=numbers)
    for tail in tails:
        parts = [f"{part['value_at_risk']:.2%}" for part in tail["contributions"]]
        shares = [tables.share(tail["value_at_risk"]), tables.share(tail["expected_shortfall"])]
        rows.add_row(f"{tail['method'].lower()}, {tail['variant']}", f"{tail['level']:.0%}", *shares, *parts)
    tables.console.print(rows)
    reasons = sorted({tail["absent_reason"] for tail in tails if tail["absent_reason"]})
    if whole and reasons:
        tables.console.print("not computed: " + "; ".join(reasons))


def _show_stress(stress: Sequence[Mapping[str, Any]]) -> None:
    rows = tables.table("Stress", "scenario", "kind", "P&L", "worst", "", numbers=frozenset({"P&L"}))
    for row in stress:
        worst = (
            ""
            if row["worst_instrument_id"] is None
            else f"{row['worst_instrument_id']} {row['worst_instrument_pnl']:.2%}"
        )
        note = row["absent_reason"] or ("" if row["distance"] is None else f"{row['distance']:.1f} deviations out")
        rows.add_row(row["scenario"], row["kind"].lower(), tables.share(row["pnl"]), worst, note)
    tables.console.print(rows)


def _show_limits(limits: Sequence[Mapping[str, Any]]) -> None:
    title = "Limits, basis points of equity"
    rows = tables.table(title, "limit", "used", "of", "share", "", numbers=frozenset({"used", "of", "share"}))
    for use in limits:
        share = f"{use['used_bps'] / use['limit_bps']:.0%}" if use["limit_bps"] else ""
        broken = "BROKEN" if use["violated"] else ""
        rows.add_row(use["limit"], f"{use['used_bps']:.1f}", f"{use['limit_bps']:.0f}", share, broken)
    tables.console.print(rows)


def _tail(tail: risk_pb2.TailRisk, names: Sequence[str]) -> dict[str, Any]:
    parts = zip(
        names,
        tail.component_value_at_risk,
        tail.component_expected_shortfall,
        tail.marginal_value_at_risk,
        strict=False,  # there are none where it was not computed
    )
    return {
        "method": _method(tail.method),
        "variant": tail.variant,
        "level": tail.level,
        "value_at_risk": _optional(tail, "value_at_risk"),
        "expected_shortfall": _optional(tail, "expected_shortfall"),
        "contributions": [
            {
                "instrument_id": name,
                "value_at_risk": component,
                "expected_shortfall": shortfall,
                "marginal_value_at_risk": marginal,
            }
            for name, component, shortfall, marginal in parts
        ],
        "absent_reason": tail.absent_reason or None,
    }


def _worst(report: risk_pb2.RiskReport) -> dict[str, Any] | None:
    """The worst of what might happen; a reverse scenario asks the question the other way round."""
    rows = [
        row for row in report.stress_results if row.HasField("pnl") and row.kind != risk_pb2.StressResult.KIND_REVERSE
    ]
    worst = min(rows, key=lambda row: row.pnl, default=None)
    return None if worst is None else {"scenario": worst.scenario, "pnl": worst.pnl}


def _ratio(result: risk_pb2.BacktestResult, name: Any) -> dict[str, float] | None:
    if not result.HasField(name):
        return None
    ratio = getattr(result, name)
    return {"statistic": ratio.statistic, "p_value": ratio.p_value}


def _method(method: risk_pb2.TailRisk.Method.ValueType) -> str:
    return risk_pb2.TailRisk.Method.Name(method).removeprefix("METHOD_")


def _optional(message: Any, name: str) -> float | None:
    return getattr(message, name) if message.HasField(name) else None


def _money(value: money_pb2.Money) -> str:
    return decimal(money_e9(value))
