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


def read_frames(path: Path) -> Iterator[event_pb2.EventFrame]:
    """Frames of a SQLite journal that nobody has open; nothing is changed. Raises JournalError."""
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            for (body,) in database.execute("SELECT body FROM frame ORDER BY first_seq"):
                yield event_pb2.EventFrame.FromString(body)
        finally:
            database.close()
    except (sqlite3.Error, DecodeError) as error:
        raise JournalError(f"cannot read {path}: {error}; stop the service that has it open, or restore it") from error
