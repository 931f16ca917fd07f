"""The audit log on disk: records in the order in which they were applied, and how far each stream is.

A projection, not a truth: what a power cut takes, and what was in a file that had to be started anew, is read from the
streams again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from alphamesh.audit.v1 import audit_pb2, event_pb2
from python_services.kit.journal import ZERO_HASH
from python_services.kit.schemas import REGISTRY

from . import logic
from .database import open_database

VERSION = 2  # raise it when the same events no longer give the same records
_SCHEMA = """
CREATE TABLE record (
    seq INTEGER PRIMARY KEY, record_id TEXT NOT NULL UNIQUE, stream TEXT NOT NULL, stream_seq INTEGER NOT NULL,
    service TEXT NOT NULL, ts_ns INTEGER NOT NULL, verdict INTEGER NOT NULL, identity TEXT NOT NULL,
    method TEXT NOT NULL, correlation_id TEXT NOT NULL, causation_id TEXT NOT NULL, account_id TEXT NOT NULL,
    schema TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX record_correlation ON record (correlation_id);
CREATE TABLE place (stream TEXT PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL);
"""
_COLUMNS = {
    "identity": "identity",
    "service": "service",
    "method": "method",
    "decision_id": "correlation_id",
    "causation_id": "causation_id",
    "correlation_id": "correlation_id",
    "account_id": "account_id",
    "stream": "stream",
    "schema": "schema",
}


class Index:
    """Records by position. One writer; all methods belong to one event loop."""

    def __init__(self, path: Path) -> None:
        self._database = open_database(path, _SCHEMA, VERSION)
        self.places: dict[str, tuple[int, bytes]] = {
            stream: (seq, digest) for stream, seq, digest in self._database.execute("SELECT * FROM place")
        }
        last = self._database.execute("SELECT body FROM record ORDER BY seq DESC LIMIT 1").fetchone()
        newest = audit_pb2.AuditRecord.FromString(last[0]) if last else audit_pb2.AuditRecord(hash=ZERO_HASH)
        self.last_seq, self._last_hash = newest.seq, newest.hash

    def place(self, stream: str) -> tuple[int, bytes]:
        """(last event applied, its hash) of a stream."""
        return self.places.get(stream, (0, ZERO_HASH))

    def add(self, stream: str, frames: Iterable[event_pb2.EventFrame]) -> None:
        """Applies frames that continue `stream`, in one transaction. Raises UnknownEventTypeError."""
        rows, seq, last_hash = [], self.last_seq, self._last_hash
        place = self.place(stream)
        for frame in frames:
            for envelope in frame.events:
                seq += 1
                made = logic.chain(logic.record(REGISTRY.current(envelope)), seq, last_hash)
                last_hash = made.hash
                rows.append(_row(made))
            place = (frame.first_seq + frame.count - 1, frame.sha256)
        with self._database:
            self._database.executemany(f"INSERT INTO record VALUES ({', '.join('?' * 14)})", rows)
            self._database.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (stream, *place))
        self.places[stream] = place
        self.last_seq, self._last_hash = seq, last_hash

    def get(self, record_id: str) -> audit_pb2.AuditRecord | None:
        """A record; None for one that is not there."""
        found = self._database.execute("SELECT body FROM record WHERE record_id = ?", (record_id,)).fetchone()
        return audit_pb2.AuditRecord.FromString(found[0]) if found else None

    def select(
        self, conditions: audit_pb2.AuditFilter, after_seq: int, until_seq: int, limit: int
    ) -> list[audit_pb2.AuditRecord]:
        """Records that meet the conditions with after_seq < seq <= until_seq, by seq."""
        where, values = ["seq > ?", "seq <= ?"], [after_seq, until_seq]
        for field, column in _COLUMNS.items():
            if value := getattr(conditions, field):
                where.append(f"{column} = ?")
                values.append(value)
        if conditions.verdicts:
            where.append(f"verdict IN ({', '.join('?' * len(conditions.verdicts))})")
            values.extend(conditions.verdicts)
        if conditions.HasField("start_ns"):
            where.append("ts_ns >= ?")
            values.append(conditions.start_ns)
        if conditions.HasField("end_ns"):
            where.append("ts_ns < ?")
            values.append(conditions.end_ns)
        query = f"SELECT body FROM record WHERE {' AND '.join(where)} ORDER BY seq LIMIT ?"
        return [audit_pb2.AuditRecord.FromString(body) for (body,) in self._database.execute(query, (*values, limit))]

    def between(self, start_seq: int, end_seq: int) -> Iterator[audit_pb2.AuditRecord]:
        """Records with start_seq <= seq < end_seq, as they are stored."""
        query = "SELECT body FROM record WHERE seq >= ? AND seq < ? ORDER BY seq"
        for (body,) in self._database.execute(query, (start_seq, end_seq)):
            yield audit_pb2.AuditRecord.FromString(body)

    def of_stream(self, stream: str, until_seq: int) -> Iterator[audit_pb2.AuditRecord]:
        """Records of a stream's events 1 to `until_seq`, by their position in the stream."""
        query = "SELECT body FROM record WHERE stream = ? AND stream_seq <= ? ORDER BY stream_seq"
        for (body,) in self._database.execute(query, (stream, until_seq)):
            yield audit_pb2.AuditRecord.FromString(body)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def _row(made: audit_pb2.AuditRecord) -> tuple[object, ...]:
    return (
        made.seq, made.record_id, made.stream, made.stream_seq, made.service, made.ts_event_ns, made.verdict,
        made.actor.identity, made.method, made.correlation_id, made.causation_id, made.account_id, made.schema,
        made.SerializeToString(deterministic=True),
    )  # fmt: skip
