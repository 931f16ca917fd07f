"""A stream as its server holds it, in a file: for looking at a run whose services are down.

Nothing is written there and no lease is taken; nothing is checked either, so that damage can be looked at.
"""

from __future__ import annotations

from pathlib import Path

from .sqlite import write_copy
from .store import JournalError


async def copy_stream(address: str, stream: str, path: Path) -> None:
    """Writes what the server at `address` holds of `stream` into a new SQLite journal; no file when that is nothing.

    Raises JournalError.
    """
    scheme = address.partition(":")[0]
    if scheme in ("postgresql", "postgres"):
        from .postgres import stored
    elif scheme in ("nats", "tls"):
        from .jetstream import stored
    else:
        raise JournalError(f"no server is known by {scheme!r}; use postgresql://... or nats://...")
    found = 0
    with write_copy(path) as write:
        async for frames, answers in stored(address, stream):
            write(frames, answers)
            found += len(frames) + len(answers)
    if not found:
        path.unlink()  # noqa: ASYNC240 - a file of our own
