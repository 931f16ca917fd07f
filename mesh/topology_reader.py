"""From YAML to a topology. Every mistake is refused with file and line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from . import edge as edges
from . import triton_section
from .methods import unknown_method
from .topology_model import (
    CONFIDENTIAL,
    SENSITIVITIES,
    STABLE,
    Call,
    Client,
    EventLog,
    Journals,
    Limits,
    Mesh,
    Service,
    Stream,
    Supervision,
    Topology,
    TopologyError,
    Tracing,
    Version,
    check_servers,
    journal_address,
)

ROOT = Path(__file__).resolve().parent.parent
# Identities, processes and users of the event log that are not from a topology.
RESERVED = frozenset({"alphamesh", "edge", "nats", "nursery", "outside", "postgres", "supervisor"})
_TOP = {
    *("version", "mesh", "edge", "event_log", "journals", "supervision", "tracing"),
    *("triton", "services", "clients"),
}
LONGEST_NAME = 32  # a socket carries the name, and its path is short
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
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


class Reader:
    """Reads one topology. Its pieces are read with the same checks by the modules of the edge and of Triton."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: Mapping[str, Stream] = {}
        self._sensitivity: dict[str, str] = {}  # of each service, and of the stream that it writes

    def topology(self, node: yaml.Node) -> Topology:
        top = self.mapping(node, "the topology", _TOP)
        if "version" not in top or self.value(top["version"]) != 1:
            raise self.error(top.get("version", node), "version must be 1", "write `version: 1`")
        if "services" not in top:
            raise self.error(node, "no services", "list at least one under `services:`")
        named = self.named(top["services"], "services")
        if not named:
            raise self.error(top["services"], "no services", "list at least one")
        event_log = self._event_log(top.get("event_log"), named)
        self._streams = event_log.streams
        self._sensitivity = {name: self.label(body, "sensitivity", CONFIDENTIAL) for name, body in named.items()}
        callees = [*named]
        if "triton" in top:
            self._sensitivity[triton_section.NAME] = self.label(top["triton"], "sensitivity", CONFIDENTIAL)
            callees.append(triton_section.NAME)
        services = {name: self._service(name, body, callees) for name, body in named.items()}
        self._with_agents(services, named)
        self._check_modules([one for one in services.values() if one.replicas is None], named)
        clients = self.named(top["clients"], "clients") if "clients" in top else {}
        for name, body in named.items():
            self._check_replicas(services[name], body, event_log.streams)
        for name, body in clients.items():
            if name in services:
                raise self.error(body, f"{name!r} is a service and a client", "an identity has one owner: rename one")
        return Topology(
            path=self._path,
            mesh=self.record(Mesh, top.get("mesh"), "mesh"),
            edge=edges.read(self, top.get("edge"), named),
            event_log=event_log,
            journals=self._journals(top.get("journals")),
            supervision=self.record(Supervision, top.get("supervision"), "supervision"),
            tracing=self._tracing(top.get("tracing"), services),
            triton=triton_section.read(
                self, top.get("triton"), self._sensitivity.get(triton_section.NAME, CONFIDENTIAL)
            ),
            services=tuple(services[name] for name in self._start_order(services, top["services"])),
            clients=tuple(self._client(name, body, callees) for name, body in clients.items()),
        )

    def _event_log(self, node: yaml.Node | None, known: Iterable[str]) -> EventLog:
        read: EventLog = self.record(EventLog, node, "event_log")
        if node is None:
            return read
        body = self.mapping(node, "event_log", None)
        if "servers" in body:
            check_servers(read.servers, place(body["servers"]))
        streams = {}
        for name, item in (self.named(body["streams"], "event_log.streams") if "streams" in body else {}).items():
            if name not in known:
                raise self.error(item, f"stream {name!r} belongs to no service", "name it after its writer")
            streams[name] = self.record(Stream, item, f"stream {name}")
        return dataclasses.replace(read, streams=streams)

    def _journals(self, node: yaml.Node | None) -> Journals:
        read: Journals = self.record(Journals, node, "journals")
        where = f"{place(node)}: journals.address" if node is not None else ""
        return Journals(address=journal_address(read.address, where))

    def _tracing(self, node: yaml.Node | None, known: Iterable[str]) -> Tracing:
        read: Tracing = self.record(Tracing, node, "tracing")
        if node is None:
            return read
        body = self.mapping(node, "tracing", None)
        if read.collector and "://" not in read.collector and read.collector not in known:
            problem = f"tracing.collector {read.collector!r} is no service and no address"
            raise self.error(body["collector"], problem, "name a service, or write http://HOST:PORT")
        for name in ("decision_rate", "rate"):
            if getattr(read, name) > 1.0:
                raise self.error(body[name], f"tracing.{name} is {getattr(read, name)}", "use a share from 0 to 1")
        return read

    def _service(self, name: str, node: yaml.Node, known: Iterable[str]) -> Service:
        body = self.mapping(node, f"service {name}", _SERVICE)
        sensitivity = self._sensitivity[name]
        clearance = self.label(node, "clearance", sensitivity)
        if SENSITIVITIES.index(clearance) < SENSITIVITIES.index(sensitivity):
            problem = f"{name} is {sensitivity} itself and has the clearance {clearance}"
            raise self.error(body["clearance"], problem, "raise it, or leave it out")
        config = self.value(body["config"]) if "config" in body else {}
        if not isinstance(config, dict):
            raise self.error(body["config"], f"config of {name} is no mapping", "write `key: value` lines")
        return Service(
            name=name,
            module=str(self.value(body["module"])) if "module" in body else f"python_services.{name}",
            sensitivity=sensitivity,
            config=_expand(config),
            calls=self.calls(name, clearance, body["calls"], known) if "calls" in body else (),
            clearance=clearance,
            reads=self._reads(name, clearance, body.get("reads")),
            limits=self._limits(name, body.get("limits")),
            replicas=self.value(body["replicas"]) if "replicas" in body else None,
            versions=self._versions(name, body["versions"]) if "versions" in body else {},
            sharded_by=str(self.value(body["sharded_by"])) if "sharded_by" in body else "",
            agent=self._flag(f"service {name}", body.get("agent")),
        )

    def _flag(self, what: str, node: yaml.Node | None) -> bool:
        value = node is not None and self.value(node)
        if node is not None and not isinstance(value, bool):
            raise self.error(node, f"agent of {what} cannot be {value!r}", "write true, or leave it out")
        return bool(value)

    def _with_agents(self, services: dict[str, Service], named: Mapping[str, yaml.Node]) -> None:
        """The edges and the configuration that `agent: true` stands for."""
        agents = [service for service in services.values() if service.agent]
        if not agents:
            return
        for needed in (COORDINATOR, MARKET_DATA):
            if needed not in services:
                problem = f"{agents[0].name} is an agent, and there is no {needed}"
                raise self.error(named[agents[0].name], problem, f"add {needed}, or remove `agent`")
        coordinator = services[COORDINATOR]
        if "agents" in coordinator.config:
            problem = "the coordinator's agents are those services that have `agent: true`"
            raise self.error(named[COORDINATOR], problem, "remove config.agents")
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
        for name, item in self.named(node, f"versions of {service}").items():
            if name == STABLE or len(name) > LONGEST_VERSION:
                rule = f"use at most {LONGEST_VERSION} characters; {STABLE!r} is the service's own entry"
                raise self.error(item, f"versions of {service}: bad name {name!r}", rule)
            read = self.record(Version, item, f"version {name} of {service}")
            versions[name] = dataclasses.replace(read, config=_expand(dict(read.config)))
            self._check_count(item, f"version {name} of {service}", read.replicas)
        return versions

    def _check_replicas(self, service: Service, node: yaml.Node, streams: Iterable[str]) -> None:
        """One writer each: what keeps a journal has one process."""
        body = self.mapping(node, f"service {service.name}", _SERVICE)
        for key in ("replicas", "versions", "sharded_by"):
            if key in body and service.name in streams:
                problem = f"{service.name} cannot have {key}: it writes a stream of the event log, which has one writer"
                raise self.error(body[key], problem, f"remove {key}")
            if key in body and key != "replicas" and service.replicas is None:
                raise self.error(body[key], f"{service.name} has {key} and no replicas", "write `replicas: 1` too")
        if service.replicas is not None:
            self._check_count(body["replicas"], service.name, service.replicas)
        if sum(version.weight for version in service.versions.values()) > 100:
            raise self.error(body["versions"], f"weights of {service.name} exceed 100", f"{STABLE} gets the rest")
        if "sharded_by" in body and not _HEADER.match(service.sharded_by):
            problem = f"sharded_by of {service.name} is no header: {service.sharded_by!r}"
            raise self.error(body["sharded_by"], problem, "write one like x-alphamesh-account")

    def _check_count(self, node: yaml.Node, what: str, replicas: Any) -> None:
        if isinstance(replicas, bool) or not isinstance(replicas, int) or not 1 <= replicas <= MOST_REPLICAS:
            raise self.error(node, f"{what}: replicas cannot be {replicas!r}", f"use 1 to {MOST_REPLICAS}")

    def _limits(self, name: str, node: yaml.Node | None) -> Limits:
        limits: Limits = self.record(Limits, node, f"limits of {name}")
        for key in Limits.__dataclass_fields__:
            if node is not None and getattr(limits, key) < 1:
                raise self.error(node, f"limits of {name}: {key} must be at least 1", "leave it out for the default")
        return limits

    def _client(self, name: str, node: yaml.Node, known: Iterable[str]) -> Client:
        body = self.mapping(node, f"client {name}", {"calls", "clearance", "reads"})
        clearance = self.label(node, "clearance", CONFIDENTIAL)
        calls = self.calls(name, clearance, body["calls"], known) if "calls" in body else ()
        reads = self._reads(name, clearance, body.get("reads"))
        return Client(name=name, calls=calls, clearance=clearance, reads=reads)

    def label(self, node: yaml.Node, key: str, default: str) -> str:
        """A sensitivity or a clearance."""
        found = self.mapping(node, key, None).get(key)
        value = self.value(found) if found is not None else default
        if found is not None and value not in SENSITIVITIES:
            raise self.error(found, f"unknown {key} {value!r}", f"use one of {', '.join(SENSITIVITIES)}")
        return str(value)

    def _check_cleared(self, node: yaml.Node, reader: str, clearance: str, does: str, owner: str) -> None:
        """Nobody reads what is more sensitive than the reader's clearance, by a call or from a stream."""
        sensitivity = self._sensitivity[owner]
        if SENSITIVITIES.index(sensitivity) > SENSITIVITIES.index(clearance):
            problem = f"{reader} {does} {owner}, which is {sensitivity}, with the clearance {clearance}"
            raise self.error(node, problem, "remove the edge, or give the clearance if that is meant")

    def _check_modules(self, services: Iterable[Service], named: Mapping[str, yaml.Node]) -> None:
        """A module is one service: its socket, its journal and its stream have one owner."""
        owners: dict[str, str] = {}
        for service in services:
            if service.module in owners:
                problem = f"{owners[service.module]} and {service.name} both run {service.module}, and write its stream"
                raise self.error(named[service.name], problem, "remove one")
            owners[service.module] = service.name

    def calls(self, caller: str, clearance: str, node: yaml.Node, known: Iterable[str]) -> tuple[Call, ...]:
        """Edges."""
        calls = []
        for callee, methods in self.named(node, f"calls of {caller}").items():
            if callee not in known:
                raise self.error(methods, f"{caller} calls {callee!r}, which is no service", "add it or correct it")
            if callee == caller:
                raise self.error(methods, f"{caller} calls itself", "remove the edge")
            self._check_cleared(methods, caller, clearance, "calls", callee)
            if not isinstance(methods, yaml.SequenceNode) or not methods.value:
                raise self.error(methods, f"{caller} -> {callee} names no methods", "write a list of methods")
            names = [(str(self.value(item)), item) for item in methods.value]
            for method, item in names:
                problem = unknown_method(method)
                if problem:
                    raise self.error(item, f"{caller} -> {callee}: {problem}", "see protos/ for what exists")
            calls.append(Call(service=callee, methods=tuple(method for method, _ in names)))
        return tuple(calls)

    def _reads(self, reader: str, clearance: str, node: yaml.Node | None) -> tuple[str, ...]:
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"reads of {reader} is no list", "write the names of streams: [execution]")
        names = []
        for item in node.value:
            name = str(self.value(item))
            if name not in self._streams:
                known = ", ".join(sorted(self._streams)) or "none"
                raise self.error(item, f"{reader} reads {name!r}, which is no stream", f"event_log.streams has {known}")
            if name in names:
                raise self.error(item, f"{reader} reads {name!r} twice", "remove one")
            self._check_cleared(item, reader, clearance, "reads the stream of", name)
            names.append(name)
        return tuple(names)

    def _start_order(self, services: Mapping[str, Service], node: yaml.Node) -> list[str]:
        try:
            order = TopologicalSorter({s.name: s.callees for s in services.values()}).static_order()
            return [name for name in order if name in services]
        except CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise self.error(node, f"services call each other in a circle: {circle}", "remove one edge") from error

    def record(self, kind: type[Any], node: yaml.Node | None, what: str) -> Any:
        """A dataclass of plain values, each of the type that its default has."""
        if node is None:
            return kind()
        defaults = kind()
        body = self.mapping(node, what, set(kind.__dataclass_fields__))
        values = {key: self.value(item) for key, item in body.items()}
        for key, value in list(values.items()):
            default = getattr(defaults, key)
            wanted: tuple[type, ...] = (int, float) if isinstance(default, float) else (type(default),)
            negative = isinstance(value, int | float) and value < 0
            if isinstance(default, Mapping) and isinstance(value, dict):
                continue  # its entries are read by themselves
            if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(v, str) for v in value):
                values[key] = tuple(value)
            elif not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool) or negative:
                raise self.error(body[key], f"{what}.{key} cannot be {value!r}", f"the default is {default!r}")
        if values.get("store", "jetstream") != "jetstream":
            raise self.error(body["store"], f"unknown store {values['store']!r}", "use jetstream")
        return kind(**values)

    def named(self, node: yaml.Node, what: str) -> dict[str, yaml.Node]:
        """The entries of a mapping whose keys are names in the mesh."""
        items = self.mapping(node, what, None)
        for name, item in items.items():
            if what in ("services", "clients") and name == edges.NAME:
                raise self.error(item, f"{what}: {name!r} is the name of the edge", "use another name")
            if not 0 < len(name) <= LONGEST_NAME or not set(name) <= _NAME_CHARACTERS:
                rule = f"use at most {LONGEST_NAME} lower-case letters, digits and _"
                raise self.error(item, f"{what}: bad name {name!r}", rule)
            if name in RESERVED or (name == triton_section.NAME and not what.startswith("calls of ")):
                raise self.error(item, f"{what}: {name!r} is a name of the mesh itself", "use another")
        return items

    def mapping(self, node: yaml.Node, what: str, known: set[str] | None) -> dict[str, yaml.Node]:
        """The entries of a mapping, by key; with `known`, no other keys."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{what} is no mapping", "write `name:` lines below it")
        items: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = str(self.value(key_node))
            if key in items:
                raise self.error(key_node, f"{what} has {key!r} twice", "remove one")
            if known is not None and key not in known:
                raise self.error(key_node, f"{what} has an unknown key {key!r}", f"known: {', '.join(sorted(known))}")
            items[key] = value
        return items

    def value(self, node: yaml.Node) -> Any:
        """A plain value."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node, deep=True)
        finally:
            loader.dispose()

    def error(self, node: yaml.Node, problem: str, remedy: str) -> TopologyError:
        """With file, line and remedy."""
        return TopologyError(f"{place(node)}: {problem}; {remedy}")


def place(node: yaml.Node) -> str:
    """File and line."""
    return f"{node.start_mark.name}:{node.start_mark.line + 1}"


def _joined(calls: tuple[Call, ...], service: str, method: str) -> tuple[Call, ...]:
    """`calls` with one more method, unless it is among them."""
    methods = next((call.methods for call in calls if call.service == service), ())
    if method in methods:
        return calls
    rest = tuple(call for call in calls if call.service != service)
    return (*rest, Call(service=service, methods=(*methods, method)))


def _expand(value: Any) -> Any:
    """$ROOT in a text stands for the folder that AlphaMesh is in, so that no path depends on where one is."""
    if isinstance(value, str):
        return value.replace("$ROOT", str(ROOT))
    if isinstance(value, list):
        return [_expand(item) for item in value]
    if isinstance(value, dict):
        return {key: _expand(item) for key, item in value.items()}
    return value
