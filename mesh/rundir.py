"""The data directory of one run: sockets, configuration, data and logs of every service.

lock                 held by the one system that works here
supervisor.json      processes and their states
config/<name>.json   what a service or client is started with (0600: it holds its password of the event log)
sock/<name>.sock     where it listens (0700)
mesh/                what the sidecars read: certificates (0600), routes, endpoints, bootstraps
sock/<name>.metrics.sock  where its metrics are read
data/<name>/         its journal
logs/<name>.jsonl    its log
nats/                the event log's configuration and store
triton/              the model repository and the backends of the inference server
postgres/            the data of the run's own PostgreSQL, with --journal postgres
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from . import logs
from .errors import MeshError
from .instances import Instance
from .topology import LONGEST_NAME, LONGEST_VERSION, MOST_REPLICAS, Service
from .triton_section import NAME as TRITON

VAR = Path("var")
FOLDERS = ("config", "data", "logs", "mesh", "nats")
SOCKET_PATH_LIMIT = 107  # sockaddr_un.sun_path, without the final NUL
LONGEST_SOCKET_NAME = len(f"/@-{MOST_REPLICAS}.metrics.sock") + LONGEST_NAME + LONGEST_VERSION
MINIMUM_FREE_BYTES = 64 * 2**20


class RunDirError(MeshError):
    """A data directory that cannot be used."""


class RunDir:
    """Paths and small files of one run. Whoever changes anything holds the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @classmethod
    def create(cls, path: Path | None = None) -> RunDir:
        """Makes the folders and takes the lock; `path` None means a new var/runs/<time>.

        Raises RunDirError when another system works there, or when nothing can be written there.
        """
        chosen = path or VAR / "runs" / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        run = cls(chosen)
        with _explained(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            run.lock()
            free = shutil.disk_usage(run.path).free
            if free < MINIMUM_FREE_BYTES:
                raise RunDirError(
                    f"{run.path}: only {free // 2**20} MB are free on this disk; free at least "
                    f"{MINIMUM_FREE_BYTES // 2**20} MB or choose another --data-dir"
                )
            for folder in FOLDERS:
                (run.path / folder).mkdir(mode=0o700, exist_ok=True)
            run._make_socket_folder()
            if path is None:
                _point(VAR / "latest", Path("runs") / run.path.name)
        return run

    @classmethod
    def find(cls, path: Path | None = None) -> RunDir:
        """An existing run; `path` None means the latest. Raises RunDirError when there is none."""
        chosen = path or VAR / "latest"
        if not (chosen / "config").is_dir():
            what = f"{chosen} holds no run" if path or chosen.exists() else "there is no run yet"
            raise RunDirError(f"{what}; start one with `alphamesh up` or `alphamesh session --up`, or give --data-dir")
        return cls(chosen.resolve())

    def lock(self) -> None:
        """Raises RunDirError, naming the holder, when another process holds it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode().strip() or "unknown"
            os.close(descriptor)
            raise RunDirError(
                f"{self.path} is in use by process {holder}; stop that system with "
                f"`alphamesh down --data-dir {self.path}` or choose another --data-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def holder(self) -> int | None:
        """Process that works here now; None when nobody does."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(descriptor, 32) or b"0") or None
        finally:
            os.close(descriptor)
        return None

    def release(self) -> None:
        """Gives the lock back; the kernel does it too when the process ends."""
        if self._lock is not None:
            self._remove_short_folder()
            os.close(self._lock)
            self._lock = None

    @property
    def sockets(self) -> Path:
        """Folder of the sockets, short enough for the kernel."""
        return (self.path / "sock").resolve()

    def socket(self, service: str) -> Path:
        """Where `service` listens."""
        return self.sockets / f"{service}.sock"

    def egress(self, caller: str) -> Path:
        """Where the sidecar of `caller` takes its calls to others."""
        return self.sockets / f"{caller}.egress.sock"

    def admin(self, sidecar: str) -> Path:
        """Where a sidecar is administered."""
        return self.sockets / f"{sidecar}.admin"

    def log(self, name: str) -> Path:
        """Log of one process."""
        return self.path / "logs" / f"{name}.jsonl"

    def note(self, name: str, text: str) -> None:
        """A line of the mesh's own in the log of one process."""
        with contextlib.suppress(OSError), self.log(name).open("ab") as file:
            file.write(logs.record(name, text, "error"))

    @property
    def control(self) -> Path:
        """Where the supervisor takes commands."""
        return self.sockets / "supervisor.control"

    def write_config(
        self,
        process: Instance | Service,
        nats_url: str,
        journal: str = "sqlite",
        tracing: Mapping[str, Any] | None = None,
        *,
        sidecar: bool = False,
        model_server: Mapping[str, str] | None = None,
        snapshots: Path | None = None,
    ) -> None:
        """What `process` is started with; readable by its owner only."""
        settings = {
            "nats_url": nats_url,
            "journal": journal,
            "sidecar": sidecar,
            "config": dict(process.config),
            "calls": list(process.callees),
            # Without its models a service serves, degraded; it does not wait for them.
            "awaits": [callee for callee in process.callees if callee != TRITON],
            "reads": list(process.reads),
        }
        if tracing is not None:
            settings["tracing"] = dict(tracing)
        if model_server is not None:
            settings["model_server"] = dict(model_server)
        if snapshots is not None:
            settings["snapshots"] = str(snapshots)
        self._write(Path("config") / f"{process.name}.json", settings)

    def write_reader(self, client: str, nats_url: str) -> None:
        """How a client reaches the event log; readable by its owner only."""
        self._write(Path("config") / f"{client}.json", {"nats_url": nats_url})

    def event_log(self, reader: str) -> str:
        """Where a service or client reaches the event log of the run, with its credentials; empty when it had none."""
        settings = self.settings(reader)
        return "" if settings is None else str(settings["nats_url"])

    def settings(self, service: str) -> dict[str, Any] | None:
        """What `service` was last started with here, see `write_config`; None before the first time."""
        try:
            settings: dict[str, Any] = orjson.loads((self.path / "config" / f"{service}.json").read_bytes())
        except FileNotFoundError:
            return None
        return settings

    def write_state(self, state: Mapping[str, Any]) -> None:
        """supervisor.json, replaced in one step."""
        self._write(Path("supervisor.json"), state)

    def state(self) -> dict[str, Any]:
        """supervisor.json; empty before the first start."""
        try:
            state: dict[str, Any] = orjson.loads((self.path / "supervisor.json").read_bytes())
        except FileNotFoundError:
            return {}
        return state

    def remove_sockets(self) -> None:
        """Nobody listens any more."""
        for socket in (*self.sockets.glob("*.sock"), *self.sockets.glob("*.admin"), self.control):
            socket.unlink(missing_ok=True)
        shutil.rmtree(self.sockets / "postgres", ignore_errors=True)

    def _remove_short_folder(self) -> None:
        if (self.path / "sock").is_symlink():
            with contextlib.suppress(OSError):  # not empty: somebody may still listen there
                self.sockets.rmdir()

    def _write(self, name: Path, content: Mapping[str, Any]) -> None:
        path = self.path / name
        with _explained(path):
            new = path.with_suffix(".new")
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2))
            new.replace(path)

    def _make_socket_folder(self) -> None:
        """sock/, or a link to a short folder in /tmp when the kernel could not take the path."""
        link = self.path / "sock"
        if len(os.fsencode(link)) + LONGEST_SOCKET_NAME <= SOCKET_PATH_LIMIT:
            link.mkdir(mode=0o700, exist_ok=True)
            return
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        short = Path(tempfile.gettempdir()) / f"alphamesh-{os.getuid()}-{digest}"
        if len(os.fsencode(short)) + LONGEST_SOCKET_NAME > SOCKET_PATH_LIMIT:
            short = Path("/tmp") / short.name
        short.mkdir(mode=0o700, exist_ok=True)
        facts = short.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise RunDirError(f"{short} belongs to somebody else; remove it or choose a shorter --data-dir")
        _point(link, short)


def _point(link: Path, target: Path) -> None:
    """A symbolic link, replaced in one step."""
    new = link.with_name(f".{link.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunDirError(
            f"{error.filename or path}: {error.strerror}; make room or give rights there, or choose another --data-dir"
        ) from error
