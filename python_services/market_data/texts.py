"""Texts about instruments: taking them in, and showing those that a snapshot knows.

As with bars, a request is checked completely, then all of it is an event, or nothing is; and nothing may claim to have
been known at a moment that is sealed, so what a snapshot shows is the same whenever it is asked.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alphamesh.marketdata.v1 import events_pb2, marketdata_pb2
from python_services.kit import texts as encoding
from python_services.kit.config import ConfigError
from python_services.kit.errors import ServiceError, invalid, not_found, precondition
from python_services.kit.ids import content_id

from .history import History
from .sessions import describe
from .watermarks import Watermarks

WINDOW_NS = 30 * 86_400 * 10**9  # how long before a cut a text may have become known to be shown
KEPT = 4  # answers

_COLUMNS = pa.schema([("row", pa.int64()), *[field for field in encoding.SCHEMA if field.name != "instrument_index"]])
_ORDER = [("known_at_ns", "ascending"), ("source", "ascending"), ("text_id", "ascending")]


@dataclass(frozen=True, kw_only=True)
class TextsCut:
    """An answer of GetTexts, and its hash."""

    sha256: str
    content: bytes


class TextLog:
    """All texts that came in. What is shown as of a moment does not depend on the order of arrival.

    Columns have a row per text and instrument, ascending by known_at_ns, source and text_id.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._digests: dict[tuple[str, str], bytes] = {}
        self._columns = pa.RecordBatch.from_pylist([], schema=_COLUMNS)
        self._arrived: list[marketdata_pb2.Text] = []
        self._rows = np.empty(0, dtype=np.int64)
        self._known = np.empty(0, dtype=np.int64)
        self._texts = np.empty(0, dtype=np.int64)  # number of the text of each row
        self._earliest_ns: int | None = None
        self._answers: OrderedDict[tuple[int, int, tuple[str, ...]], TextsCut] = OrderedDict()

    def __len__(self) -> int:
        return len(self._digests)

    def find(self, text: marketdata_pb2.Text) -> bytes | None:
        """The digest of the text with the same source and text_id; None when there is none."""
        return self._digests.get((text.source, text.text_id))

    def append(self, texts: Iterable[marketdata_pb2.Text]) -> None:
        """Adds texts that are not held yet."""
        for text in texts:
            self._digests[text.source, text.text_id] = digest(text)
            self._arrived.append(text)
            if self._earliest_ns is None or text.known_at_ns < self._earliest_ns:
                self._earliest_ns = text.known_at_ns
        self._answers.clear()

    def cut(self, instrument_ids: tuple[str, ...], as_of_ns: int) -> TextsCut | None:
        """What GetTexts answers; None when no text at all was known by then."""
        if self._earliest_ns is None or as_of_ns < self._earliest_ns:
            return None
        self._sort()
        first = int(np.searchsorted(self._known, as_of_ns - WINDOW_NS, side="left"))
        end = int(np.searchsorted(self._known, as_of_ns, side="right"))
        key = first, end, instrument_ids
        found = self._answers.get(key)
        if found is None:
            content = self._content(first, end, instrument_ids)
            found = self._answers[key] = TextsCut(sha256=content_id(content), content=content)
        self._answers.move_to_end(key)
        while len(self._answers) > KEPT:
            self._answers.popitem(last=False)
        return found

    def _content(self, first: int, end: int, instrument_ids: tuple[str, ...]) -> bytes:
        place = np.full(len(self._history.dataset.instruments), -1, dtype=np.int64)
        place[self._history.rows(instrument_ids)] = np.arange(len(instrument_ids))
        index = place[self._rows[first:end]]
        found = np.flatnonzero(index >= 0)
        found = found[np.lexsort((index[found], self._texts[first + found]))]
        batch = self._columns.take(pa.array(first + found))
        columns = {name: batch.column(name) for name in batch.schema.names}
        columns["instrument_index"] = pa.array(index[found], type=pa.uint32())
        shown = [columns[field.name] for field in encoding.SCHEMA]
        return encoding.encode(pa.record_batch(shown, schema=encoding.SCHEMA))

    def _sort(self) -> None:
        if not self._arrived:
            return
        rows = [
            {"row": self._history.row(name), **{field: getattr(text, field) for field in _COLUMNS.names[1:]}}
            for text in self._arrived
            for name in text.instrument_ids
        ]
        arrived = pa.Table.from_pylist(rows, schema=_COLUMNS).sort_by(_ORDER)
        in_order = not len(self._known) or arrived.column("known_at_ns")[0].as_py() > int(self._known[-1])
        joined = pa.concat_tables([pa.Table.from_batches([self._columns]), arrived])
        (self._columns,) = (joined if in_order else joined.sort_by(_ORDER)).combine_chunks().to_batches()
        self._rows = self._columns.column("row").to_numpy()
        self._known = self._columns.column("known_at_ns").to_numpy()
        source, text_id = self._columns.column("source"), self._columns.column("text_id")
        same = pc.and_(pc.equal(source[1:], source[:-1]), pc.equal(text_id[1:], text_id[:-1]))
        self._texts = np.concatenate([[0], np.cumsum(~same.to_numpy(zero_copy_only=False))])
        self._arrived = []


