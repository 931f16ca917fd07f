"""What a topology says, checked and immutable: services, clients, and how they are run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import edge as edges
from . import triton_section
from .edge import Edge
from .errors import MeshError
from .triton_section import Triton

CONFIDENTIAL = "confidential"  # what is not labelled, and who
SENSITIVITIES = ("public", CONFIDENTIAL, "restricted")  # each may be read with its own clearance or a higher one
OWN_JOURNALS = ("sqlite", "postgres", "nats")
_SERVERS = ("postgresql", "postgres", "nats", "tls")
_FETCHING = tuple(f"alphamesh.marketdata.v1.MarketDataService/{method}" for method in ("*", "GetSnapshot"))
STABLE = "stable"  # the version that a service has without `versions`


class TopologyError(MeshError):
    """A topology that cannot be used; the message has file, line, problem and remedy."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """An edge: what the owner may call on `service`. A method is "package.Service/Method" or ".../*"."""

    service: str
    methods: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a service takes: calls in flight and connections of each caller, and calls a second of all together."""

    requests: int = 1024
    connections: int = 256
    requests_per_s: int = 20_000


@dataclass(frozen=True, kw_only=True)
class Version:
    """Other code or another configuration under the name of a service, which gets `weight` of its calls."""

    module: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    replicas: int = 1
    weight: int = 0


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service: a process with its own socket, configuration, data and log; several when it has `replicas`.

    `sensitivity`: of its data and its stream; `clearance`: the highest sensitivity that it may call or read. `reads`:
    streams of the event log. `replicas` None: there is one and can be no more. `sharded_by`: a header; calls with the
    same value in it go to the same replica. `agent`: a cluster of agents, which the coordinator asks for forecasts: its
    call of market_data, the coordinator's call of it, and its place in the coordinator's configuration follow from it.
    """

    name: str
    module: str
    sensitivity: str
    config: Mapping[str, Any]
    calls: tuple[Call, ...]
    clearance: str = CONFIDENTIAL
    reads: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    replicas: int | None = None
    versions: Mapping[str, Version] = field(default_factory=dict)
    sharded_by: str = ""
    agent: bool = False

    @property
    def callees(self) -> tuple[str, ...]:
        """Names of the services that this one calls: they are ready before it is built."""
        return tuple(call.service for call in self.calls)


@dataclass(frozen=True, kw_only=True)
class Client:
    """Somebody outside who calls services: the command line, later the gateway."""

    name: str
    calls: tuple[Call, ...]
    clearance: str = CONFIDENTIAL
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Whether an Envoy stands beside every service, and how long its certificates are valid."""

    sidecars: bool = True
    certificate_hours: float = 24.0


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The event log's copy of one journal. At `maximum_mb` it takes no more, and the journal goes on; 0: no limit."""

    maximum_mb: int = 0


@dataclass(frozen=True, kw_only=True)
class EventLog:
    """The event log: "jetstream" is a nats-server that is started first, or a cluster of `servers`.

    `streams`: the journals that are distributed, by the service that writes them. In a cluster each has as many
    copies as there are servers, three at most.
    """

    store: str = "jetstream"
    servers: int = 1
    max_payload_mb: int = 8
    streams: Mapping[str, Stream] = field(default_factory=dict)

    @property
    def replicas(self) -> int:
        """Copies of each stream."""
        return min(self.servers, 3)


@dataclass(frozen=True, kw_only=True)
class Journals:
    """Where services keep their journals.

    `address`: "sqlite" (a file each), "postgres" (a server of the run's own, which the supervisor starts), "nats" (the
    event log's own servers), or the address of a server: "postgresql://..." or "nats://...,nats://...". $NAME in it
    stands for an environment variable, so that a password need not stand in the topology.
    """

    address: str = "sqlite"

    @property
    def kind(self) -> str:
        """The address without what is secret in it: "sqlite", "postgres", "nats", or "server" for any other."""
        return self.address if self.address in OWN_JOURNALS else "server"


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """How processes are started, restarted and stopped.

    `preload`: modules that are imported once, in a process that the services are forked from; empty: each
    service is executed by itself.
    """

    start_timeout_s: float = 120.0
    drain_s: float = 10.0
    maximum_restarts: int = 5
    backoff_s: float = 0.25
    backoff_limit_s: float = 10.0
    healthy_s: float = 30.0
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tracing:
    """Where spans go, and how many.

    `collector`: the service that takes them from all others, on its socket and without being in their `calls`; or the
    address of another OTLP collector, http://HOST:PORT or https://HOST:PORT; empty: no spans. `decision_rate`: the
    share of decisions that are sampled; `rate`: of everything else. Failed calls, and those that take longer than
    `slow_ms`, are always kept.
    """

    collector: str = ""
    decision_rate: float = 1.0
    rate: float = 0.01
    slow_ms: float = 250.0

    def settings(self, socket: Callable[[str], Path]) -> dict[str, Any] | None:
        """What a service is started with; None without a collector. `socket` says where a service listens."""
        if not self.collector:
            return None
        endpoint = self.collector if "://" in self.collector else f"unix:{socket(self.collector)}"
        return {
            "endpoint": endpoint,
            "decision_rate": float(self.decision_rate),
            "rate": float(self.rate),
            "slow_ms": float(self.slow_ms),
        }


