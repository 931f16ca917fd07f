"""Which driver an address stands for."""

from __future__ import annotations

from pathlib import Path

from .sqlite import SqliteStore
from .store import JournalError, Store


def open_store(address: str, path: Path, stream: str, holder: str) -> Store:
    """Opens the store of `stream` for writing.

    address: "sqlite", a PostgreSQL DSN ("postgresql://user:password@host/database"), or NATS servers
    ("nats://a:4222,nats://b:4222,nats://c:4222"). path: where a SQLite file lies.
    holder: who writes; a restarted writer of the same name gets the lease at once. Raises JournalError.
    """
    if address in ("", "sqlite"):
        return SqliteStore(path, stream)
    scheme = address.partition(":")[0]
    if scheme in ("postgresql", "postgres"):
        from .postgres import PostgresStore

        return PostgresStore(address, stream, holder)
    if scheme in ("nats", "tls"):
        from .jetstream import JetStreamStore

        return JetStreamStore(address, stream, holder)
    raise JournalError(f"unknown journal {scheme!r}; use sqlite, postgresql://... or nats://...")
