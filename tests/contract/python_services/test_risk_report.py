"""Risk reports of the running system, recomputed here from ledger, snapshots and the bundled file with NumPy alone."""

from __future__ import annotations

import asyncio
import csv
import gzip
import itertools
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2 as ledger_events
from alphamesh.execution.v1 import execution_pb2
from alphamesh.risk.v1 import events_pb2, risk_pb2
from python_services.kit import convert, snapshots
from python_services.kit.config import ConfigError
from python_services.kit.errors import from_rpc_error
from python_services.kit.ids import request_id
from python_services.kit.journal import Journal
from python_services.kit.snapshots import Snapshot
from python_services.risk.config import Config, Limits
from python_services.risk.policy import to_message
from tests.contract.python_services.trading_floor import ACCOUNT, NANO, Floor, refused, system

ROOT = Path(__file__).resolve().parents[3]
BUNDLED = ROOT / "python_services/market_data/bundled/us_equities_daily.csv.gz"
T = risk_pb2.TailRisk
Z = {0.95: 1.6448536269514722, 0.99: 2.3263478740408408}
BOUGHT = {"AAPL": 1200, "IBM": 1500, "MSFT": 4000}
CASH_AND_MORE = {"AAPL": 1300, "GOOG": 300, "IBM": 1500, "MSFT": 4000}


@pytest.fixture
async def floor(tmp_path: Path) -> AsyncIterator[Floor]:
    async with system(tmp_path) as running:
        found = Floor(running)
        await found.open()
        await found.next_day()
        yield found


