"""Start is recovery: reading a stream from its first frame, checking every link, and finding out where it ends."""

from __future__ import annotations

from dataclasses import dataclass

from . import frames
from .frames import ZERO_HASH
from .store import JournalError, Store
from .watermark import Watermark


@dataclass(frozen=True, slots=True)
class End:
    """Where a stream ends. event_hash: of its last event; frame_hash: of its last frame."""

    seq: int
    event_hash: bytes
    frame_hash: bytes


def recover(store: Store, stream: str, watermark: Watermark | None) -> End:
    """Checks all that is stored and that nothing is missing. Raises JournalError for a stream that was damaged."""
    mark = watermark.mark if watermark is not None else None
    seq, last, body = 0, ZERO_HASH, b""
    reached = mark is None or mark.seq == 0
    for first_seq, count, body in store.frames(1):
        problem = f"gap: expected seq {seq + 1}, got {first_seq}" if first_seq != seq + 1 else ""
        problem = problem or frames.check_body(body, stream, seq + 1, count, last)
        if problem:
            raise _damaged(store, problem)
        seq += count
        last = frames.frame_hash(body)
        if not reached and mark is not None and seq >= mark.seq:
            reached = seq == mark.seq and last == mark.frame_hash
            if not reached:
                raise _damaged(store, f"seq {mark.seq} is not the one that was written")
    store.check_answers()
    answers = store.answers
    if mark is not None and not reached:
        raise _damaged(store, f"it ends at seq {seq}, and {mark.seq} was durable")
    if mark is not None and answers < mark.answers:
        raise _damaged(store, f"it holds {answers} answers, and {mark.answers} were durable")
    if watermark is not None:
        watermark.settle(seq, answers, last)
    return End(seq, frames.last_event_hash(body) if body else ZERO_HASH, last)


def _damaged(store: Store, problem: str) -> JournalError:
    return JournalError(f"{store.where} was damaged ({problem}); restore it from a copy or the event log")
