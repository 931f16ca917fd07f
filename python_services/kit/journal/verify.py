"""Checking a whole stream, event by event: what an auditor runs. Opening a journal checks frame by frame."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from alphamesh.audit.v1 import event_pb2

from .frames import ZERO_HASH, check_events, check_frame
from .store import JournalError


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Up to where a stream is sound. `problem` is empty when that is its end."""

    seq: int
    frames: int
    event_hash: bytes
    frame_hash: bytes
    problem: str


def verify(frames: Iterable[event_pb2.EventFrame]) -> Verdict:
    """Computes every hash of a stream again, from its first frame on: of each frame and of each event."""
    seq, number, last_event, last_frame, problem = 0, 0, ZERO_HASH, ZERO_HASH, ""
    for frame in frames:
        problem = check_events(frame, last_event) or check_frame(frame, seq + 1, last_frame)
        if problem:
            break
        seq, number = seq + frame.count, number + 1
        last_event, last_frame = frame.events[-1].hash, frame.sha256
    return Verdict(seq=seq, frames=number, event_hash=last_event, frame_hash=last_frame, problem=problem)


def read_frames(path: Path, from_seq: int = 1) -> Iterator[event_pb2.EventFrame]:
    """Frames from the one that holds `from_seq` on, unchecked, so that damage can be looked at.

    `path`: a SQLite journal at rest, or a copy of one that was killed, with its -wal file.
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
