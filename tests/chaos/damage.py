"""Bits that flip and files that end early: damage is found, or it changed nothing that anybody can read."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from python_services.kit.journal import Journal, JournalError, open_store

Content = tuple[list[bytes], list[tuple[str, bytes, bytes] | None]]


@dataclass
class Damage:
    """`refused`: found, with a remedy; `harmless`: every event and answer is read as before (unused space, or what the
    write-ahead log restores); `silent`: something else is served."""

    tried: int = 0
    refused: int = 0
    harmless: int = 0
    silent: list[str] = field(default_factory=list)


def flipped(content: bytearray, chance: random.Random) -> tuple[str, bytes]:
    """One bit."""
    place = chance.randrange(len(content) * 8)
    content[place // 8] ^= 1 << place % 8
    return f"bit {place} flipped", bytes(content)


def truncated(content: bytearray, chance: random.Random) -> tuple[str, bytes]:
    """A shorter file."""
    size = chance.randrange(len(content))
    return f"cut to {size} bytes", bytes(content[:size])


def zeroed(content: bytearray, chance: random.Random) -> tuple[str, bytes]:
    """A sector that was never written."""
    place = chance.randrange(max(len(content) // 512, 1)) * 512
    content[place : place + 512] = bytes(len(content[place : place + 512]))
    return f"512 bytes at {place} zeroed", bytes(content)


CHANGES: tuple[Callable[[bytearray, random.Random], tuple[str, bytes]], ...] = (flipped, flipped, truncated, zeroed)


def damage_journal(folder: Path, stream: str, samples: int, seed: int) -> Damage:
    """Opens copies of a service's data folder, each damaged at one place.

    `folder` holds journal.db as a kill left it; nothing in it is changed. Much of that is written twice, in the file
    and in its write-ahead log, so every other copy is one in which the log was brought into the file first.
    """
    chance, result = random.Random(seed), Damage()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        copy, settled = Path(name) / "copy", Path(name) / "settled"
        shutil.copytree(folder, settled)
        requests = _settle(settled)
        before = _content(settled, stream, requests)
        for number in range(samples):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree((folder, settled)[number // len(CHANGES) % 2], copy)
            files = sorted(path for path in copy.glob("journal.*") if path.stat().st_size and path.suffix != ".db-shm")
            path = chance.choices(files, [path.stat().st_size for path in files])[0]
            what, content = CHANGES[number % len(CHANGES)](bytearray(path.read_bytes()), chance)
            path.write_bytes(content)
            result.tried += 1
            try:
                after = _content(copy, stream, requests)
            except JournalError as error:
                remedy = any(word in str(error) for word in ("restore", "remove this file", "free disk"))
                result.refused += remedy
                if not remedy:
                    result.silent.append(f"{path.name}: {what}: refused without a remedy: {error}")
                continue
            if after == before:
                result.harmless += 1
            else:
                result.silent.append(f"{path.name}: {what}: served as if nothing had happened")
    return result


def _settle(folder: Path) -> list[str]:
    """Empties the write-ahead log into the file; the requests that the journal has answered."""
    database = sqlite3.connect(folder / "journal.db")
    try:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return [row[0] for row in database.execute("SELECT request_id FROM answer ORDER BY request_id")]
    finally:
        database.close()


def _content(folder: Path, stream: str, requests: list[str]) -> Content:
    """Everything that the journal serves. Raises JournalError."""
    store = open_store("sqlite", folder / "journal.db", stream, "reader")
    journal = Journal(store, stream, "1", _refuse, folder / "journal.watermark")
    try:
        return [frame.SerializeToString() for frame in journal.read(1)], [journal.answered(one) for one in requests]
    finally:
        journal.close()


def damage_copy(store: Path, chance: random.Random) -> str:
    """Damages one file of a JetStream store that is at rest; says where."""
    files = sorted(path for path in store.rglob("*.blk") if path.stat().st_size)
    path = chance.choices(files, [path.stat().st_size for path in files])[0]
    what, content = chance.choice(CHANGES)(bytearray(path.read_bytes()), chance)
    path.write_bytes(content)
    return f"{path.relative_to(store)}: {what}"


def _refuse(error: BaseException) -> None:
    raise AssertionError(f"the journal failed: {error}")
