"""The main job: one real year, end to end, and what its report promises."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from .conftest import Run, alphamesh, run_session
from .test_models import made

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "python_services/market_data/bundled/us_equities_daily.csv.gz"
DOCUMENTED_KEYS = {
    "cycles", "instruments", "signals_by_agent", "orders_by_outcome", "denials_by_reason", "fills", "turnover",
    "fees", "pnl", "sharpe", "max_drawdown", "latency_ms", "services", "final_event_hash",
}  # fmt: skip


FIRST_FILING_NS = int(datetime(2009, 7, 22, tzinfo=UTC).timestamp()) * 10**9


def bars() -> dict[tuple[str, str], dict[str, Decimal]]:
    """The bundled file, read without any of our code."""
    columns = ("Open", "High", "Low", "Close", "Volume")
    with gzip.open(BUNDLED, "rt") as file:
        return {
            (row["Ticker"], row["Date"]): {name: Decimal(row[name]) for name in columns} for row in csv.DictReader(file)
        }


def test_a_real_year_is_traded(process_run: Run) -> None:
    report = process_run.report
    assert report.keys() >= DOCUMENTED_KEYS
    assert report["session"]["state"] == "SUCCEEDED"
    assert 250 <= report["cycles"] <= 254
    assert sorted(report["instruments"]) == ["AAPL", "GOOG", "IBM", "MSFT"]
    assert sum(signals > 0 for signals in report["signals_by_agent"].values()) >= 4
    assert report["orders_by_outcome"]["FILLED"] > 0
    assert report["fills"] == len(report["trades"]) > 0
    for times in report["latency_ms"].values():
        assert 0 <= times["p50"] <= times["p99"]


def test_what_companies_filed_is_spoken_about_once_it_is_filed(local_run: Run) -> None:
    """The first filing of the year's companies is Apple's, of 2009-07-22."""
    spoken: dict[str, set[str]] = {}
    for decision in made(local_run.data_dir):
        for signal in decision.signals:
            if signal.agent_id.startswith("fundamental."):
                names = {decision.instrument_ids[row] for row in signal.instrument_index}
                assert not names or decision.as_of_ns > FIRST_FILING_NS
                spoken.setdefault(signal.agent_id, set()).update(names)
                silent = sum(len(each.instrument_index) for each in signal.abstained)
                assert len(names) + silent == len(decision.instrument_ids)
                assert not names or {*signal.evidence_name} >= {"balance_sheet_age_days"}
    assert set().union(*spoken.values()) == {"AAPL", "GOOG", "IBM", "MSFT"}
    assert {agent for agent, names in spoken.items() if names} == {
        f"fundamental.{name}" for name in ("accruals", "dcf", "growth", "quality", "value")
    }
    assert set(spoken) - {agent for agent, names in spoken.items() if names} == {
        "fundamental.altman",  # nobody is in distress
        "fundamental.piotroski",  # first annual reports lack a third year's assets
    }


def test_both_transports_end_with_the_same_event(local_run: Run, process_run: Run) -> None:
    assert local_run.report["final_event_hash"] == process_run.report["final_event_hash"]
    assert local_run.report["trades"] == process_run.report["trades"]
    assert local_run.report["equity_curve"] == process_run.report["equity_curve"]


def test_the_same_session_again_ends_with_the_same_event(local_run: Run, tmp_path: Path) -> None:
    assert run_session(tmp_path, "--local").report["final_event_hash"] == local_run.report["final_event_hash"]


# Declared by the companies; ex-dates within the demo's year.
DIVIDENDS = {
    ("IBM", "2009-08-06"): "0.55", ("MSFT", "2009-08-18"): "0.13", ("IBM", "2009-11-06"): "0.55",
    ("MSFT", "2009-11-17"): "0.13", ("IBM", "2010-02-08"): "0.55", ("MSFT", "2010-02-16"): "0.13",
    ("IBM", "2010-05-06"): "0.65", ("MSFT", "2010-05-18"): "0.13",
}  # fmt: skip


def test_profit_follows_from_fills_and_dividends_alone(process_run: Run) -> None:
    """P&L = last close x what the fills left, minus what the fills paid, plus what was declared, to the cent."""
    report, prices = process_run.report, bars()
    last_day = report["equity_curve"][-1]["date"]
    cash, held = Decimal(0), dict.fromkeys(report["instruments"], Decimal(0))
    income = Decimal(0)
    happened = [*((trade["date"], 1, trade) for trade in report["trades"]),
                *((day, 0, (name, Decimal(paid))) for (name, day), paid in DIVIDENDS.items())]  # fmt: skip
    for _, fills, one in sorted(happened, key=lambda event: event[:2]):  # an ex-day's dividend before its fills
        if not fills:
            income += held[one[0]] * one[1]
            continue
        sign = 1 if one["side"] == "BUY" else -1
        cash -= sign * Decimal(one["quantity"]) * Decimal(one["price"]) + Decimal(one["fee"])
        held[one["instrument_id"]] += sign * Decimal(one["quantity"])
    assert income == Decimal(report["corporate_action_cash"]) > 0
    assert {(action["instrument_id"], action["date"]) for action in report["corporate_actions"]} == DIVIDENDS.keys()
    cash += income
    value = sum(quantity * prices[name, last_day]["Close"] for name, quantity in held.items())
    assert Decimal(report["pnl"]) == (cash + value).quantize(Decimal("0.01"))
    assert sum(Decimal(trade["fee"]) for trade in report["trades"]) == Decimal(report["fees"])


def test_a_split_changes_no_value(tmp_path: Path) -> None:
    """AAPL 2:1 on 2005-02-28: twice the shares at half the price, and the books still add up."""
    report = run_session(tmp_path, "--local", "--start", "2005-02-01", "--end", "2005-03-31").report
    split = next(action for action in report["corporate_actions"] if action["kind"] == "split")
    assert (split["instrument_id"], split["date"]) == ("AAPL", "2005-02-28")
    assert Decimal(split["new_quantity"]) == 2 * Decimal(split["old_quantity"]) > 0
    assert report["reconciled"]
    equity = [Decimal(point["equity"]) for point in report["equity_curve"]]
    assert all(abs(after / before - 1) < Decimal("0.03") for before, after in itertools.pairwise(equity))


def test_no_fill_uses_the_bar_that_made_its_signal(process_run: Run) -> None:
    """Every fill is on a later day than its decision, at that day's open or worse, within the volume cap."""
    report, prices = process_run.report, bars()
    decided = {f"{report['session']['session_id']}-{number:04d}": point["date"]
               for number, point in enumerate(report["equity_curve"], start=1)}  # fmt: skip
    days = [point["date"] for point in report["equity_curve"]]
    for trade in report["trades"]:
        day = trade["date"]
        assert day == days[days.index(decided[trade["decision_id"]]) + 1]
        bar, price = prices[trade["instrument_id"], day], Decimal(trade["price"])
        if trade["side"] == "BUY":
            assert price > bar["Open"]
        else:
            assert price < bar["Open"]
        assert abs(price / bar["Open"] - 1) < Decimal("0.01")
        assert Decimal(trade["quantity"]) <= bar["Volume"] / 10
        assert Decimal(trade["fee"]) >= 1


