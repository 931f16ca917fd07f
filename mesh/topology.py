"""topology.yaml: services, who may call what, and limits. Read once, checked completely, then immutable.

Every mistake is refused with file and line: unknown keys, names that do not exist, methods that no
contract has, services that wait for each other in a circle.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pool

from . import edge as edges
from . import triton_section
from .edge import Edge
from .errors import MeshError
from .triton_section import Triton

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_PATH = Path(__file__).with_name("topology.yaml")
SENSITIVITIES = ("public", "confidential", "restricted")  # each may be read with its own clearance or a higher one
CONFIDENTIAL = "confidential"  # what is not labelled, and who
# Identities, processes and users of the event log that are not from a topology.
RESERVED = frozenset({"alphamesh", "edge", "nats", "nursery", "outside", "postgres", "supervisor"})
_TOP = {
    *("version", "mesh", "edge", "event_log", "journals", "supervision", "tracing"),
    *("triton", "services", "clients"),
}
OWN_JOURNALS = ("sqlite", "postgres", "nats")
_SERVERS = ("postgresql", "postgres", "nats", "tls")
LONGEST_NAME = 32  # a socket carries the name, and its path is short
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
STABLE = "stable"  # the version that a service has without `versions`
LONGEST_VERSION = 8
MOST_REPLICAS = 32
_SERVICE = {
    *("module", "sensitivity", "clearance", "config", "calls", "reads", "limits"),
    *("replicas", "versions", "sharded_by", "agent"),
}
# What `agent: true` means: who decides asks it for forecasts, on snapshots that it fetches.
COORDINATOR, MARKET_DATA = "coordinator", "market_data"
ASKED, FETCHED = "alphamesh.agent.v1.AgentService/*", "alphamesh.marketdata.v1.MarketDataService/GetSnapshot"
_HEADER = re.compile(r"^x-[a-z0-9-]{1,60}$")


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
        _check_servers(servers, str(self.path))
        return dataclasses.replace(self, event_log=dataclasses.replace(self.event_log, servers=servers))

    def with_journals(self, address: str) -> Topology:
        """A copy whose journals lie elsewhere, see `Journals`. Raises TopologyError."""
        journals = Journals(address=_journal_address(address, "--journal"))
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


def load(path: Path = DEFAULT_PATH) -> Topology:
    """Reads and checks a topology. Raises TopologyError."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise TopologyError(f"{path}: cannot be read: {error.strerror}; give the path of a topology") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TopologyError(f"{path}:{line}: not YAML: {error.problem}; correct the syntax") from error
    if node is None:
        raise TopologyError(f"{path}:1: empty; list at least one service")
    return _Reader(path.absolute()).topology(node)


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: Mapping[str, Stream] = {}
        self._sensitivity: dict[str, str] = {}  # of each service, and of the stream that it writes

    def topology(self, node: yaml.Node) -> Topology:
        top = self._mapping(node, "the topology", _TOP)
        if "version" not in top or self._value(top["version"]) != 1:
            raise self._error(top.get("version", node), "version must be 1", "write `version: 1`")
        if "services" not in top:
            raise self._error(node, "no services", "list at least one under `services:`")
        named = self._named(top["services"], "services")
        if not named:
            raise self._error(top["services"], "no services", "list at least one")
        event_log = self._event_log(top.get("event_log"), named)
        self._streams = event_log.streams
        self._sensitivity = {name: self._label(body, "sensitivity", CONFIDENTIAL) for name, body in named.items()}
        callees = [*named]
        if "triton" in top:
            self._sensitivity[triton_section.NAME] = self._label(top["triton"], "sensitivity", CONFIDENTIAL)
            callees.append(triton_section.NAME)
        services = {name: self._service(name, body, callees) for name, body in named.items()}
        self._with_agents(services, named)
        self._check_modules([one for one in services.values() if one.replicas is None], named)
        clients = self._named(top["clients"], "clients") if "clients" in top else {}
        for name, body in named.items():
            self._check_replicas(services[name], body, event_log.streams)
        for name, body in clients.items():
            if name in services:
                raise self._error(body, f"{name!r} is a service and a client", "an identity has one owner: rename one")
        return Topology(
            path=self._path,
            mesh=self._record(Mesh, top.get("mesh"), "mesh"),
            edge=edges.read(self, top.get("edge"), named),
            event_log=event_log,
            journals=self._journals(top.get("journals")),
            supervision=self._record(Supervision, top.get("supervision"), "supervision"),
            tracing=self._tracing(top.get("tracing"), services),
            triton=triton_section.read(
                self, top.get("triton"), self._path.parent, self._sensitivity.get(triton_section.NAME, CONFIDENTIAL)
            ),
            services=tuple(services[name] for name in self._start_order(services, top["services"])),
            clients=tuple(self._client(name, body, callees) for name, body in clients.items()),
        )

    def _event_log(self, node: yaml.Node | None, known: Iterable[str]) -> EventLog:
        read: EventLog = self._record(EventLog, node, "event_log")
        if node is None:
            return read
        body = self._mapping(node, "event_log", None)
        if "servers" in body:
            _check_servers(read.servers, f"{self._path}:{body['servers'].start_mark.line + 1}")
        streams = {}
        for name, item in (self._named(body["streams"], "event_log.streams") if "streams" in body else {}).items():
            if name not in known:
                raise self._error(item, f"stream {name!r} belongs to no service", "name it after its writer")
            streams[name] = self._record(Stream, item, f"stream {name}")
        return dataclasses.replace(read, streams=streams)

    def _journals(self, node: yaml.Node | None) -> Journals:
        read: Journals = self._record(Journals, node, "journals")
        where = f"{self._path}:{node.start_mark.line + 1}: journals.address" if node is not None else ""
        return Journals(address=_journal_address(read.address, where))

    def _tracing(self, node: yaml.Node | None, known: Iterable[str]) -> Tracing:
        read: Tracing = self._record(Tracing, node, "tracing")
        if node is None:
            return read
        body = self._mapping(node, "tracing", None)
        if read.collector and "://" not in read.collector and read.collector not in known:
            problem = f"tracing.collector {read.collector!r} is no service and no address"
            raise self._error(body["collector"], problem, "name a service, or write http://HOST:PORT")
        for name in ("decision_rate", "rate"):
            if getattr(read, name) > 1.0:
                raise self._error(body[name], f"tracing.{name} is {getattr(read, name)}", "use a share from 0 to 1")
        return read

    def _service(self, name: str, node: yaml.Node, known: Iterable[str]) -> Service:
        body = self._mapping(node, f"service {name}", _SERVICE)
        sensitivity = self._sensitivity[name]
        clearance = self._label(node, "clearance", sensitivity)
        if SENSITIVITIES.index(clearance) < SENSITIVITIES.index(sensitivity):
            problem = f"{name} is {sensitivity} itself and has the clearance {clearance}"
            raise self._error(body["clearance"], problem, "raise it, or leave it out")
        config = self._value(body["config"]) if "config" in body else {}
        if not isinstance(config, dict):
            raise self._error(body["config"], f"config of {name} is no mapping", "write `key: value` lines")
        return Service(
            name=name,
            module=str(self._value(body["module"])) if "module" in body else f"python_services.{name}",
            sensitivity=sensitivity,
            config=_expand(config),
            calls=self._calls(name, clearance, body["calls"], known) if "calls" in body else (),
            clearance=clearance,
            reads=self._reads(name, clearance, body.get("reads")),
            limits=self._limits(name, body.get("limits")),
            replicas=self._value(body["replicas"]) if "replicas" in body else None,
            versions=self._versions(name, body["versions"]) if "versions" in body else {},
            sharded_by=str(self._value(body["sharded_by"])) if "sharded_by" in body else "",
            agent=self._flag(f"service {name}", body.get("agent")),
        )

    def _flag(self, what: str, node: yaml.Node | None) -> bool:
        value = node is not None and self._value(node)
        if node is not None and not isinstance(value, bool):
            raise self._error(node, f"agent of {what} cannot be {value!r}", "write true, or leave it out")
        return bool(value)

    def _with_agents(self, services: dict[str, Service], named: Mapping[str, yaml.Node]) -> None:
        """The edges and the configuration that `agent: true` stands for."""
        agents = [service for service in services.values() if service.agent]
        if not agents:
            return
        for needed in (COORDINATOR, MARKET_DATA):
            if needed not in services:
                problem = f"{agents[0].name} is an agent, and there is no {needed}"
                raise self._error(named[agents[0].name], problem, f"add {needed}, or remove `agent`")
        coordinator = services[COORDINATOR]
        if "agents" in coordinator.config:
            problem = "the coordinator's agents are those services that have `agent: true`"
            raise self._error(named[COORDINATOR], problem, "remove config.agents")
        for agent in agents:
            node = named[agent.name]
            self._check_cleared(node, agent.name, agent.clearance, "calls", MARKET_DATA)
            self._check_cleared(node, COORDINATOR, coordinator.clearance, "calls", agent.name)
            services[agent.name] = dataclasses.replace(agent, calls=_joined(agent.calls, MARKET_DATA, FETCHED))
            coordinator = dataclasses.replace(coordinator, calls=_joined(coordinator.calls, agent.name, ASKED))
        names = [agent.name for agent in agents]
        services[COORDINATOR] = dataclasses.replace(coordinator, config={**coordinator.config, "agents": names})

    def _versions(self, service: str, node: yaml.Node) -> dict[str, Version]:
        versions = {}
        for name, item in self._named(node, f"versions of {service}").items():
            if name == STABLE or len(name) > LONGEST_VERSION:
                rule = f"use at most {LONGEST_VERSION} characters; {STABLE!r} is the service's own entry"
                raise self._error(item, f"versions of {service}: bad name {name!r}", rule)
            read = self._record(Version, item, f"version {name} of {service}")
            versions[name] = dataclasses.replace(read, config=_expand(dict(read.config)))
            self._check_count(item, f"version {name} of {service}", read.replicas)
        return versions

    def _check_replicas(self, service: Service, node: yaml.Node, streams: Iterable[str]) -> None:
        """One writer each: what keeps a journal has one process."""
        body = self._mapping(node, f"service {service.name}", _SERVICE)
        for key in ("replicas", "versions", "sharded_by"):
            if key in body and service.name in streams:
                problem = f"{service.name} cannot have {key}: it writes a stream of the event log, which has one writer"
                raise self._error(body[key], problem, f"remove {key}")
            if key in body and key != "replicas" and service.replicas is None:
                raise self._error(body[key], f"{service.name} has {key} and no replicas", "write `replicas: 1` too")
        if service.replicas is not None:
            self._check_count(body["replicas"], service.name, service.replicas)
        if sum(version.weight for version in service.versions.values()) > 100:
            raise self._error(body["versions"], f"weights of {service.name} exceed 100", f"{STABLE} gets the rest")
        if "sharded_by" in body and not _HEADER.match(service.sharded_by):
            problem = f"sharded_by of {service.name} is no header: {service.sharded_by!r}"
            raise self._error(body["sharded_by"], problem, "write one like x-alphamesh-account")

    def _check_count(self, node: yaml.Node, what: str, replicas: Any) -> None:
        if isinstance(replicas, bool) or not isinstance(replicas, int) or not 1 <= replicas <= MOST_REPLICAS:
            raise self._error(node, f"{what}: replicas cannot be {replicas!r}", f"use 1 to {MOST_REPLICAS}")

    def _limits(self, name: str, node: yaml.Node | None) -> Limits:
        limits: Limits = self._record(Limits, node, f"limits of {name}")
        for key in Limits.__dataclass_fields__:
            if node is not None and getattr(limits, key) < 1:
                raise self._error(node, f"limits of {name}: {key} must be at least 1", "leave it out for the default")
        return limits

    def _client(self, name: str, node: yaml.Node, known: Iterable[str]) -> Client:
        body = self._mapping(node, f"client {name}", {"calls", "clearance", "reads"})
        clearance = self._label(node, "clearance", CONFIDENTIAL)
        calls = self._calls(name, clearance, body["calls"], known) if "calls" in body else ()
        reads = self._reads(name, clearance, body.get("reads"))
        return Client(name=name, calls=calls, clearance=clearance, reads=reads)

    def _label(self, node: yaml.Node, key: str, default: str) -> str:
        """A sensitivity or a clearance."""
        found = self._mapping(node, key, None).get(key)
        value = self._value(found) if found is not None else default
        if found is not None and value not in SENSITIVITIES:
            raise self._error(found, f"unknown {key} {value!r}", f"use one of {', '.join(SENSITIVITIES)}")
        return str(value)

    def _check_cleared(self, node: yaml.Node, reader: str, clearance: str, does: str, owner: str) -> None:
        """Nobody reads what is more sensitive than the reader's clearance, by a call or from a stream."""
        sensitivity = self._sensitivity[owner]
        if SENSITIVITIES.index(sensitivity) > SENSITIVITIES.index(clearance):
            problem = f"{reader} {does} {owner}, which is {sensitivity}, with the clearance {clearance}"
            raise self._error(node, problem, "remove the edge, or give the clearance if that is meant")

    def _check_modules(self, services: Iterable[Service], named: Mapping[str, yaml.Node]) -> None:
        """A module is one service: its socket, its journal and its stream have one owner."""
        owners: dict[str, str] = {}
        for service in services:
            if service.module in owners:
                problem = f"{owners[service.module]} and {service.name} both run {service.module}, and write its stream"
                raise self._error(named[service.name], problem, "remove one")
            owners[service.module] = service.name

    def _calls(self, caller: str, clearance: str, node: yaml.Node, known: Iterable[str]) -> tuple[Call, ...]:
        calls = []
        for callee, methods in self._named(node, f"calls of {caller}").items():
            if callee not in known:
                raise self._error(methods, f"{caller} calls {callee!r}, which is no service", "add it or correct it")
            if callee == caller:
                raise self._error(methods, f"{caller} calls itself", "remove the edge")
            self._check_cleared(methods, caller, clearance, "calls", callee)
            if not isinstance(methods, yaml.SequenceNode) or not methods.value:
                raise self._error(methods, f"{caller} -> {callee} names no methods", "write a list of methods")
            names = [(str(self._value(item)), item) for item in methods.value]
            for method, item in names:
                problem = unknown_method(method)
                if problem:
                    raise self._error(item, f"{caller} -> {callee}: {problem}", "see protos/ for what exists")
            calls.append(Call(service=callee, methods=tuple(method for method, _ in names)))
        return tuple(calls)

    def _reads(self, reader: str, clearance: str, node: yaml.Node | None) -> tuple[str, ...]:
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(node, f"reads of {reader} is no list", "write the names of streams: [execution]")
        names = []
        for item in node.value:
            name = str(self._value(item))
            if name not in self._streams:
                known = ", ".join(sorted(self._streams)) or "none"
                raise self._error(
                    item, f"{reader} reads {name!r}, which is no stream", f"event_log.streams has {known}"
                )
            if name in names:
                raise self._error(item, f"{reader} reads {name!r} twice", "remove one")
            self._check_cleared(item, reader, clearance, "reads the stream of", name)
            names.append(name)
        return tuple(names)

    def _start_order(self, services: Mapping[str, Service], node: yaml.Node) -> list[str]:
        try:
            order = TopologicalSorter({s.name: s.callees for s in services.values()}).static_order()
            return [name for name in order if name in services]
        except CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise self._error(node, f"services call each other in a circle: {circle}", "remove one edge") from error

    def _record(self, kind: type[Any], node: yaml.Node | None, what: str) -> Any:
        if node is None:
            return kind()
        defaults = kind()
        body = self._mapping(node, what, set(kind.__dataclass_fields__))
        values = {key: self._value(item) for key, item in body.items()}
        for key, value in list(values.items()):
            default = getattr(defaults, key)
            wanted: tuple[type, ...] = (int, float) if isinstance(default, float) else (type(default),)
            negative = isinstance(value, int | float) and value < 0
            if isinstance(default, Mapping) and isinstance(value, dict):
                continue  # its entries are read by themselves
            if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(v, str) for v in value):
                values[key] = tuple(value)
            elif not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool) or negative:
                raise self._error(body[key], f"{what}.{key} cannot be {value!r}", f"the default is {default!r}")
        if values.get("store", "jetstream") != "jetstream":
            raise self._error(body["store"], f"unknown store {values['store']!r}", "use jetstream")
        return kind(**values)

    def _named(self, node: yaml.Node, what: str) -> dict[str, yaml.Node]:
        items = self._mapping(node, what, None)
        for name, item in items.items():
            if what in ("services", "clients") and name == edges.NAME:
                raise self._error(item, f"{what}: {name!r} is the name of the edge", "use another name")
            if not 0 < len(name) <= LONGEST_NAME or not set(name) <= _NAME_CHARACTERS:
                rule = f"use at most {LONGEST_NAME} lower-case letters, digits and _"
                raise self._error(item, f"{what}: bad name {name!r}", rule)
            if name in RESERVED or (name == triton_section.NAME and not what.startswith("calls of ")):
                raise self._error(item, f"{what}: {name!r} is a name of the mesh itself", "use another")
        return items

    def _mapping(self, node: yaml.Node, what: str, known: set[str] | None) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{what} is no mapping", "write `name:` lines below it")
        items: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = str(self._value(key_node))
            if key in items:
                raise self._error(key_node, f"{what} has {key!r} twice", "remove one")
            if known is not None and key not in known:
                raise self._error(key_node, f"{what} has an unknown key {key!r}", f"known: {', '.join(sorted(known))}")
            items[key] = value
        return items

    def _value(self, node: yaml.Node) -> Any:
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node, deep=True)
        finally:
            loader.dispose()

    def _error(self, node: yaml.Node, problem: str, remedy: str) -> TopologyError:
        return TopologyError(f"{self._path}:{node.start_mark.line + 1}: {problem}; {remedy}")


