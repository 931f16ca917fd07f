"""Texts against a twin that searches all it ever got: in any order of arrival, and whatever becomes known later."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit.journal import Event, Journal
from python_services.kit.texts import decode
from python_services.market_data import texts as logic
from python_services.market_data.history import History
from python_services.market_data.store import SnapshotStore
from python_services.market_data.watermarks import Watermarks
from tests.unit.python_services.market_data.files import NAMES, load, row

E9 = 10**9
HOUR_NS = 3_600 * E9
START_NS = 1_246_392_000 * E9  # after the last bar
ASKED = (NAMES[1], NAMES[0])
Text = marketdata_pb2.Text


@st.composite
def arrivals(draw: st.DrawFn) -> list[Text]:
    """Texts with distinct keys over fifty days; many at one moment, so that ties must be broken."""
    keys = draw(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 20)), unique=True, max_size=25))
    moments = st.integers(1, 50).map(lambda day: START_NS + day * 24 * HOUR_NS)
    named = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
    return [
        Text(
            text_id=str(number),
            source=source,
            instrument_ids=draw(named),
            ts_event_ns=START_NS,
            known_at_ns=draw(moments),
            text=draw(st.text(min_size=1).filter(str.strip)),
        )
        for source, number in keys
    ]


class Service:
    """What market_data keeps, without its messages' transport."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal.db", "market_data", "0", lambda _error: None)
        self.history, self.watermarks = History(load(row(name, "2009-06-30", 10) for name in NAMES)), Watermarks()
        self.store = self.again()

    def again(self) -> SnapshotStore:
        """As after a restart."""
        asyncio.run(self.journal.commit())
        return SnapshotStore(self.history, self.watermarks, self.journal, retained=10**6)

    def ingest(self, texts: Sequence[Text]) -> int:
        """How many were new."""
        request = marketdata_pb2.IngestTextsRequest(request_id=str(uuid.uuid4()), texts=texts)
        event, _ = logic.prepare(request, self.store.texts, self.history, self.watermarks, 10**6)
        logic.apply(event, self.store.texts, self.history)
        self.journal.add([Event(payload=event, ts_event_ns=1, ts_init_ns=1)])
        return len(event.texts)


@contextmanager
def service() -> Iterator[Service]:
    """One with a journal of its own."""
    with tempfile.TemporaryDirectory() as folder:
        running = Service(Path(folder))
        yield running
        running.journal.close()


def twin(texts: Sequence[Text], as_of_ns: int) -> list[tuple[int, str, str, int, int, str]]:
    """Rows of GetTexts, by the words of the contract."""
    return sorted(
        (
            (ASKED.index(name), text.source, text.text_id, text.ts_event_ns, text.known_at_ns, text.text)
            for text in texts
            for name in text.instrument_ids
            if name in ASKED and as_of_ns - 30 * 24 * HOUR_NS <= text.known_at_ns <= as_of_ns
        ),
        key=lambda line: (line[4], line[1], line[2], line[0]),
    )


@settings(max_examples=100, deadline=None)
@given(texts=arrivals(), order=st.randoms(use_true_random=False), day=st.integers(0, 60))
def test_what_becomes_known_later_changes_no_byte(texts: list[Text], order: object, day: int) -> None:
    as_of_ns = START_NS + day * 24 * HOUR_NS
    before = [text for text in texts if text.known_at_ns <= as_of_ns]
    after = [text for text in texts if text.known_at_ns > as_of_ns]
    found = []
    for early in (True, False):
        with service() as running:
            arriving = list(before if early else texts)
            order.shuffle(arriving)  # type: ignore[attr-defined]
            half = len(arriving) // 2
            for part in (arriving[:half], arriving[half:]):
                assert running.ingest(part) == len(part)
                assert running.ingest(part) == 0
                running.store.texts.cut(ASKED, as_of_ns)  # what is asked in between has no influence
            header = running.store.cut(as_of_ns, ASKED, 4)
            assert header.HasField("texts_sha256") == bool(before)
            content = running.store.get_texts(header.snapshot_id) if before else None
            if early:
                assert running.ingest(after) == len(after)
            again = running.again()
            assert again.cut(as_of_ns, ASKED, 4) == header
            assert content is None or again.get_texts(header.snapshot_id) == content
            found.append((header.snapshot_id, content))
    assert found[0] == found[1]
    if content is not None:
        rows = decode(content)
        columns = (rows.instrument_index.tolist(), rows.source.to_pylist(), rows.text_id.to_pylist())
        times = (rows.ts_event_ns.tolist(), rows.known_at_ns.tolist(), rows.text.to_pylist())
        assert list(zip(*columns, *times, strict=True)) == twin(before, as_of_ns)