def digest(text: marketdata_pb2.Text) -> bytes:
    """Sha256 of all that a text says; the order of its instruments says nothing."""
    canonical = marketdata_pb2.Text()
    canonical.CopyFrom(text)
    canonical.instrument_ids[:] = sorted(text.instrument_ids)
    return hashlib.sha256(canonical.SerializeToString(deterministic=True)).digest()


def prepare(
    request: marketdata_pb2.IngestTextsRequest, log: TextLog, history: History, watermarks: Watermarks, limit: int
) -> tuple[events_pb2.TextsIngested, int]:
    """(event with what is new, number of repetitions). Nothing is changed yet.

    Raises ServiceError: NOT_FOUND, INVALID_ARGUMENT, FAILED_PRECONDITION (LATE_KNOWLEDGE, TEXT_CONFLICT),
    RESOURCE_EXHAUSTED (INGESTED_TEXTS_LIMIT).
    """
    new: dict[tuple[str, str], tuple[int, bytes]] = {}
    for i, text in enumerate(request.texts):
        for name in text.instrument_ids:
            if history.row(name) < 0:
                raise not_found("instrument", name, f"texts[{i}] names it; ListInstruments names the known ones")
        if not text.text.strip():
            raise invalid(f"texts[{i}].text", "holds no words", "leave the text out")
        says, key = digest(text), (text.source, text.text_id)
        said = log.find(text) or (new[key][1] if key in new else None)
        if said is None:
            new[key] = (i, says)
        elif said != says:
            raise precondition(
                "TEXT_CONFLICT",
                f"texts[{i}]: another text of {text.source} has the text_id {text.text_id!r}; a correction is a text "
                "with an id and a known_at_ns of its own",
                field=f"texts[{i}].text_id",
                source=text.source,
                text_id=text.text_id,
            )
    for i, _ in new.values():
        _check_sealed(i, request.texts[i].known_at_ns, watermarks.sealed_ns)
    if len(log) + len(new) > limit:
        raise ServiceError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "INGESTED_TEXTS_LIMIT",
            f"{len(log)} texts are held and {len(new)} more would pass the limit of {limit}; raise "
            "ingested_texts_limit in the configuration of market_data, or begin a new data directory",
            metadata={"held": str(len(log)), "limit": str(limit)},
        )
    event = events_pb2.TextsIngested(texts=[request.texts[i] for i, _ in new.values()])
    return event, len(request.texts) - len(new)


def apply(event: events_pb2.TextsIngested, log: TextLog, history: History) -> None:
    """Makes an event part of what is known, now or after a start. Raises ConfigError for an unknown instrument."""
    for text in event.texts:
        for name in text.instrument_ids:
            if history.row(name) < 0:
                raise ConfigError(
                    f"the journal holds texts about {name!r}, which the instruments file does not list; add it there"
                )
    log.append(event.texts)


def _check_sealed(i: int, known_at_ns: int, sealed_ns: int) -> None:
    if known_at_ns <= sealed_ns:
        raise precondition(
            "LATE_KNOWLEDGE",
            f"texts[{i}].known_at_ns: {describe(known_at_ns)} is sealed: a snapshot or a watermark has told that "
            f"everything known up to {describe(sealed_ns)} is held; it is known here only now, so send a known_at_ns "
            f"after {sealed_ns}",
            field=f"texts[{i}].known_at_ns",
            watermark_ns=str(sealed_ns),
        )