def test_weights_stay_inside_the_mandate(process_run: Run) -> None:
    """Long only, at most 35% in one instrument when it is bought, cash never negative."""
    report = process_run.report
    cash, held = Decimal(report["initial_equity"]), dict.fromkeys(report["instruments"], Decimal(0))
    equity = {point["date"]: Decimal(point["equity"]) for point in report["equity_curve"]}
    for trade in report["trades"]:
        sign = 1 if trade["side"] == "BUY" else -1
        quantity, price = Decimal(trade["quantity"]), Decimal(trade["price"])
        cash -= sign * quantity * price + Decimal(trade["fee"])
        held[trade["instrument_id"]] += sign * quantity
        assert cash >= 0
        assert held[trade["instrument_id"]] >= 0
        if trade["side"] == "BUY":
            assert held[trade["instrument_id"]] * price <= equity[trade["date"]] * Decimal("0.37")


def test_explain_shows_the_whole_lineage(process_run: Run) -> None:
    trade = process_run.report["trades"][-1]
    done = alphamesh("explain", trade["decision_id"], "--data-dir", process_run.data_dir, "--json")
    assert done.returncode == 0, done.stderr
    lineage = json.loads(done.stdout)
    text = json.dumps(lineage)
    for part in ("snapshot_id", "technical.trend", "agent_version", "contribution", "target_weight", "verdict",
                 trade["client_order_id"], trade["trade_id"]):  # fmt: skip
        assert part in text, part
    shown = alphamesh("explain", trade["decision_id"], "--data-dir", process_run.data_dir)
    assert shown.returncode == 0
    for part in ("Signals", "Aggregation", "Targets", "Risk", "Orders", "Fills"):
        assert part.lower() in shown.stdout.lower(), part


def test_every_decision_can_be_explained(local_run: Run) -> None:
    done = alphamesh("decisions", "--data-dir", local_run.data_dir, "--json")
    assert done.returncode == 0, done.stderr
    decisions = json.loads(done.stdout)
    listed = decisions["decisions"] if isinstance(decisions, dict) else decisions
    assert len(listed) == local_run.report["cycles"]


def test_explaining_an_unknown_decision_says_so(local_run: Run) -> None:
    done = alphamesh("explain", "nonsense", "--data-dir", local_run.data_dir)
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_risk_parity_trades_too(tmp_path: Path) -> None:
    run = run_session(tmp_path, "--local", "--method", "RISK_PARITY", "--start", "2009-07-01", "--end", "2009-09-30")
    assert run.report["session"]["method"] == "RISK_PARITY"
    assert run.report["fills"] > 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--instruments", "AAPL,TSLA"], "TSLA"),
        (["--instruments", ""], "universe"),
        (["--start", "2019-01-01", "--end", "2019-12-31"], "2013-03-01"),
        (["--start", "2000-03-02", "--end", "2000-03-31"], "lookback_bars"),
        (["--end", "2009-01-01"], "end"),
        (["--cash", "nan"], "cash"),
        (["--cash", "-5"], "cash"),
        (["--data", "/nowhere.csv"], "/nowhere.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_ends_in_one_clear_message(tmp_path: Path, arguments: list[str], named: str) -> None:
    done = alphamesh("session", "--local", "--data-dir", tmp_path / "run", *arguments)
    assert done.returncode not in (0, 130)
    assert named in done.stderr, done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_second_session_in_the_same_data_directory_is_refused(local_run: Run) -> None:
    before = {path: path.read_bytes() for path in local_run.data_dir.rglob("journal.db")}
    done = alphamesh("session", "--local", "--data-dir", local_run.data_dir)
    assert done.returncode == 1
    assert "data-dir" in done.stderr
    after = alphamesh("decisions", "--data-dir", local_run.data_dir, "--json")
    assert local_run.report["session"]["session_id"] in after.stdout
    assert before.keys() == set(local_run.data_dir.rglob("journal.db"))


def test_market_time_is_the_session_clock(local_run: Run) -> None:
    """No event of any service carries a time outside the session's market time."""
    points = [point["ts_ns"] for point in local_run.report["equity_curve"]]
    assert all(later > earlier for earlier, later in itertools.pairwise(points))
    assert all(points[0] < trade["ts_event_ns"] <= points[-1] for trade in local_run.report["trades"])
