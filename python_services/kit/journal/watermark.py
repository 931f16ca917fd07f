"""How far a journal was durable, kept in a small file beside it.

A store cannot tell by itself that its end is missing: SQLite drops a write-ahead log from its first bad page on as
if the rest had never been written, and a restored copy is a valid older journal. So the last durable sequence, its
frame's hash and the number of answers are noted elsewhere too. The note is written, not synced: a process that is
killed loses nothing of it, and after a power cut it is a lower bound, which is all that is asked of it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .store import JournalError

_LAYOUT = struct.Struct("<8sQQ32s")  # magic, seq, answers, frame hash; 8 bytes of sha256 follow
_MAGIC = b"amwater1"
_CHECK_BYTES = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """The state that was durable at least."""

    seq: int
    answers: int
    frame_hash: bytes


class Watermark:
    """One file of 64 bytes, rewritten in place."""

    def __init__(self, path: Path) -> None:
        """Raises JournalError when the file cannot be opened, or was damaged."""
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            written = os.pread(self._file, _LAYOUT.size + _CHECK_BYTES + 1, 0)
        except OSError as error:
            raise JournalError(f"cannot open {path}: {error.strerror}; make its folder writable") from error
        self.mark = self._parse(written) if written else None

    def note(self, seq: int, answers: int, frame_hash: bytes) -> None:
        """Notes what became durable. Raises OSError."""
        content = _LAYOUT.pack(_MAGIC, seq, answers, frame_hash)
        os.pwrite(self._file, content + sha256(content).digest()[:_CHECK_BYTES], 0)

    def settle(self, seq: int, answers: int, frame_hash: bytes) -> None:
        """Notes the state at a start and gives the file its place on the disk: from then on it is overwritten.

        Raises JournalError.
        """
        try:
            self.note(seq, answers, frame_hash)
            os.fsync(self._file)
        except OSError as error:
            raise JournalError(f"cannot write {self._path}: {error.strerror}; free disk space, then restart") from error

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _parse(self, written: bytes) -> Mark:
        content, check = written[: _LAYOUT.size], written[_LAYOUT.size :]
        if len(content) == _LAYOUT.size and sha256(content).digest()[:_CHECK_BYTES] == check:
            magic, seq, answers, frame_hash = _LAYOUT.unpack(content)
            if magic == _MAGIC:
                return Mark(seq, answers, frame_hash)
        os.close(self._file)
        raise JournalError(
            f"{self._path} was damaged; restore the whole folder from a copy, or, when you know that the journal "
            "beside it is complete, remove this file"
        )