def _joined(calls: tuple[Call, ...], service: str, method: str) -> tuple[Call, ...]:
    """`calls` with one more method, unless it is among them."""
    methods = next((call.methods for call in calls if call.service == service), ())
    if method in methods:
        return calls
    rest = tuple(call for call in calls if call.service != service)
    return (*rest, Call(service=service, methods=(*methods, method)))


def _check_servers(servers: int, where: str) -> None:
    if servers not in (1, 3, 5):
        raise TopologyError(f"{where}: {servers} servers make no quorum; use 1, 3 or 5")


def _journal_address(text: str, where: str) -> str:
    address = os.path.expandvars(text)
    if "$" in address:
        raise TopologyError(f"{where}: {address[address.index('$') :]} is not set; set the environment variable")
    scheme, colon, _ = address.partition("://")
    if address not in OWN_JOURNALS and not (colon and scheme in _SERVERS):
        options = ", ".join(OWN_JOURNALS)
        raise TopologyError(f"{where}: unknown journal {text!r}; use {options}, postgresql://... or nats://...")
    return address


def _expand(value: Any) -> Any:
    """$ROOT in a text stands for the folder that AlphaMesh is in, so that no path depends on where one is."""
    if isinstance(value, str):
        return value.replace("$ROOT", str(ROOT))
    if isinstance(value, list):
        return [_expand(item) for item in value]
    if isinstance(value, dict):
        return {key: _expand(item) for key, item in value.items()}
    return value


