"""Bars with two times against a twin that looks at every version it ever got, in any order of arrival."""

from __future__ import annotations

import itertools
import random
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit import snapshots
from python_services.kit.journal import Event, Journal
from python_services.market_data import actions, ingestion
from python_services.market_data.history import FOREVER_NS, History
from python_services.market_data.store import SnapshotStore
from python_services.market_data.watermarks import Watermarks
from tests.unit.python_services.market_data.files import NAMES, load, row

E9 = 10**9
DAYS = [f"2009-07-{day:02}" for day in range(6, 11)]
LOADED = [(name, day) for name in ("A", "B") for day in DAYS[:3] if (name, day) != ("B", DAYS[1])]
CLOSES = [int(datetime.fromisoformat(f"{day}T20:00:00").replace(tzinfo=UTC).timestamp()) * E9 for day in DAYS]
SESSION_NS = 23_400 * E9
HOUR_NS = 3_600 * E9
LAST_NS = CLOSES[-1] + 100 * HOUR_NS


@dataclass(frozen=True)
class Version:
    """What a source says about a bar. `step` and `split` are None where it says nothing."""

    name: str
    close_ns: int
    known_ns: int
    cents: int
    step: float | None
    split: float | None


class Twin:
    """Keeps every version in a list and searches it."""

    def __init__(self, versions: Sequence[Version]) -> None:
        loaded = [Version(n, CLOSES[DAYS.index(d)], CLOSES[DAYS.index(d)], 1000, 1.0, 1.0) for n, d in LOADED]
        # Of two that are known since the same moment there is only the loaded one and what came in after it.
        self._versions = loaded + list(versions)

    def as_known(self, name: str, known_ns: int) -> dict[int, tuple[int, int, float, float]]:
        """By close: (known since, close in cents, step, split)."""
        found: dict[int, tuple[int, int, float, float]] = {}
        for close_ns in CLOSES:
            seen = [v for v in self._versions if (v.name, v.close_ns) == (name, close_ns) and v.known_ns <= known_ns]
            seen.sort(key=lambda v: v.known_ns)
            if seen:
                steps = [v.step for v in seen if v.step is not None]
                splits = [v.split for v in seen if v.split is not None]
                newest = seen[-1]
                last = (steps or [1.0])[-1], (splits or [1.0])[-1]
                found[close_ns] = (newest.known_ns, newest.cents, *last)
        return found


@st.composite
def arrivals(draw: st.DrawFn) -> list[Version]:
    """Versions with distinct keys, none known together with a loaded bar."""
    keys = draw(
        st.lists(
            st.tuples(st.sampled_from(NAMES), st.sampled_from(range(len(DAYS))), st.integers(1, 90)),
            unique=True,
            max_size=25,
        )
    )
    factor = st.sampled_from([None, None, 1.0, 2.0, 1.01])
    return [
        Version(n, CLOSES[d], CLOSES[d] + h * HOUR_NS, draw(st.integers(500, 5000)), draw(factor), draw(factor))
        for n, d, h in keys
    ]


class Service:
    """What market_data keeps, without its messages' transport."""

    def __init__(self, folder: Path, loaded: Sequence[str] = tuple(row(n, d, 10) for n, d in LOADED)) -> None:
        self.journal = Journal(folder / "journal.db", "market_data", "0", lambda _error: None)
        self.history, self.watermarks = History(load(loaded)), Watermarks()
        self.store = SnapshotStore(self.history, self.watermarks, self.journal, retained=10**6)

    def ingest(self, versions: Sequence[Version], stream: str = "vendor") -> tuple[int, int]:
        """(accepted, duplicates)."""
        request = marketdata_pb2.IngestBarsRequest(request_id=str(uuid.uuid4()), stream=stream)
        for version in versions:
            price = version.cents * E9 // 100
            request.bars.add(
                instrument_id=version.name,
                ts_event_ns=version.close_ns,
                ts_open_ns=version.close_ns - SESSION_NS,
                known_at_ns=version.known_ns,
                open_e9=price,
                high_e9=price,
                low_e9=price,
                close_e9=price,
                volume_e9=1000 * E9,
                adjustment_step=version.step,
                split_ratio=version.split,
            )
        event, duplicates = ingestion.prepare(request, self.history, self.watermarks, 10**6)
        ingestion.apply(event, self.history, self.watermarks)
        self.journal.add([Event(payload=event, ts_event_ns=1, ts_init_ns=1)])
        return len(event.ts_event_ns), duplicates

    def as_known(self, name: str, known_ns: int) -> dict[int, tuple[int, int, float, float]]:
        """As the twin's."""
        bars = self.history.bars(self.history.rows([name]), known_ns, -FOREVER_NS, known_ns)
        return {
            int(bars.close_ns[day]): (
                int(bars.known_at_ns[0, day]),
                int(bars.exact["close"][0, day]) * 100 // E9,
                float(bars.step[0, day]),
                float(bars.split_step[0, day]),
            )
            for day in np.flatnonzero(bars.present[0])
        }


@contextmanager
def service() -> Iterator[Service]:
    """One with a journal of its own."""
    with tempfile.TemporaryDirectory() as folder:
        running = Service(Path(folder))
        yield running
        running.journal.close()


