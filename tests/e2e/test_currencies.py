"""A session of a dollar account on shares in dollars and in euros, through the command line."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta
from pathlib import Path

import pytest

from .conftest import Run, alphamesh, run_session

DAYS = 125
INSTRUMENTS = """
instruments:
  - {instrument_id: US, currency_code: USD, price_increment: 0.01, size_increment: 1, sector: A}
  - {instrument_id: EU, currency_code: EUR, price_increment: 0.01, size_increment: 1, sector: B}
  - {instrument_id: EURUSD, currency_code: USD, base_currency_code: EUR, price_increment: 0.0001, size_increment: 1}
"""


def write(folder: Path) -> tuple[Path, Path]:
    """Random walks that rise; (bars, instruments)."""
    folder.mkdir()
    draw, prices = random.Random(5), {"US": 100.0, "EU": 50.0, "EURUSD": 1.1}
    moves = {"US": (0.001, 0.012, 2), "EU": (0.0015, 0.014, 2), "EURUSD": (0.0002, 0.005, 4)}
    rows, day, number = ["instrument_id,date,open,high,low,close,volume,adj_close"], date(2023, 1, 2), 0
    while number < DAYS:
        if day.weekday() < 5:
            number += 1
            for name, (drift, deviation, places) in moves.items():
                opened = prices[name]
                prices[name] *= 1 + drift + deviation * draw.gauss(0, 1)
                around = (opened, max(opened, prices[name]), min(opened, prices[name]), prices[name])
                text = ",".join(f"{price:.{places}f}" for price in around)
                rows.append(f"{name},{day},{text},5000000,{prices[name]:.{places}f}")
        day += timedelta(days=1)
    bars, facts = folder / "bars.csv", folder / "instruments.yaml"
    bars.write_text("\n".join(rows) + "\n")
    facts.write_text(INSTRUMENTS)
    return bars, facts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("currencies")
    bars, facts = write(folder / "data")
    return run_session(
        folder, "--local", "--data", str(bars), "--instruments-file", str(facts), "--instruments", "US,EU",
        "--start", "2023-05-01", "--end", "2023-06-20", "--lookback", "70",
    )  # fmt: skip


def test_the_report_adds_up_in_dollars(run: Run) -> None:
    report = run.report
    assert {trade["currency"] for trade in report["trades"]} == {"USD", "EUR"}
    assert {trade["instrument_id"] for trade in report["trades"]} == {"US", "EU"}  # nobody trades the pair
    assert report["reconciled"] is True
    assert report["balances"].keys() == {"USD", "EUR"}
    assert report["denials_by_reason"] == {}
    assert report["risk"]["equity"] == report["equity"]
    assert all("EUR" in tail["absent_reason"] for tail in report["risk"]["tail_risks"])


def test_it_replays_event_for_event_and_its_views_are_right(run: Run) -> None:
    replayed = alphamesh("replay", run.data_dir, "--json")
    content = json.loads(replayed.stdout)
    assert (replayed.returncode, content["equal"], content["difference"]) == (0, True, None)
    verified = alphamesh("verify", "--data-dir", run.data_dir)
    assert verified.returncode == 0, verified.stdout + verified.stderr
