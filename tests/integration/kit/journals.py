"""Journals on every driver, for the tests beside this file."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from alphamesh.audit.v1 import event_pb2
from alphamesh.risk.v1 import events_pb2
from python_services.kit.journal import Event, Journal, open_store

Change = Callable[[event_pb2.EventFrame], object]


def event(account: str, time: int = 1) -> Event:
    return Event(payload=events_pb2.LimitsSet(account_id=account), ts_event_ns=time, ts_init_ns=time)


def refuse(error: BaseException) -> None:
    raise AssertionError(f"the journal failed: {error}")


class Place(ABC):
    """Where a test keeps one stream."""

    def __init__(self, address: str, folder: Path, stream: str) -> None:
        self.address = address
        self.folder = folder
        self.stream = stream

    def open(self, on_failure: Callable[[BaseException], None] = refuse, holder: str = "a") -> Journal:
        store = open_store(self.address, self.folder / "journal.db", self.stream, holder)
        return Journal(store, self.stream, "1", on_failure, self.folder / "journal.watermark")

    async def fill(self, count: int) -> bytes:
        """One frame an event; the last event's hash."""
        journal = self.open()
        for number in range(count):
            journal.add([event(f"a{number}")])
            await journal.commit()
        last = journal.durable_hash
        journal.close()
        return last

    @abstractmethod
    async def alter(self, first_seq: int, change: Change | None) -> None:
        """Changes a stored frame behind the journal's back, or removes it."""

    @abstractmethod
    async def alter_answers(self) -> None:
        """Changes the stored answers."""


class SqlitePlace(Place):
    async def alter(self, first_seq: int, change: Change | None) -> None:
        with sqlite3.connect(self.folder / "journal.db") as database:
            if change is None:
                database.execute("DELETE FROM frame WHERE first_seq = ?", (first_seq,))
            else:
                row = database.execute("SELECT body FROM frame WHERE first_seq = ?", (first_seq,)).fetchone()
                values = (changed(row[0], change), first_seq)
                database.execute("UPDATE frame SET body = ? WHERE first_seq = ?", values)
        database.close()

    async def alter_answers(self) -> None:
        with sqlite3.connect(self.folder / "journal.db") as database:
            database.execute("UPDATE answer SET body = body || x'00'")
        database.close()


class PostgresPlace(Place):
    async def alter(self, first_seq: int, change: Change | None) -> None:
        import asyncpg

        database = await asyncpg.connect(self.address)
        found = "FROM alphamesh_frame WHERE stream = $1 AND first_seq = $2"
        if change is None:
            await database.execute(f"DELETE {found}", self.stream, first_seq)
        else:
            body = changed(await database.fetchval(f"SELECT body {found}", self.stream, first_seq), change)
            query = "UPDATE alphamesh_frame SET body = $3 WHERE stream = $1 AND first_seq = $2"
            await database.execute(query, self.stream, first_seq, body)
        await database.close()

    async def alter_answers(self) -> None:
        import asyncpg

        database = await asyncpg.connect(self.address)
        await database.execute("UPDATE alphamesh_answer SET body = body || '\\x00' WHERE stream = $1", self.stream)
        await database.close()


class JetStreamPlace(Place):
    async def alter(self, first_seq: int, change: Change | None) -> None:
        raise NotImplementedError("a stored message cannot be changed through NATS")

    async def alter_answers(self) -> None:
        raise NotImplementedError("a stored message cannot be changed through NATS")


def changed(body: bytes, change: Change) -> bytes:
    frame = event_pb2.EventFrame.FromString(body)
    change(frame)
    return frame.SerializeToString()
