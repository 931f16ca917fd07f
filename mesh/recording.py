"""A session as its services recorded it: the journals of a data directory, or of one file that was made from it.

Journals are read as they are, from a copy, and not checked: a replay shows what differs and where.
"""

from __future__ import annotations

import io
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson
from google.protobuf.message import DecodeError

from alphamesh.audit.v1 import event_pb2
from python_services.kit.schemas import OF_NO_SESSION

from . import topology
from .connect import run_topology
from .errors import MeshError
from .rundir import RunDir
from .stored import JOURNAL, copy_journals

_FORMAT = 1
_MANIFEST, _TOPOLOGY = "recording.json", "topology.yaml"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Journals in `folder`/<service>, and the topology with the configuration they were written under."""

    source: Path
    folder: Path
    topology: topology.Topology

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams of sessions, in start order of their services; unknown ones at the end."""
        found = {path.parent.name for path in self.folder.glob(f"*/{JOURNAL}")} - OF_NO_SESSION
        known = [service.name for service in self.topology.services if service.name in found]
        return (*known, *sorted(found - set(known)))

    def events(self, stream: str) -> Iterator[event_pb2.EventEnvelope]:
        """Events of a stream in the order written. Raises MeshError where the file cannot be read."""
        return journalled(self.folder / stream / JOURNAL)


def journalled(path: Path) -> Iterator[event_pb2.EventEnvelope]:
    """Events of a journal that nobody has open. Raises MeshError."""
    try:
        with closing(sqlite3.connect(path)) as database:
            for (body,) in database.execute("SELECT body FROM frame ORDER BY first_seq"):
                yield from event_pb2.EventFrame.FromString(body).events
    except (sqlite3.Error, DecodeError) as error:
        raise MeshError(f"{path} cannot be read: {error}; restore it from a copy") from error


@asynccontextmanager
async def opened(path: Path | None) -> AsyncIterator[Recording]:
    """The recording in a data directory (None: the latest run) or in a file that `archive` wrote.

    Raises MeshError: nothing there, a system still works there, or the file is none of ours.
    """
    with tempfile.TemporaryDirectory(prefix="alphamesh-recording-") as scratch:
        folder = Path(scratch)
        if path is not None and path.is_file():  # noqa: ASYNC240 - nothing else is going on
            yield _unpacked(path, folder)
            return
        run = _stopped(path)
        await copy_journals(run, folder)
        yield Recording(source=run.path, folder=folder, topology=run_topology(run).with_journals("sqlite"))


async def archive(path: Path | None, target: Path) -> int:
    """Writes the recording of a stopped run into one compressed file; the number of its streams. Raises MeshError."""
    run = _stopped(path)
    mesh = run_topology(run)
    manifest = {
        "format": _FORMAT,
        "config": {service.name: dict(service.config) for service in mesh.services},
        "run": str(run.path),
    }
    new = target.with_name(f".{target.name}.new")
    with tempfile.TemporaryDirectory(prefix="alphamesh-archive-") as scratch:
        await copy_journals(run, Path(scratch))
        journals = sorted(Path(scratch).glob(f"*/{JOURNAL}"))  # noqa: ASYNC240
        try:
            with tarfile.open(new, "w:gz") as file:
                _add(file, _MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
                _add(file, _TOPOLOGY, mesh.path.read_bytes())
                for journal in journals:
                    _add(file, f"{journal.parent.name}/{JOURNAL}", _consistent(journal))
            new.replace(target)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise MeshError(f"cannot write {target}: {error.strerror}; choose another file") from error
    return len(journals)


def _stopped(path: Path | None) -> RunDir:
    run = RunDir.find(path)
    holder = run.holder()
    if holder is not None:
        raise MeshError(
            f"process {holder} works in {run.path} and is still writing; stop it first: "
            f"`alphamesh down --data-dir {run.path}`"
        )
    return run


def _consistent(journal: Path) -> bytes:
    """The copy of a journal as one file, with what stands in its write-ahead log."""
    try:
        with closing(sqlite3.connect(journal)) as database:
            return database.serialize()
    except sqlite3.Error as error:
        name = journal.parent.name
        raise MeshError(f"the journal of {name} cannot be read: {error}; restore it from a copy") from error


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o600
    archive.addfile(entry, io.BytesIO(content))


def _unpacked(path: Path, folder: Path) -> Recording:
    problem = f"{path} is no recording; give a data directory or a file written by `alphamesh archive`"
    try:
        with tarfile.open(path, "r:gz") as archive:
            manifest = orjson.loads(_member(archive, _MANIFEST).read())
            if manifest["format"] != _FORMAT:
                raise MeshError(
                    f"{path} has format {manifest['format']}, this version reads {_FORMAT}; archive it again"
                )
            (folder / _TOPOLOGY).write_bytes(_member(archive, _TOPOLOGY).read())
            mesh = topology.load(folder / _TOPOLOGY).with_journals("sqlite")
            for service in mesh.services:
                mesh = mesh.with_config(service.name, manifest["config"][service.name])
                name = f"{service.name}/{JOURNAL}"
                if name in archive.getnames():
                    (folder / service.name).mkdir()
                    with (folder / name).open("wb") as journal:
                        shutil.copyfileobj(_member(archive, name), journal)
    except (tarfile.TarError, OSError, EOFError, KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise MeshError(problem) from error
    return Recording(source=path, folder=folder, topology=mesh)


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    content = archive.extractfile(name)
    if content is None:
        raise KeyError(name)
    return content