async def trade(floor: Floor, shares: dict[str, int]) -> None:
    """Orders towards `shares`, filled on the next day."""
    held = {position.instrument_id: position.quantity_e9 // NANO for position in (await floor.ledger()).positions}
    await floor.risk.AssessPortfolio(floor.assessment(shares))
    changes = {name: shares.get(name, 0) - held.get(name, 0) for name in {*shares, *held}}
    await floor.buy({name: change for name, change in sorted(changes.items()) if change})
    await floor.next_day()


async def get(floor: Floor, **fields: Any) -> risk_pb2.RiskReport:
    response = await floor.risk.GetRiskReport(risk_pb2.GetRiskReportRequest(min_seq=floor.seq, **fields))
    assert response.applied_seq >= floor.seq
    report: risk_pb2.RiskReport = response.report
    return report


async def read_snapshot(floor: Floor, snapshot_id: str) -> Snapshot:
    return await snapshots.fetch(floor.marketdata, snapshot_id)


def tail(report: risk_pb2.RiskReport, method: T.Method.ValueType, level: float) -> risk_pb2.TailRisk:
    return next(found for found in report.tail_risks if found.method == method and found.level == level)


def ewma(returns: np.ndarray) -> np.ndarray:
    """RiskMetrics, one observation after the other."""
    ages = np.arange(len(returns) - 1, -1, -1)
    chances = 0.94**ages / (0.94**ages).sum()
    return sum(chance * np.outer(row, row) for chance, row in zip(chances, returns, strict=True))


def filtered(returns: np.ndarray) -> np.ndarray:
    """Hull and White: each return over its day's forecast deviation, times tomorrow's."""
    variance = (returns[:50] ** 2).mean(axis=0)
    units = np.empty_like(returns)
    for t, row in enumerate(returns):
        units[t] = row / np.sqrt(variance)
        variance = 0.94 * variance + 0.06 * row**2
    return units * np.sqrt(variance)


def forecast(weights: np.ndarray, close: np.ndarray, level: float) -> dict[T.Method.ValueType, float]:
    """Parametric and historical value at risk."""
    returns = close[1:] / close[:-1] - 1.0
    losses = np.sort(-(filtered(returns) @ weights))
    return {
        T.METHOD_PARAMETRIC: Z[level] * float(np.sqrt(weights @ ewma(returns) @ weights)),
        T.METHOD_HISTORICAL: float(losses[math.ceil(len(losses) * level) - 1]),
    }


def raw_closes() -> dict[tuple[str, str], float]:
    """The bundled file, read without any of our code."""
    with gzip.open(BUNDLED, "rt") as file:
        return {(row["Ticker"], row["Date"]): float(row["Close"]) for row in csv.DictReader(file)}


async def test_the_report_is_what_ledger_and_snapshot_say(floor: Floor) -> None:
    await trade(floor, BOUGHT)
    report = await get(floor)
    ledger = await floor.ledger()
    snapshot = await read_snapshot(floor, report.snapshot_id)
    assert report.snapshot_id == floor.snapshot.snapshot_id
    assert (report.as_of_ns, report.account_id) == (floor.closes[floor.day], ACCOUNT)
    assert report.equity == ledger.equity

    # Positions and exposures, from the fills and the snapshot's marks.
    listed = await floor.execution.ListFills(execution_pb2.ListFillsRequest(account_id=ACCOUNT))
    shares = {fill.instrument_id: fill.quantity_e9 // NANO for fill in listed.fills}
    assert shares == {name: BOUGHT[name] for name in shares}
    names = [position.instrument_id for position in report.positions]
    assert names == sorted(BOUGHT)
    at = [snapshot.instrument_ids.index(name) for name in names]
    values = [shares[name] * snapshot.marks_e9[i] for name, i in zip(names, at, strict=True)]
    equity = convert.money_e9(ledger.equity)
    weights = np.array(values) / equity
    assert convert.money_e9(report.gross_exposure) == convert.money_e9(report.net_exposure) == sum(values)
    assert report.leverage == pytest.approx(weights.sum())
    assert [position.weight for position in report.positions] == pytest.approx(weights.tolist())
    volume = snapshot.volume[-20:, at].mean(axis=0)
    days = np.array([shares[name] for name in names]) / (0.1 * volume)
    assert [position.liquidation_days for position in report.positions] == pytest.approx(days.tolist())

    # Tail risk by three methods.
    close = snapshot.close[:, at]
    returns = close[1:] / close[:-1] - 1.0
    covariance = ewma(returns)
    deviation = float(np.sqrt(weights @ covariance @ weights))
    assert report.model.observations == 119
    for level in (0.95, 0.99):
        for method, expected in forecast(weights, close, level).items():
            assert tail(report, method, level).value_at_risk == pytest.approx(expected), method
        components = Z[level] * weights * (covariance @ weights) / deviation
        parametric = tail(report, T.METHOD_PARAMETRIC, level)
        assert list(parametric.component_value_at_risk) == pytest.approx(components.tolist())
        # Student-t of five degrees with unit variance: its quantiles are in every table.
        simulated = tail(report, T.METHOD_MONTE_CARLO, level)
        quantile = {0.95: 2.015048, 0.99: 3.364930}[level] * math.sqrt(3 / 5)
        assert simulated.value_at_risk == pytest.approx(quantile * deviation, rel=0.05)
        assert simulated.variant == "student_t"
    for found in report.tail_risks:
        assert sum(found.component_value_at_risk) == pytest.approx(found.value_at_risk)
        assert sum(found.component_expected_shortfall) == pytest.approx(found.expected_shortfall)

    # Stress, from the raw file.
    rows = {row.scenario: row for row in report.stress_results}
    closes = raw_closes()
    crash = np.array([closes[name, "2008-10-10"] / closes[name, "2008-09-12"] - 1.0 for name in names])
    assert rows["lehman_2008"].pnl == pytest.approx(float(weights @ crash))
    assert rows["lehman_2008"].worst_instrument_id == names[int((weights * crash).argmin())]
    assert rows["all_down_10"].pnl == pytest.approx(-0.1 * weights.sum())
    assert rows["volatility_doubles"].pnl == pytest.approx(-2.0 * Z[0.99] * deviation)
    assert rows["lose_a_tenth"].distance == pytest.approx(0.1 / deviation)
    assert not rows["flash_crash_2010"].HasField("pnl")  # the future
    assert "2010-05-07" in rows["flash_crash_2010"].absent_reason

    # Limits and liquidity.
    uses = {use.limit: use for use in report.limit_uses}
    assert uses["gross_exposure_bps"].used_bps == pytest.approx(1e4 * weights.sum())
    assert uses["gross_exposure_bps"].limit_bps == 10_000
    assert not any(use.violated for use in report.limit_uses)
    cost = 0.5 * weights.sum() * (2.0 + 3.0 * 1.0) / 1e4
    assert report.liquidity.cost == pytest.approx(cost)
    assert report.liquidity.value_at_risk == pytest.approx(Z[0.99] * deviation + cost)
    assert report.liquidity.liquidation_days == pytest.approx(days.max())


async def published(floor: Floor, from_seq: int = 1, count: int = 1) -> list[risk_pb2.RiskReport]:
    """Waits for `count` reports on the stream."""
    found: list[risk_pb2.RiskReport] = []
    seq = 0
    async with asyncio.timeout(20):
        async for response in floor.risk.WatchRiskReports(risk_pb2.WatchRiskReportsRequest(from_seq=from_seq)):
            assert response.seq >= seq
            seq = response.seq
            found += response.reports
            if len(found) >= count:
                return found
    raise AssertionError("the stream ended")


async def batches(floor: Floor) -> list[int]:
    """Sequences of the valuations that close a batch of fills, from the ledger's events."""
    found, filled = [], False
    request = execution_pb2.StreamEventsRequest(from_seq=1, stop_at_end=True)
    async for response in floor.execution.StreamEvents(request):
        for envelope in response.frame.events:
            if envelope.schema == ledger_events.OrderFilled.DESCRIPTOR.full_name:
                filled = True
            elif envelope.schema == ledger_events.AccountValued.DESCRIPTOR.full_name:
                if filled:
                    found.append(envelope.seq)
                filled = False
    return found


def journalled(folder: Path) -> list[event_pb2.EventEnvelope]:
    """RiskReported events of a stopped service."""
    journal = Journal(folder / "data" / "risk" / "journal.db", "risk", "0", pytest.fail)
    schema = events_pb2.RiskReported.DESCRIPTOR.full_name
    found = [event for frame in journal.read(1) for event in frame.events if event.schema == schema]
    journal.close()
    return found


async def test_there_is_one_report_for_every_batch_of_fills(floor: Floor, tmp_path: Path) -> None:
    await trade(floor, BOUGHT)
    now = await get(floor)
    await floor.next_day()  # no fills, no report
    await trade(floor, CASH_AND_MORE)
    wanted = await batches(floor)
    reports = await published(floor, count=2)
    assert [report.ledger_seq for report in reports] == wanted
    assert len(wanted) == 2
    assert reports[0] == now  # the same state measured on demand
    assert [position.instrument_id for position in reports[1].positions] == sorted(CASH_AND_MORE)
    await floor.system.stop("risk")
    events = journalled(tmp_path)
    assert [events_pb2.RiskReported.FromString(event.payload).report.ledger_seq for event in events] == wanted
    assert all(event.correlation_id.startswith("test-") for event in events)


async def test_the_stream_goes_on_from_a_sequence_and_says_why_it_ends(floor: Floor) -> None:
    await trade(floor, BOUGHT)
    stream = floor.risk.WatchRiskReports(risk_pb2.WatchRiskReportsRequest(from_seq=1))
    first = await anext(aiter(stream))
    assert len(first.reports) == 1
    later = floor.risk.WatchRiskReports(risk_pb2.WatchRiskReportsRequest(from_seq=first.seq + 1))
    waiting = asyncio.ensure_future(anext(aiter(later)))
    await trade(floor, CASH_AND_MORE)
    second = await asyncio.wait_for(waiting, 20)
    assert second.seq > first.seq
    assert second.reports[0].ledger_seq > first.reports[0].ledger_seq
    other = floor.risk.WatchRiskReports(risk_pb2.WatchRiskReportsRequest(from_seq=1, account_id="other"))
    nothing = asyncio.ensure_future(anext(aiter(other)))
    await asyncio.sleep(0.1)
    assert not nothing.done()
    await floor.system.stop("risk")
    end = await asyncio.wait_for(nothing, 20)
    assert end.end_reason == risk_pb2.WatchRiskReportsResponse.END_REASON_DRAINING
    assert not end.reports


async def test_a_rebuilt_service_publishes_the_same_reports(floor: Floor, tmp_path: Path) -> None:
    """As if risk had been killed before anything was durable: every report is made again, and the same."""
    await trade(floor, BOUGHT)
    await trade(floor, CASH_AND_MORE)
    before = await published(floor, count=2)
    await floor.system.stop("risk")
    for path in (tmp_path / "data" / "risk").iterdir():
        path.unlink()
    await floor.system.start("risk")
    assert await published(floor, count=2) == before
    # And a service that has them already makes none again.
    await get(floor)
    await floor.system.stop("risk")
    await floor.system.start("risk")
    await get(floor)
    await floor.system.stop("risk")
    assert len(journalled(tmp_path)) == 2


async def test_a_report_keeps_the_limits_of_its_time(floor: Floor, tmp_path: Path) -> None:
    await trade(floor, BOUGHT)
    (before,) = await published(floor)
    limits = to_message(Config(limits=Limits(stressed_loss_bps=2500, var_bps=400)).limits, "USD")
    await floor.next_day()
    await floor.risk.SetLimits(
        risk_pb2.SetLimitsRequest(
            request_id=request_id("limits"), account_id=ACCOUNT, limits=limits, ts_event_ns=floor.closes[floor.day]
        )
    )
    assert (await floor.risk.GetLimits(risk_pb2.GetLimitsRequest(account_id=ACCOUNT))).limits == limits
    now = {use.limit: use for use in (await get(floor)).limit_uses}
    assert now["var_bps"].limit_bps == 400
    worst = min(row.pnl for row in (await get(floor)).stress_results if row.kind in (1, 2) and row.HasField("pnl"))
    assert now["stressed_loss_bps"].used_bps == pytest.approx(-worst * 1e4)
    assert now["stressed_loss_bps"].violated == (-worst > 0.25)
    assert {use.limit: use.limit_bps for use in before.limit_uses}["var_bps"] == 500
    assert "stressed_loss_bps" not in {use.limit for use in before.limit_uses}


async def test_an_assessment_says_what_the_orders_add(floor: Floor) -> None:
    await trade(floor, BOUGHT)
    held = (await floor.risk.AssessPortfolio(floor.assessment(BOUGHT))).assessment
    assert held.incremental_value_at_risk == pytest.approx(0.0, abs=1e-12)
    rows = {row.scenario: row.pnl for row in (await get(floor)).stress_results if row.kind in (1, 2)}
    assert held.stressed_loss == pytest.approx(-min(rows.values()))
    assert rows[held.stressed_scenario] == min(rows.values())
    await floor.next_day()
    more = (await floor.risk.AssessPortfolio(floor.assessment(CASH_AND_MORE))).assessment
    assert more.value_at_risk - more.incremental_value_at_risk == pytest.approx(held.value_at_risk, rel=0.1)
    assert more.incremental_value_at_risk > 0.0
    assert more.stressed_loss > 0.0


async def test_a_limit_on_the_stressed_loss_cuts_the_orders(tmp_path: Path) -> None:
    async with system(tmp_path, risk={"limits": {"stressed_loss_bps": 1000}}) as running:
        floor = Floor(running)
        await floor.open()
        await floor.next_day()
        found = (await floor.risk.AssessPortfolio(floor.assessment(BOUGHT))).assessment
        assert found.verdict == risk_pb2.Assessment.VERDICT_REDUCED
        assert [use.limit for use in found.limit_uses if use.violated] == ["stressed_loss_bps"]
        assert found.stressed_loss > 0.1
        approved = {name: q // NANO for name, q in zip(BOUGHT, found.approved_quantity_e9, strict=True)}
        await floor.buy(approved)
        await floor.next_day()
        losses = [-row.pnl for row in (await get(floor)).stress_results if row.kind in (1, 2)]
        assert 0.09 < max(losses) < 0.11


async def test_the_backtest_is_what_the_days_say(floor: Floor) -> None:
    """Forecasts and outcomes of every day, recomputed from the ledger's valuations and the snapshots."""
    await trade(floor, BOUGHT)
    for _ in range(6):
        await floor.next_day()
    await trade(floor, CASH_AND_MORE)
    for _ in range(6):
        await floor.next_day()
    answer = await floor.risk.BacktestValueAtRisk(risk_pb2.BacktestValueAtRiskRequest(min_seq=floor.seq))
    held: dict[str, int] = {}
    valued: list[tuple[int, Snapshot, dict[str, int], int]] = []
    request = execution_pb2.StreamEventsRequest(from_seq=1, stop_at_end=True)
    async for response in floor.execution.StreamEvents(request):
        for envelope in response.frame.events:
            if envelope.schema == ledger_events.OrderFilled.DESCRIPTOR.full_name:
                fill = ledger_events.OrderFilled.FromString(envelope.payload).fill
                held[fill.instrument_id] = held.get(fill.instrument_id, 0) + fill.quantity_e9
            elif envelope.schema == ledger_events.AccountValued.DESCRIPTOR.full_name:
                event = ledger_events.AccountValued.FromString(envelope.payload)
                snapshot = await read_snapshot(floor, event.snapshot_id)
                valued.append((envelope.ts_event_ns, snapshot, dict(held), convert.money_e9(event.equity)))
    days = [(now, later) for now, later in itertools.pairwise(valued) if now[2]]
    assert len(answer.days) == len(days) == 13
    assert answer.days_skipped == 0
    results = {(result.method, result.level): result for result in answer.results}
    assert len(results) == 6
    forecasts: dict[tuple[T.Method.ValueType, float], list[float]] = {key: [] for key in results}
    for day, ((ts, snapshot, shares, equity), (later_ns, after, _, _)) in zip(answer.days, days, strict=True):
        names = sorted(shares)
        at = [snapshot.instrument_ids.index(name) for name in names]
        marks = np.array([snapshot.marks_e9[i] for i in at], dtype=np.float64)
        weights = np.array([shares[name] / NANO for name in names]) * marks / equity
        gain = float(weights @ (after.close[-1, at] / after.close[-2, at] - 1.0))
        assert (day.forecast_ns, day.realized_ns, day.pnl) == (ts, later_ns, pytest.approx(gain))
        for level in (0.95, 0.99):
            for method, value in forecast(weights, snapshot.close[:, at], level).items():
                forecasts[method, level].append(value)
    gains = np.array([day.pnl for day in answer.days])
    for (method, level), result in results.items():
        if method != T.METHOD_MONTE_CARLO:
            assert list(result.value_at_risk) == pytest.approx(forecasts[method, level])
        hits = int((-gains > np.array(result.value_at_risk)).sum())
        assert (result.exceptions, result.expected_exceptions) == (hits, pytest.approx(13 * (1 - level)))
        share = hits / 13
        likelihood = 13 * math.log(1 - share) - 13 * math.log(level)
        if hits:
            likelihood = hits * math.log(share / (1 - level)) + (13 - hits) * math.log((1 - share) / level)
        assert result.coverage.statistic == pytest.approx(2 * likelihood)
        assert result.coverage.p_value == pytest.approx(math.erfc(math.sqrt(max(likelihood, 0.0))))
    fewer = await floor.risk.BacktestValueAtRisk(risk_pb2.BacktestValueAtRiskRequest(max_days=5))
    assert list(fewer.days) == list(answer.days)[-5:]


async def test_too_little_history_is_absent_never_zero(tmp_path: Path) -> None:
    async with system(tmp_path, risk={"minimum_history_bars": 500}) as running:
        floor = Floor(running)
        await floor.open()
        await floor.next_day()
        await trade(floor, BOUGHT)
        report = await get(floor)
        assert report.tail_risks
        for found in report.tail_risks:
            assert not found.HasField("value_at_risk")
            assert not found.component_value_at_risk
            assert found.absent_reason == "AAPL has fewer than 500 returns, or none that moved"
        assert not report.HasField("liquidity")
        assert "var_bps" not in {use.limit for use in report.limit_uses}
        rows = {row.scenario: row for row in report.stress_results}
        assert rows["all_down_10"].pnl < 0.0
        assert rows["volatility_doubles"].absent_reason == found.absent_reason
        answer = await floor.risk.BacktestValueAtRisk(risk_pb2.BacktestValueAtRiskRequest(min_seq=floor.seq))
        assert (len(answer.days), len(answer.results)) == (0, 0)
        await floor.next_day()
        answer = await floor.risk.BacktestValueAtRisk(risk_pb2.BacktestValueAtRiskRequest(min_seq=floor.seq))
        assert (len(answer.days), answer.days_skipped) == (0, 1)


async def test_what_cannot_be_answered_says_why(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        floor = Floor(running)
        nobody = from_rpc_error(await refused(floor.risk.GetRiskReport(risk_pb2.GetRiskReportRequest())))
        assert nobody.code is grpc.StatusCode.NOT_FOUND
        await floor.open()
        request = risk_pb2.GetRiskReportRequest(min_seq=floor.seq)
        early = from_rpc_error(await refused(floor.risk.GetRiskReport(request)))
        assert (early.code, early.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NEVER_VALUED")
        await floor.next_day()
        report = await get(floor)
        assert [found.value_at_risk for found in report.tail_risks] == [0.0] * 6  # cash only
        assert not report.positions
        unknown = risk_pb2.GetRiskReportRequest(snapshot_id="0" * 64)
        gone = from_rpc_error(await refused(floor.risk.GetRiskReport(unknown)))
        assert gone.code is grpc.StatusCode.NOT_FOUND
        second = execution_pb2.OpenAccountRequest(
            request_id=request_id("second"),
            account_id="second",
            cash=convert.money(NANO, "USD"),
            ts_event_ns=floor.closes[0],
        )
        floor.seq = (await floor.execution.OpenAccount(second)).applied_seq
        request = risk_pb2.GetRiskReportRequest(min_seq=floor.seq)
        which = from_rpc_error(await refused(floor.risk.GetRiskReport(request)))
        assert (which.code, which.message.count("second")) == (grpc.StatusCode.INVALID_ARGUMENT, 1)
        assert (await get(floor, account_id=ACCOUNT)).account_id == ACCOUNT


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("scenarios: [{name: a, hypothetical: {instruments: {XMO: -0.3}}}]", "instruments.XMO"),
        ("scenarios: [{name: a, hypothetical: {all: much}}]", "hypothetical.all"),
    ],
)
async def test_a_wrong_scenario_file_stops_the_start(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named) as caught:
        async with system(tmp_path, risk={"report": {"stress": str(path)}}):
            pass
    assert "mine.yaml" in str(caught.value)
