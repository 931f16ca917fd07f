"""Reading a copy of a journal's SQLite file, from a sequence on: nothing is checked, so damage can be looked at."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from alphamesh.audit.v1 import event_pb2

from .journal import JournalError


def read_frames(path: Path, from_seq: int = 1) -> Iterator[event_pb2.EventFrame]:
    """Frames from the one that holds `from_seq` on. `path`: a copy of a journal at rest or killed, with its -wal file.

    Raises JournalError for a file or a frame that cannot be read.
    """
    try:
        database = sqlite3.connect(path)
        try:
            query = "SELECT first_seq, body FROM frame WHERE first_seq + count > ? ORDER BY first_seq"
            for first_seq, body in database.execute(query, (from_seq,)):
                try:
                    yield event_pb2.EventFrame.FromString(body)
                except DecodeError as error:
                    raise JournalError(f"the frame at seq {first_seq} cannot be read") from error
        finally:
            database.close()
    except sqlite3.Error as error:
        raise JournalError(f"the file cannot be read: {error}") from error
