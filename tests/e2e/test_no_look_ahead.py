"""No look-ahead, of the whole system: with every later bar, fact and text altered, not one earlier decision changes."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from .conftest import alphamesh, run_session

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "python_services/market_data/bundled"
END = "2009-10-30"
PRICES = ("Open", "High", "Low", "Close", "Adj Close")
TEXTS = (
    ("2009-07-20", ["AAPL"], "Apple sells more of its phones than anybody had expected"),
    ("2009-08-11", ["MSFT", "IBM"], "Orders for servers fall again, and margins with them"),
    ("2009-10-16", ["GOOG"], "Google earns a quarter more than a year before and hires again"),
)
Row = dict[str, str]


def altered(source: Path, target: Path, day: str, change: Callable[[Row], None]) -> Path:
    """A copy in which `change` was done to every row after END; the rows before stay as they are."""
    with gzip.open(source, "rt", newline="") as file:
        reader = csv.DictReader(file)
        rows, names = list(reader), reader.fieldnames
    touched = [row for row in rows if row[day] > END]
    assert len(touched) > 100
    for row in touched:
        change(row)
    with gzip.open(target, "wt", newline="") as file:
        writer = csv.DictWriter(file, names or [])
        writer.writeheader()
        writer.writerows(rows)
    return target


def arguments(folder: Path, bars: Path, facts: Path, texts: list[tuple[str, list[str], str]]) -> list[str]:
    """Of a session on these files."""
    config = {"datasets": ["unused"], "instruments": "unused", "facts": str(facts)}
    services = {"market_data": {"sensitivity": "public", "config": config}}
    (folder / "topology.yaml").write_text(yaml.safe_dump({"version": 1, "extends": "default", "services": services}))
    lines = [
        {"text_id": str(n), "source": "newswire", "instrument_ids": names, "published_at": f"{day}T12:00:00+00:00",
         "text": text}
        for n, (day, names, text) in enumerate(texts)
    ]  # fmt: skip
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [
        "--local", "--end", END, "--data", str(bars), "--instruments-file", str(BUNDLED / "instruments.yaml"),
        "--topology", str(folder / "topology.yaml"), "--texts", str(folder / "texts.jsonl"),
    ]  # fmt: skip


def test_the_future_changes_no_decision_of_any_agent(tmp_path: Path) -> None:
    random = np.random.default_rng(5)

    def other_bar(row: Row) -> None:
        factor = float(random.uniform(0.5, 2.0))
        for name in PRICES:
            row[name] = f"{max(float(row[name]) * factor, 0.05):.2f}"
        row["Volume"] = str(round(float(row["Volume"]) * factor) + 100)

    def other_fact(row: Row) -> None:
        row["value"] = str(-3 * int(row["value"]) + 7)

    known, changed = tmp_path / "known", tmp_path / "changed"
    known.mkdir()
    changed.mkdir()
    bars, facts = BUNDLED / "us_equities_daily.csv.gz", BUNDLED / "sec_facts.csv.gz"
    first = run_session(known, *arguments(known, bars, facts, list(TEXTS)))
    later = [("2009-11-02", ["AAPL"], "Everything is lost"), ("2010-01-04", ["IBM"], "Nothing is left")]
    second = run_session(
        changed,
        *arguments(
            changed,
            altered(bars, changed / "bars.csv.gz", "Date", other_bar),
            altered(facts, changed / "facts.csv.gz", "filed", other_fact),
            [*TEXTS, *later],
        ),
    )
    spoke = {agent for agent, count in first.report["signals_by_agent"].items() if count}
    assert {agent.partition(".")[0] for agent in spoke} == {"technical", "fundamental", "sentiment", "learned"}
    assert second.report["signals_by_agent"] == first.report["signals_by_agent"]
    # The last event of the coordinator's chain vouches for every decision before it.
    assert second.report["final_event_hash"] == first.report["final_event_hash"]
    assert second.report["trades"] == first.report["trades"]


def test_the_same_test_sees_a_past_that_is_another(tmp_path: Path) -> None:
    """One bar before the end is enough: the test above can fail."""

    def other_bar(row: Row) -> None:
        row["Volume"] = str(float(row["Volume"]) + 100)

    bars = BUNDLED / "us_equities_daily.csv.gz"
    with gzip.open(bars, "rt", newline="") as file:
        days = sorted({row["Date"] for row in csv.DictReader(file)})
    cut = days[days.index(END) - 1]
    source = tmp_path / "bars.csv.gz"
    with gzip.open(bars, "rt", newline="") as file, gzip.open(source, "wt", newline="") as copy:
        reader = csv.DictReader(file)
        writer = csv.DictWriter(copy, reader.fieldnames or [])
        writer.writeheader()
        for row in reader:
            if row["Date"] == cut:
                other_bar(row)
            writer.writerow(row)
    facts = BUNDLED / "sec_facts.csv.gz"
    hashes = []
    for name, data in (("a", bars), ("b", source)):
        folder = tmp_path / name
        folder.mkdir()
        hashes.append(run_session(folder, *arguments(folder, data, facts, list(TEXTS))).report["final_event_hash"])
    assert hashes[0] != hashes[1]
    assert alphamesh("topology", "--topology", tmp_path / "a" / "topology.yaml").returncode == 0