def batches(versions: Sequence[Version], order: random.Random) -> list[tuple[str, list[Version]]]:
    """The versions shuffled, cut into batches of several streams."""
    shuffled = order.sample(versions, len(versions))
    cuts = sorted({0, len(shuffled), *(order.randrange(len(shuffled) + 1) for _ in range(3))})
    return [(order.choice(["vendor", "desk"]), shuffled[a:b]) for a, b in itertools.pairwise(cuts)]


@settings(max_examples=150, deadline=None)
@given(versions=arrivals(), order=st.randoms(use_true_random=False), moments=st.lists(st.integers(CLOSES[0], LAST_NS)))
def test_any_order_of_arrival_gives_the_answers_of_the_twin(
    versions: list[Version], order: random.Random, moments: list[int]
) -> None:
    twin = Twin(versions)
    with service() as running:
        for stream, batch in batches(versions, order):
            assert running.ingest(batch, stream) == (len(batch), 0)
            assert running.ingest(batch, stream) == (0, len(batch))  # a repetition changes nothing
        for known_ns in (*CLOSES, *moments, *(v.known_ns for v in versions), LAST_NS):
            for name in NAMES:
                assert running.as_known(name, known_ns) == twin.as_known(name, known_ns)


@settings(max_examples=80, deadline=None)
@given(versions=arrivals(), first=st.randoms(use_true_random=False), day=st.integers(2, 4), hour=st.integers(0, 80))
def test_what_becomes_known_later_changes_no_byte_of_a_snapshot(
    versions: list[Version], first: random.Random, day: int, hour: int
) -> None:
    """Cut before it arrives and after, by services that got everything in different orders, and cut again."""
    as_of_ns = CLOSES[day] + hour * HOUR_NS
    before = [version for version in versions if version.known_ns <= as_of_ns]
    after = [version for version in versions if version.known_ns > as_of_ns]
    contents = []
    for early in (True, False):
        with service() as running:
            # The same streams for the same versions: the header counts by stream.
            for batch in batches(before if early else versions, first):
                running.ingest(batch[1])
            header = running.store.cut(as_of_ns, ("B", "A"), 4)
            if early:
                running.ingest(after)
            again = SnapshotStore(running.history, running.watermarks, running.journal, retained=10**6)
            found = again.cut(as_of_ns, ("B", "A"), 4)
            assert found == header
            response = again.get(header.snapshot_id)
            snapshot = snapshots.decode(header.snapshot_id, response.arrow_ipc)
            contents.append((header.snapshot_id, response.arrow_ipc))
    assert contents[0] == contents[1]
    twin = Twin(versions)
    for column, name in enumerate(("B", "A")):
        known = twin.as_known(name, as_of_ns)
        newest = max(known)
        assert snapshot.marks_e9[column] == known[newest][1] * E9 // 100
        assert snapshot.mark_ts_ns[column] == newest
        for place, close_ns in enumerate(snapshot.ts_event_ns.tolist()):
            later = [known[c][2] for c in known if c > close_ns]
            wanted = known[close_ns][1] / 100 / np.prod(later) if close_ns in known else np.nan
            np.testing.assert_allclose(snapshot.close[place, column], wanted, rtol=1e-12)


def acted(history: History, rows: np.ndarray, after_ns: int, until_ns: int) -> list[tuple[object, ...]]:
    """Corporate actions, from the bars of all of `rows`."""
    names = [NAMES[row] for row in rows.tolist()]
    bars = history.bars(rows, until_ns, after_ns - 30 * 24 * HOUR_NS, until_ns)
    found = actions.actions(bars, names, [10_000_000] * len(names), after_ns)
    return [(a.action_id, names[a.row], a.ts_event_ns, a.split, a.price_after_e9, a.dividend_e9) for a in found]


@settings(max_examples=150, deadline=None)
@given(versions=arrivals(), first=st.integers(-1, 3), days=st.integers(1, 4), hour=st.integers(0, 90))
def test_who_cannot_have_acted_need_not_be_looked_at(versions: list[Version], first: int, days: int, hour: int) -> None:
    after_ns = CLOSES[first] + hour * HOUR_NS if first >= 0 else CLOSES[0] - 1
    until_ns = after_ns + days * 24 * HOUR_NS
    loaded = [row("A", DAYS[0], 40, adj=20), row("A", DAYS[1], 20, adj=20), *(row("B", day, 10) for day in DAYS[:3])]
    with tempfile.TemporaryDirectory() as folder:
        running = Service(Path(folder), loaded)
        running.ingest(versions)
        history, rows = running.history, np.arange(len(NAMES))
        looked_at = history.acting(rows, after_ns, until_ns)
        assert acted(history, looked_at, after_ns, until_ns) == acted(history, rows, after_ns, until_ns)
        stepped = {v.name for v in versions if v.step not in (None, 1.0)}
        in_range = after_ns < CLOSES[1] <= until_ns
        assert {NAMES[place] for place in looked_at.tolist()} == stepped | ({"A"} if in_range else set())
        running.journal.close()
