"""PostgreSQL as journal, for when one machine is not enough.

One append is one statement: it moves the stream's head from the sequence that this writer believes in, under its
epoch, and writes the frame and the answers only if the head moved: it cannot be carried out twice. So a writer whose
connection broke asks again on a new one, for as long as its lease lasts. `synchronous_commit` is on; a server that
does not sync, or whose pages carry no checksums, is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from google.protobuf.message import DecodeError

from alphamesh.audit.v1 import event_pb2

from .remote import RemoteStore
from .store import Batch, JournalError, Page, Stored

_PAGE = 500  # frames
AWAY = (
    ConnectionError, FileNotFoundError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError,
    asyncpg.AdminShutdownError, asyncpg.CrashShutdownError,
)  # fmt: skip
"""The server starts, or has just ended; it may be back in a moment."""
_PAUSE_S = 0.05
_LOCK = 7_046_029_254_386_353_131  # advisory lock around creating the tables
_SCHEMA = """
CREATE TABLE IF NOT EXISTS alphamesh_head (
    stream text PRIMARY KEY, last_seq bigint NOT NULL, answers bigint NOT NULL,
    epoch bigint NOT NULL, holder text NOT NULL, lease_until timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS alphamesh_frame (
    stream text NOT NULL, first_seq bigint NOT NULL, count integer NOT NULL, body bytea NOT NULL,
    PRIMARY KEY (stream, first_seq)
);
CREATE TABLE IF NOT EXISTS alphamesh_answer (
    stream text NOT NULL, request_id text NOT NULL, body bytea NOT NULL, sha256 bytea NOT NULL,
    PRIMARY KEY (stream, request_id)
);
"""
_TAKE = """
INSERT INTO alphamesh_head AS head VALUES ($1, 0, 0, 1, $2, clock_timestamp() + $3::float8 * interval '1 second')
ON CONFLICT (stream) DO UPDATE SET epoch = head.epoch + 1, holder = $2, lease_until = EXCLUDED.lease_until
    WHERE head.holder = $2 OR head.lease_until < clock_timestamp()
RETURNING epoch, last_seq, answers
"""
_RENEW = """
UPDATE alphamesh_head SET lease_until = clock_timestamp() + $3::float8 * interval '1 second'
WHERE stream = $1 AND epoch = $2 RETURNING 1
"""
_APPEND = """
WITH head AS (
    UPDATE alphamesh_head SET last_seq = last_seq + $4, answers = answers + $9
    WHERE stream = $1 AND epoch = $2 AND last_seq = $3 AND answers = $10 RETURNING stream
), frame AS (
    INSERT INTO alphamesh_frame SELECT stream, $3 + 1, $4, $5 FROM head WHERE $4 > 0
), answer AS (
    INSERT INTO alphamesh_answer
    SELECT stream, a.* FROM head, unnest($6::text[], $7::bytea[], $8::bytea[]) AS a ON CONFLICT DO NOTHING
)
SELECT count(*) FROM head
"""
_HEAD = "SELECT last_seq, answers FROM alphamesh_head WHERE stream = $1 AND epoch = $2"
_FRAME = "SELECT body FROM alphamesh_frame WHERE stream = $1 AND first_seq = $2"
_PAGE_QUERY = f"""
SELECT first_seq, count, body FROM alphamesh_frame WHERE stream = $1 AND first_seq + count > $2 AND first_seq >=
    COALESCE((SELECT max(first_seq) FROM alphamesh_frame WHERE stream = $1 AND first_seq <= $2), 0)
ORDER BY first_seq LIMIT {_PAGE}
"""


async def stored(address: str, stream: str) -> AsyncIterator[Page]:
    """What the server holds of `stream`, page by page. Raises JournalError."""
    parts = urlsplit(address)
    try:
        database: Any = await asyncpg.connect(address)
        try:
            from_seq = 1
            while page := [tuple(row) for row in await database.fetch(_PAGE_QUERY, stream, from_seq)]:
                yield page, ()
                from_seq = page[-1][0] + page[-1][1]
            query = "SELECT request_id, body, sha256 FROM alphamesh_answer WHERE stream = $1"
            yield (), [tuple(row) for row in await database.fetch(query, stream)]
        finally:
            await database.close()
    except asyncpg.UndefinedTableError:
        return  # nobody has written there yet
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise JournalError(
            f"{stream} in postgresql://{parts.hostname or ''}{parts.path} cannot be read ({error}); see that the "
            "server runs and can be reached"
        ) from error


class PostgresStore(RemoteStore):
    """The tables of all streams of one run; another run uses another database, or `?search_path=schema`."""

    def __init__(self, dsn: str, stream: str, holder: str, **options: float) -> None:
        """Raises JournalError."""
        parts = urlsplit(dsn)
        self._dsn = dsn
        self._answered: set[str] = set()
        self._counted = 0  # answers, as the stream's head has them
        self._database: Any = None  # asyncpg carries no types
        self._asking = asyncio.Lock()  # a connection does one thing at a time
        super().__init__(f"postgresql://{parts.hostname or ''}{parts.path}", stream, holder, **options)

    @property
    def answers(self) -> int:
        """Of this stream."""
        return len(self._answered)

    async def _open(self) -> None:
        while True:
            try:
                await self._connect()
                await self._take_over()
                return
            except AWAY:
                await asyncio.sleep(_PAUSE_S)  # the caller bounds the wait

    async def _connect(self) -> None:
        """A new connection, to a server that loses nothing."""
        if self._database is not None:
            self._database.terminate()
        self._database = await asyncpg.connect(self._dsn, server_settings={"synchronous_commit": "on"})
        for setting in ("fsync", "full_page_writes", "data_checksums", "synchronous_commit"):
            if await self._database.fetchval(f"SHOW {setting}") != "on":
                remedy = "run pg_checksums --enable" if setting == "data_checksums" else f"set {setting} = on"
                raise JournalError(f"{self.where} has {setting} off and could lose what was answered; {remedy}")

    async def _ask(self, query: str, *values: object) -> list[Any]:
        """Rows. Asks again on a new connection when the server went away; the caller bounds the wait.

        So a statement may have been carried out twice, or once without an answer.
        """
        async with self._asking:
            while True:
                try:
                    if self._database.is_closed():
                        await self._connect()
                    return list(await self._database.fetch(query, *values))
                except asyncpg.InternalClientError:
                    self._database.terminate()  # the server's farewell to an idle connection confuses the client
                except (*AWAY, asyncpg.InterfaceError):
                    if not self._database.is_closed():
                        raise
                    await asyncio.sleep(_PAUSE_S)

    async def _take_over(self) -> None:
        async with self._database.transaction():
            await self._database.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            await self._database.execute(_SCHEMA)
        taken = await self._database.fetchrow(_TAKE, self._stream, self._holder, self._lease_s)
        if taken is None:
            query = "SELECT holder FROM alphamesh_head WHERE stream = $1"
            raise self._held(str(await self._database.fetchval(query, self._stream)))
        self.epoch, self._counted = taken["epoch"], taken["answers"]
        last = await self._database.fetchval(
            "SELECT COALESCE(max(first_seq + count - 1), 0) FROM alphamesh_frame WHERE stream = $1", self._stream
        )
        if last != taken["last_seq"]:
            raise self._damaged(f"it ends at seq {last}, and {taken['last_seq']} was durable")
        self._answered = {answer.request_id for answer in await self._all_answers()}
        if len(self._answered) < self._counted:
            raise self._damaged(f"it holds {len(self._answered)} answers, and {self._counted} were durable")

    async def _renew(self) -> None:
        if not await self._ask(_RENEW, self._stream, self.epoch, self._lease_s):
            raise self._fenced()

    async def _release(self) -> None:
        await self._ask(_RENEW, self._stream, self.epoch, -1.0)

    async def _disconnect(self) -> None:
        if self._database is not None:
            await self._database.close()

    async def _page(self, from_seq: int) -> list[Stored]:
        return [tuple(row) for row in await self._ask(_PAGE_QUERY, self._stream, from_seq)]

    async def _append(self, batch: Batch) -> None:
        new = {answer.request_id for answer in batch.answers} - self._answered
        bodies = [answer.SerializeToString(deterministic=True) for answer in batch.answers]
        ((moved,),) = await self._ask(
            _APPEND,
            self._stream,
            self.epoch,
            batch.after_seq,
            batch.count,
            batch.body,
            [answer.request_id for answer in batch.answers],
            bodies,
            [sha256(body).digest() for body in bodies],
            len(new),
            self._counted,
        )
        counted = self._counted + len(new)
        if moved != 1 and not await self._is_stored(batch, counted):
            raise self._fenced()
        self._counted = counted
        self._answered |= new

    async def _is_stored(self, batch: Batch, counted: int) -> bool:
        """Whether an earlier attempt was stored, and only its answer lost."""
        head = await self._ask(_HEAD, self._stream, self.epoch)
        if not head or tuple(head[0]) != (batch.after_seq + batch.count, counted):
            return False
        if not batch.count:
            return True
        frame = await self._ask(_FRAME, self._stream, batch.after_seq + 1)
        return bool(frame) and frame[0]["body"] == batch.body

    def _is_answered(self, request_id: str) -> bool:
        return request_id in self._answered

    async def _answer(self, request_id: str) -> event_pb2.Answer:
        query = "SELECT request_id, body, sha256 FROM alphamesh_answer WHERE stream = $1 AND request_id = $2"
        return self._checked(await self._ask(query, self._stream, request_id))[0]

    async def _all_answers(self) -> list[event_pb2.Answer]:
        query = "SELECT request_id, body, sha256 FROM alphamesh_answer WHERE stream = $1"
        return self._checked(await self._database.fetch(query, self._stream))

    def _checked(self, rows: Iterable[Any]) -> list[event_pb2.Answer]:
        answers = []
        for request_id, body, digest in rows:
            answer = event_pb2.Answer()
            if sha256(body).digest() != digest or answer.ParseFromString(body) < 0 or answer.request_id != request_id:
                raise self._damaged(f"altered answer to request {request_id!r}")
            answers.append(answer)
        return answers

    def _damaged(self, problem: str) -> JournalError:
        return JournalError(f"{self.where} was damaged ({problem}); restore it from a backup or the event log")

    def _explain(self, error: Exception) -> JournalError | None:
        match error:
            case asyncpg.DataCorruptedError() | asyncpg.IndexCorruptedError() | DecodeError():
                return self._damaged(str(error))
            case asyncpg.UniqueViolationError():
                return self._fenced()
            case asyncpg.DiskFullError():
                return JournalError(f"cannot write {self.where}: {error}; free disk space, then restart")
            case asyncpg.PostgresError() | asyncpg.InterfaceError():
                return JournalError(f"cannot use {self.where}: {error}; see the server's log, then restart")
        return None
