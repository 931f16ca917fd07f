"""No agent sees the future: a year of the bundled data, with everything after each moment changed."""

from __future__ import annotations

import csv
import gzip
import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from python_services.kit.agents import Agent, Window
from python_services.market_data import loading
from python_services.market_data.config import Config, resolve
from python_services.market_data.cutting import cut
from python_services.market_data.history import FOREVER_NS, History
from python_services.market_data.universe import Universe, Universes
from python_services.technical_agent.agents import AGENTS

from .markets import forecast

BARS = "bundled:us_equities_daily.csv.gz"
UNIVERSE = ("AAPL", "MSFT", "IBM", "GOOG")
LOOKBACK = 126
# A day in three weeks, from the middle of 2009 to that of 2010.
FIRST, STEPS, EVERY = "2009-07-01", 17, 15


def universe(file: str) -> Universe:
    data = loading.load(Config(datasets=(file,), instruments="bundled:instruments.yaml"))
    return Universes(History(data)).get(UNIVERSE, FOREVER_NS)


@cache
def real() -> Universe:
    return universe(BARS)


@cache
def lines() -> list[dict[str, str]]:
    text = gzip.decompress(resolve(BARS).read_bytes()).decode()
    return list(csv.DictReader(text.splitlines()))


def days() -> list[str]:
    every = sorted({line["Date"] for line in lines() if line["Date"] >= FIRST})
    return every[: STEPS * EVERY : EVERY]


def with_another_future(after: str, folder: Path) -> Universe:
    """The data as it would be had everything after that day come differently, splits and dividends as well."""
    rng = np.random.default_rng(int(after.replace("-", "")))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines()[0]), lineterminator="\n")
    writer.writeheader()
    # A later split or dividend rescales adjusted closes of all time.
    rescaled = {name: float(rng.uniform(0.3, 3.0)) for name in (*UNIVERSE, "FB")}
    for line in lines():
        row = line | {"Adj Close": f"{float(line['Adj Close']) * rescaled[line['Ticker']]:.13g}"}
        if line["Date"] > after:
            scale = float(rng.uniform(0.5, 2.0))
            row |= {name: f"{max(float(line[name]) * scale, 0.01):.2f}" for name in ("Open", "High", "Low", "Close")}
            row["Volume"] = str(int(float(line["Volume"]) * rng.uniform(0.1, 9.0)))
            row["Adj Close"] = f"{float(row['Adj Close']) * float(rng.uniform(0.5, 2.0)):.13g}"
        writer.writerow(row)
    file = folder / f"{after}.csv"
    file.write_text(text.getvalue(), encoding="utf-8")
    return universe(str(file))


def seen_at(known: Universe, as_of_ns: int) -> Window:
    found = cut(known, as_of_ns, LOOKBACK)
    return Window(
        as_of_ns,
        found.ts_event_ns,
        *(np.ascontiguousarray(found.columns[name]) for name in ("open", "high", "low", "close", "volume")),
    )


@cache
def windows(folder: Path) -> list[tuple[Window, Window, Window]]:
    """At each moment: with the real future, with another, and with the moment two weeks later."""
    made = []
    for day in days():
        other = with_another_future(day, folder)
        moment = int(np.datetime64(f"{day}T21:00:00", "ns").astype(np.int64))
        later = moment + 14 * 86_400 * 10**9
        assert not np.array_equal(seen_at(real(), later).close, seen_at(other, later).close)
        made.append((seen_at(real(), moment), seen_at(other, moment), seen_at(real(), later)))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("futures")


@pytest.mark.parametrize("agent", AGENTS, ids=[agent.agent_id for agent in AGENTS])
def test_another_future_changes_no_forecast(agent: Agent[Window], folder: Path) -> None:
    spoke = changed = 0
    for real_one, other, later in windows(folder):
        found, same, next_one = (forecast(agent, each) for each in (real_one, other, later))
        assert found.index.tolist() == same.index.tolist()
        assert found.abstentions == same.abstentions
        for name in ("volatility", "confidence", "expected_return"):
            ours, theirs = getattr(found, name), getattr(same, name)
            assert (ours is None) == (theirs is None)
            assert ours is None or ours.tobytes() == theirs.tobytes()
        for name, values in found.evidence.items():
            assert values.tobytes() == same.evidence[name].tobytes()
        spoke += len(found.index)
        changed += found.volatility.tobytes() != next_one.volatility.tobytes()
    # The test can fail: most agents speak, and what they say two weeks later is something else.
    assert changed > 0 or spoke == 0
    assert spoke > 0 or agent.agent_id == "technical.pairs"
