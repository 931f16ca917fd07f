"""Nothing that happens after as_of can influence a snapshot."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from python_services.kit.journal import Journal
from python_services.market_data import dataset, instruments, reading
from python_services.market_data.history import History
from python_services.market_data.store import SnapshotStore
from python_services.market_data.watermarks import Watermarks
from tests.unit.python_services.market_data.files import INSTRUMENTS, NAMES, csv

DAYS = [f"2009-{month:02}-{day:02}" for month in (6, 7) for day in range(1, 13)]


def random_bars(seed: int, days: list[str]) -> list[str]:
    """Bars of some instruments on some days, with arbitrary prices and adjustments."""
    random = np.random.default_rng(seed)
    lines = []
    for name in NAMES:
        chance = random.choice([0.0, 0.3, 1.0])
        for day in days:
            if random.random() < chance:
                prices = np.sort(random.integers(500, 5_000, 4))
                low, first, last, high = (f"{cents / 100:.2f}" for cents in prices.tolist())
                opening, close = (first, last) if random.random() < 0.5 else (last, first)
                adjusted = float(close) * random.uniform(0.1, 2.0)
                lines.append(f"{name},{day},{opening},{high},{low},{close},{random.integers(10**6)},{adjusted!r}")
    return lines


def snapshot_id(journal: Journal, lines: list[str], asked: tuple[str, ...], as_of_ns: int) -> str:
    """Id of the snapshot that a service with these rows cuts."""
    specs, session = instruments.parse(INSTRUMENTS, "instruments.yaml")
    rows = reading.parse(csv(lines), "bars.csv", NAMES)
    data = dataset.build(rows, specs, session, sha256="0" * 64, where=("bars.csv",))
    store = SnapshotStore(History(data), Watermarks(), journal, retained=10**6)
    return store.cut(as_of_ns, asked, 10).snapshot_id


def test_the_future_is_not_inside(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", "market_data", "0", lambda _error: None)

    @settings(max_examples=60, deadline=None)
    @given(
        past=st.integers(0, 2**32),
        future=st.integers(0, 2**32),
        other=st.integers(0, 2**32),
        cut=st.integers(1, len(DAYS) - 1),
        scale=st.sampled_from([1.0, 0.5, 28.0, 1 / 1.0063]),
    )
    def check(past: int, future: int, other: int, cut: int, scale: float) -> None:
        known = random_bars(past, DAYS[:cut])
        asked = tuple(dict.fromkeys(text.partition(",")[0] for text in known))
        assume(asked)
        last_day = max(text.split(",")[1] for text in known)
        as_of_ns = int(datetime.fromisoformat(f"{last_day}T20:00:00+00:00").timestamp()) * 10**9
        # A source that knows of a later action has scaled every adj_close of the past.
        rescaled = [f"{text.rpartition(',')[0]},{float(text.rpartition(',')[2]) * scale!r}" for text in known]
        later, quite_other = random_bars(future, DAYS[cut:]), random_bars(other, DAYS[cut:])
        versions = (known, known + later, quite_other + known, rescaled + quite_other)
        assert len({snapshot_id(journal, lines, asked, as_of_ns) for lines in versions}) == 1

    check()
    journal.close()
