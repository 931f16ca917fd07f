"""Where a journal's frames and answers become durable: one small interface, one driver each.

Every driver keeps these promises. What one `append` is given becomes durable together or not at all. It is written
only by the writer that holds the stream's lease, and only behind the sequence that this writer believes to be the
last (fencing): a writer that lost its lease cannot write, whatever it believes. `epoch` counts the writers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from alphamesh.audit.v1 import event_pb2


class JournalError(RuntimeError):
    """The journal cannot be opened or written; the service must not answer anything any more."""


class FencedError(JournalError):
    """Another writer has taken the stream over; this process must end without another answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What becomes durable together. `body` is a serialised EventFrame; empty when only answers wait.

    after_seq: the last sequence that this writer knows to be stored; with events, first_seq = after_seq + 1.
    """

    after_seq: int
    count: int
    body: bytes
    answers: Sequence[event_pb2.Answer]


Stored = tuple[int, int, bytes]
"""(first_seq, count, serialised EventFrame)"""

StoredAnswer = tuple[str, bytes, bytes]
"""(request_id, serialised Answer, its sha256)"""

Page = tuple[Sequence[Stored], Sequence[StoredAnswer]]
"""Some of what a server holds of a stream, in order."""


class Store(Protocol):
    """One stream, opened for writing: constructing a driver takes the lease. All its errors are JournalErrors."""

    where: str
    """For messages: a path, or an address without credentials."""
    epoch: int
    lease_until: float
    """time.monotonic() up to which the lease is certain; math.inf when it cannot run out."""

    @property
    def answers(self) -> int:
        """How many answers are stored."""

    def watch(self, lost: Callable[[JournalError], None]) -> None:
        """`lost` is called, maybe in another thread, when the store finds out by itself that the lease is gone."""

    def frames(self, from_seq: int) -> Iterator[Stored]:
        """Stored frames in order, from the one that holds `from_seq` on."""

    def append(self, batch: Batch) -> Future[None] | None:
        """None: durable now. A future: durable when it is done. Raises, or ends with, JournalError."""

    def answer(self, request_id: str) -> event_pb2.Answer | None:
        """The stored answer to a request."""

    def check_answers(self) -> None:
        """Reads and checks all answers, and counts them."""

    def close(self) -> None:
        """Gives the lease back."""


NEVER = math.inf
