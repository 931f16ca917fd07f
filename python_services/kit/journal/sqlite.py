"""The default store: one SQLite file, `journal_mode=WAL, synchronous=FULL, locking_mode=EXCLUSIVE`.

One append is one transaction and one fsync. The lease is the kernel's lock on the file, which lasts exactly as long
as the process; a second writer is refused. The file of a journal that is at rest can be copied like any other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

from google.protobuf.message import DecodeError

from alphamesh.audit.v1 import event_pb2

from .store import NEVER, Batch, FencedError, JournalError, Stored, StoredAnswer

_SCHEMA = """
CREATE TABLE IF NOT EXISTS frame (first_seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answer (
    request_id TEXT PRIMARY KEY, body BLOB NOT NULL, sha256 BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL);
INSERT OR IGNORE INTO lease VALUES (1, 0);
"""
# Written only behind the sequence that the writer believes to be the last.
_APPEND = """
INSERT INTO frame SELECT ?1 + 1, ?2, ?3
    WHERE ?1 = COALESCE((SELECT first_seq + count - 1 FROM frame ORDER BY first_seq DESC LIMIT 1), 0)
"""


class SqliteStore:
    """One file, one stream."""

    lease_until = NEVER

    def __init__(self, path: Path, stream: str) -> None:
        """Creates or opens the file and locks it. Raises JournalError."""
        self.where = str(path)
        self.answers = 0
        self._path = path
        try:
            self._database = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
            try:
                for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "cell_size_check=ON"):
                    self._database.execute(f"PRAGMA {pragma}")
                self._check_pages()
                self._database.executescript(_SCHEMA)
                self.epoch: int = self._database.execute(
                    "UPDATE lease SET epoch = epoch + 1 RETURNING epoch"
                ).fetchone()[0]
            except BaseException:
                self._database.close()
                raise
        except sqlite3.OperationalError as error:
            remedy = "see that the folder is writable and the disk has room and is sound"
            if error.sqlite_errorname == "SQLITE_BUSY":
                remedy = (
                    "if another system uses this data directory, stop it with `alphamesh down` or choose another "
                    "with --data-dir"
                )
            raise JournalError(f"cannot open {path}: {error}; {remedy}") from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        self._file = path.stat()

    def watch(self, lost: Callable[[JournalError], None]) -> None:
        """The kernel's lock cannot be lost while the process lives."""

    def frames(self, from_seq: int) -> Iterator[Stored]:
        """Frames in order."""
        # From the frame that holds from_seq: looked up by the key, not by reading all frames before it.
        query = """SELECT first_seq, count, body FROM frame WHERE first_seq >=
            COALESCE((SELECT MAX(first_seq) FROM frame WHERE first_seq <= ?1), 0)
            AND first_seq + count > ?1 ORDER BY first_seq"""
        try:
            for first_seq, count, body in self._database.execute(query, (from_seq,)):
                if type(body) is not bytes or type(count) is not int:
                    raise sqlite3.DatabaseError(f"altered row at seq {first_seq}")
                yield first_seq, count, body
        except (sqlite3.DatabaseError, OverflowError) as error:
            raise self._damaged(error) from error

    def append(self, batch: Batch) -> None:
        """One transaction."""
        execute, new = self._database.execute, 0
        try:
            self._check_file()
            execute("BEGIN IMMEDIATE")
            if batch.count:
                written = execute(_APPEND, (batch.after_seq, batch.count, batch.body)).rowcount
                if written != 1:
                    raise FencedError(f"another writer has taken over {self.where}; this process must end")
            for answer in batch.answers:
                body = answer.SerializeToString(deterministic=True)
                # The first answer to a request stands.
                values = (answer.request_id, body, sha256(body).digest())
                new += execute("INSERT OR IGNORE INTO answer VALUES (?, ?, ?)", values).rowcount
            execute("COMMIT")
            self.answers += new
        except sqlite3.Error as error:
            self._roll_back()
            raise JournalError(
                f"cannot write {self.where}: {error}; free disk space or repair it, then restart"
            ) from error
        except FencedError:
            self._roll_back()
            raise

    def answer(self, request_id: str) -> event_pb2.Answer | None:
        """Looks one up and checks it."""
        query = "SELECT request_id, body, sha256 FROM answer WHERE request_id = ?"
        try:
            row = self._database.execute(query, (request_id,)).fetchone()
            return None if row is None else _checked(*row)
        except (sqlite3.DatabaseError, DecodeError) as error:
            raise self._damaged(error) from error

    def check_answers(self) -> None:
        """Reads all."""
        self.answers = 0
        try:
            for row in self._database.execute("SELECT request_id, body, sha256 FROM answer"):
                _checked(*row)
                self.answers += 1
        except (sqlite3.DatabaseError, DecodeError) as error:
            raise self._damaged(error) from error

    def close(self) -> None:
        """Folds the write-ahead log into the file and unlocks it."""
        self._database.close()

    def _check_pages(self) -> None:
        """A free list or a tree that is wrong would let a later append overwrite what it should not."""
        row = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if row[0] != "ok":
            raise sqlite3.DatabaseError(str(row[0]).splitlines()[0])

    def _check_file(self) -> None:
        """The path must still lead to the file that is locked, or somebody else may be writing another one."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            raise FencedError(f"{self.where} was removed while it was written; restart the service") from None
        if (now.st_ino, now.st_dev) != (self._file.st_ino, self._file.st_dev):
            raise FencedError(f"{self.where} was replaced while it was written; restart the service")

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _damaged(self, error: Exception) -> JournalError:
        return JournalError(f"{self.where} was damaged ({error}); restore it from a copy or the event log")


@contextmanager
def write_copy(path: Path) -> Iterator[Callable[[Sequence[Stored], Sequence[StoredAnswer]], None]]:
    """A new journal at `path`, filled with frames and answers as they are: one transaction, complete at the end."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_SCHEMA)

        def write(frames: Sequence[Stored], answers: Sequence[StoredAnswer]) -> None:
            database.executemany("INSERT INTO frame VALUES (?, ?, ?)", frames)
            database.executemany("INSERT OR IGNORE INTO answer VALUES (?, ?, ?)", answers)

        yield write
        database.commit()


def _checked(request_id: str, body: bytes, digest: bytes) -> event_pb2.Answer:
    """The answer in a row. Raises sqlite3.DatabaseError for one that was altered."""
    if type(body) is bytes and sha256(body).digest() == digest:
        answer = event_pb2.Answer.FromString(body)
        if answer.request_id == request_id:
            return answer
    raise sqlite3.DatabaseError(f"altered answer to request {request_id!r}")
