"""Risk through the command line: the session's risk section, `alphamesh risk`, and kill -9 of the risk service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alphamesh.risk.v1 import events_pb2, risk_pb2, risk_pb2_grpc
from mesh.connect import running
from mesh.rundir import RunDir
from python_services.kit.journal import Journal

from .conftest import Run, alphamesh, run_session
from .test_recovery import RANGE, pids_of, start, wait_for_cycles


def reported(data_dir: Path) -> list[risk_pb2.RiskReport]:
    """The reports that risk published, from its journal."""
    journal = Journal(data_dir / "data" / "risk" / "journal.db", "risk", "0", pytest.fail)
    schema = events_pb2.RiskReported.DESCRIPTOR.full_name
    found = [
        events_pb2.RiskReported.FromString(event.payload).report
        for frame in journal.read(1)
        for event in frame.events
        if event.schema == schema
    ]
    journal.close()
    return found


def fill_days(report: dict[str, Any]) -> list[str]:
    return sorted({trade["date"] for trade in report["trades"]})


def day_of(report: risk_pb2.RiskReport) -> str:
    return str(np.datetime64(report.as_of_ns, "ns").astype("datetime64[D]"))


def test_the_risk_section_is_of_the_positions_at_the_end(process_run: Run) -> None:
    report = process_run.report
    risk = report["risk"]
    assert risk["equity"] == report["equity"]
    assert [(p["instrument_id"], p["quantity"], p["value"]) for p in risk["positions"]] == [
        (p["instrument_id"], p["quantity"], p["value"]) for p in report["positions"]
    ]
    assert Decimal(risk["gross_exposure"]) == sum(abs(Decimal(p["value"])) for p in report["positions"])
    assert {tail["method"] for tail in risk["tail_risks"]} == {"PARAMETRIC", "HISTORICAL", "MONTE_CARLO"}
    for tail in risk["tail_risks"]:
        parts = tail["contributions"]
        assert sum(part["value_at_risk"] for part in parts) == pytest.approx(tail["value_at_risk"])
    rows = {row["scenario"]: row for row in risk["stress"]}
    assert rows["all_down_10"]["pnl"] == pytest.approx(-0.1 * sum(p["weight"] for p in risk["positions"]))
    assert rows["debt_ceiling_2011"]["pnl"] is None  # the future
    for shown in ("Value at risk, one day", "monte_carlo, student_t", "VaR backtest", "position_bps"):
        assert shown in process_run.output


def test_the_backtest_counts_what_its_days_say(process_run: Run) -> None:
    backtest = process_run.report["var_backtest"]
    # The last day has no tomorrow; the first has no positions.
    assert process_run.report["cycles"] - 5 < backtest["days"] < process_run.report["cycles"]
    assert backtest["days_skipped"] == 0
    daily = backtest["daily"]
    gains = np.array([day["pnl"] for day in daily])
    for place, result in enumerate(backtest["results"]):
        forecasts = np.array([day["value_at_risk"][place] for day in daily])
        assert result["exceptions"] == int((-gains > forecasts).sum())
        assert result["expected_exceptions"] == pytest.approx(len(daily) * (1 - result["level"]))
        # A forecast that the year did not refute beyond doubt.
        assert result["zone"] in ("GREEN", "YELLOW")
        assert result["exceptions"] > 0


def test_every_day_with_fills_has_one_report_in_every_mode(process_run: Run, local_run: Run) -> None:
    reports = reported(process_run.data_dir)
    assert [day_of(report) for report in reports] == fill_days(process_run.report)
    assert reports == reported(local_run.data_dir)
    assert local_run.report["risk"] == process_run.report["risk"]
    assert local_run.report["var_backtest"] == process_run.report["var_backtest"]


def test_a_killed_risk_service_publishes_the_same_reports(tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    quiet = run_session(tmp_path / "quiet", "--local", *RANGE)
    data_dir, path = tmp_path / "run", tmp_path / "report.json"
    process = start(data_dir, "--report", str(path))
    wait_for_cycles(data_dir, process)
    os.kill(pids_of(data_dir)["risk"], signal.SIGKILL)
    assert process.wait(timeout=100) == 0, data_dir.with_suffix(".log").read_text()
    report = json.loads(path.read_text())
    assert report["services"]["risk"]["restarts"] >= 1
    assert report["final_event_hash"] == quiet.report["final_event_hash"]
    found = reported(data_dir)
    assert found == reported(quiet.data_dir)
    assert len({one.ledger_seq for one in found}) == len(found) == len(fill_days(report)) > 10


async def streamed(data_dir: Path) -> list[risk_pb2.RiskReport]:
    """What WatchRiskReports has to say of the past, over the socket."""
    found: list[risk_pb2.RiskReport] = []
    async with running(RunDir.find(data_dir)) as system:
        stub = system.stub(risk_pb2_grpc.RiskServiceStub, "risk")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                async for response in stub.WatchRiskReports(risk_pb2.WatchRiskReportsRequest(from_seq=1)):
                    found += response.reports
    return found


def test_risk_is_shown_of_a_running_system(tmp_path: Path) -> None:
    data_dir, path = tmp_path / "run", tmp_path / "report.json"
    process = start(data_dir, "--report", str(path), "--serve")
    try:
        give_up = time.monotonic() + 60
        while "stays up" not in data_dir.with_suffix(".log").read_text():
            assert process.poll() is None, data_dir.with_suffix(".log").read_text()
            assert time.monotonic() < give_up
            time.sleep(0.1)
        report = json.loads(path.read_text())
        done = alphamesh("risk", "--data-dir", data_dir, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == report["risk"]
        assert [day_of(found) for found in asyncio.run(streamed(data_dir))] == fill_days(report)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=30)


def test_risk_is_shown_of_a_stopped_run(local_run: Run) -> None:
    done = alphamesh("risk", "--data-dir", local_run.data_dir, "--json", "--backtest")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content.pop("backtest") == local_run.report["var_backtest"]
    assert content == local_run.report["risk"]
    shown = alphamesh("risk", "--data-dir", local_run.data_dir, "--account", "demo")
    assert shown.returncode == 0, shown.stderr
    for part in ("parametric, normal", "lehman_2008", "deviations out", "drawdown_bps"):
        assert part in shown.stdout


def test_an_account_that_is_not_there_is_named(local_run: Run) -> None:
    done = alphamesh("risk", "--data-dir", local_run.data_dir, "--account", "nobody")
    assert done.returncode == 1
    assert "nobody" in done.stderr
    assert "Traceback" not in done.stderr