@dataclass(frozen=True, kw_only=True)
class Topology:
    """All of it. `services` are in start order: a callee comes before its callers."""

    path: Path
    mesh: Mesh = field(default_factory=Mesh)
    edge: Edge | None = None
    event_log: EventLog = field(default_factory=EventLog)
    journals: Journals = field(default_factory=Journals)
    supervision: Supervision = field(default_factory=Supervision)
    tracing: Tracing = field(default_factory=Tracing)
    triton: Triton | None = None
    services: tuple[Service, ...]
    clients: tuple[Client, ...] = ()

    @property
    def inference(self) -> Service | None:
        """Triton as those that call it know it; None when the topology has none."""
        if self.triton is None:
            return None
        return Service(name=triton_section.NAME, module="", sensitivity=self.triton.sensitivity, config={}, calls=())

    def shares_snapshots(self, service: Service) -> bool:
        """Whether it may fetch snapshots, or others fetch them from it: on one host they lie in shared memory."""
        everyone: tuple[Service | Client, ...] = (*self.services, *self.clients)
        asking = [call for each in everyone for call in each.calls]
        concerned = [*service.calls, *(call for call in asking if call.service == service.name)]
        return any(method in _FETCHING for call in concerned for method in call.methods)

    @property
    def callees(self) -> tuple[Service, ...]:
        """Whoever may be called, callees before their callers: Triton and the services."""
        return (*([self.inference] if self.inference else []), *self.services)

    @property
    def started(self) -> tuple[Service, ...]:
        """Those of `callees` that run: without Triton where it is not enabled."""
        return tuple(s for s in self.callees if s.module or (self.triton is not None and self.triton.enabled))

    @property
    def front(self) -> Service | None:
        """What answers behind the edge's listener, and calls as its identity; none where there are no sidecars."""
        if self.edge is None or not self.mesh.sidecars:
            return None
        here = {service.name for service in self.services}
        calls = tuple(call for call in self.edge.calls if call.service in here)
        served = [{"contract": name, "owner": owner} for name, owner in self.edge.owners.items() if owner in here]
        return Service(
            name=edges.NAME,
            module=f"python_services.{edges.NAME}",
            sensitivity="confidential",
            config={"served": served},
            calls=calls,
        )

    @property
    def processes(self) -> tuple[Service, ...]:
        """The services, and the one behind the edge."""
        return (*self.services, *([self.front] if self.front else []))

    def service(self, name: str) -> Service:
        """Raises KeyError with the names that exist."""
        for service in self.callees:
            if service.name == name:
                return service
        raise KeyError(f"no service {name!r} in {self.path}; it has {', '.join(s.name for s in self.callees)}")

    def with_servers(self, servers: int) -> Topology:
        """A copy with another number of event log servers. Raises TopologyError."""
        check_servers(servers, str(self.path))
        return dataclasses.replace(self, event_log=dataclasses.replace(self.event_log, servers=servers))

    def with_journals(self, address: str) -> Topology:
        """A copy whose journals lie elsewhere, see `Journals`. Raises TopologyError."""
        journals = Journals(address=journal_address(address, "--journal"))
        return dataclasses.replace(self, journals=journals)

    def with_config(self, name: str, changes: Mapping[str, Any]) -> Topology:
        """A copy where the configuration of one service has other values."""
        old = self.service(name)
        new = dataclasses.replace(old, config={**old.config, **changes})
        return dataclasses.replace(self, services=tuple(new if s is old else s for s in self.services))

    def without_triton(self) -> Topology:
        """A copy in which no model is served: calls to it are UNAVAILABLE."""
        return dataclasses.replace(self, triton=self.triton and dataclasses.replace(self.triton, enabled=False))

    def without_sidecars(self) -> Topology:
        """A copy in which services call each other's sockets directly, and are who they say they are."""
        return dataclasses.replace(self, mesh=dataclasses.replace(self.mesh, sidecars=False))


def check_servers(servers: int, where: str) -> None:
    """Raises TopologyError."""
    if servers not in (1, 3, 5):
        raise TopologyError(f"{where}: {servers} servers make no quorum; use 1, 3 or 5")


def journal_address(text: str, where: str) -> str:
    """An address with the environment variables in it filled in. Raises TopologyError."""
    address = os.path.expandvars(text)
    if "$" in address:
        raise TopologyError(f"{where}: {address[address.index('$') :]} is not set; set the environment variable")
    scheme, colon, _ = address.partition("://")
    if address not in OWN_JOURNALS and not (colon and scheme in _SERVERS):
        options = ", ".join(OWN_JOURNALS)
        raise TopologyError(f"{where}: unknown journal {text!r}; use {options}, postgresql://... or nats://...")
    return address
