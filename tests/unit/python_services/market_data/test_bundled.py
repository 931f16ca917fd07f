"""The bundled data set: what it holds, checked against the file itself with the standard library only."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections import defaultdict
from functools import cache

import numpy as np
import pytest

from python_services.market_data import loading
from python_services.market_data.config import Config, resolve
from python_services.market_data.cutting import cut
from python_services.market_data.dataset import Dataset
from python_services.market_data.findings import count_by_kind
from python_services.market_data.history import FOREVER_NS, History
from python_services.market_data.universe import Universes

BARS = "bundled:us_equities_daily.csv.gz"


@cache
def data() -> Dataset:
    return loading.load(Config(datasets=(BARS,), instruments="bundled:instruments.yaml"))


@cache
def raw() -> dict[str, list[dict[str, str]]]:
    series = defaultdict(list)
    for line in csv.DictReader(gzip.decompress(resolve(BARS).read_bytes()).decode().splitlines()):
        series[line["Ticker"]].append(line)
    return series


def test_it_is_the_file_the_licence_note_is_about() -> None:
    digest = hashlib.sha256(resolve(BARS).read_bytes()).hexdigest()
    note = resolve("bundled:LICENSE-us_equities_daily.json").read_text(encoding="utf-8")
    assert digest in note
    assert "public domain" in note


def test_every_price_is_exact() -> None:
    for row, spec in enumerate(data().instruments):
        lines = raw()[spec.instrument_id]
        assert data().present[row].sum() == len(lines)
        for name in ("open", "high", "low", "close", "volume"):
            ours = data().bars[name][row][data().present[row]].tolist()
            exact = [line[name.capitalize()].partition(".") for line in lines]
            assert ours == [int(whole) * 10**9 + int(part.ljust(9, "0")) for whole, _, part in exact]


def test_findings() -> None:
    assert count_by_kind(data().findings) == {"DIVIDEND": 92, "OFF_TICK": 1325, "SPLIT": 3}
    days = {spec.instrument_id: [line["Date"] for line in raw()[spec.instrument_id]] for spec in data().instruments}
    splits = [
        (f.instrument_id, str(np.datetime64("1970-01-01") + f.day), f.detail.partition(": ")[0])
        for f in data().findings
        if f.kind == "SPLIT"
    ]
    assert splits == [("AAPL", "2000-06-21", "2:1"), ("AAPL", "2005-02-28", "2:1"), ("MSFT", "2003-02-18", "2:1")]
    assert all(day in days[name] for name, day, _ in splits)


@pytest.mark.parametrize("name", ["AAPL", "FB", "GOOG", "IBM", "MSFT"])
def test_returns_are_those_of_adj_close(name: str) -> None:
    universe = Universes(History(data())).get((name,), FOREVER_NS)
    closes = cut(universe, int(universe.close_ns[-1]), 5000).columns["close"][:, 0]
    adjusted = np.array([float(line["Adj Close"]) for line in raw()[name]])
    np.testing.assert_allclose(closes[1:] / closes[:-1], adjusted[1:] / adjusted[:-1], rtol=3e-9)
    assert closes[-1] == float(raw()[name][-1]["Close"])


def test_newest_prices_are_those_that_were_traded() -> None:
    universe = Universes(History(data())).get(("AAPL",), FOREVER_NS)
    day = int(np.searchsorted(universe.close_ns, 1_246_478_400 * 10**9))  # 2009-07-01, 16:00 in New York
    result = cut(universe, int(universe.close_ns[day]), 126)
    assert result.columns["close"][-1, 0] == 142.83
    assert result.marks_e9 == [142_830_000_000]
    assert str(np.datetime64(int(universe.close_ns[day]), "ns"))[:19] == "2009-07-01T20:00:00"