def streamed(methods: Iterable[str]) -> list[str]:
    """Those of `methods`, and of the services that they name with *, whose request is a stream."""
    found = []
    for method in methods:
        service, _, name = method.partition("/")
        descriptor = descriptor_pool.Default().FindServiceByName(service)
        found += [f"{service}/{m.name}" for m in descriptor.methods if m.client_streaming and name in ("*", m.name)]
    return list(dict.fromkeys(found))


def unknown_method(method: str) -> str:
    """Why `method` is none that a contract has; empty when it is one."""
    service, slash, name = method.partition("/")
    if not slash:
        return f"{method!r} is not of the form package.Service/Method"
    _import_contracts(service.rpartition(".")[0])
    try:
        descriptor = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return f"no contract has a service {service!r}"
    if name != "*" and name not in descriptor.methods_by_name:
        return f"{service} has no method {name!r}; it has {', '.join(sorted(descriptor.methods_by_name))}"
    return ""


@functools.cache
def _import_contracts(package: str) -> None:
    """Makes the generated messages of one proto package known to the descriptor pool."""
    if package != "inference" and not package.startswith(("alphamesh.", "grpc.")):
        return
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError:
        return  # the caller names the service that does not exist
    for found in pkgutil.iter_modules(module.__path__):
        if found.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{found.name}")
