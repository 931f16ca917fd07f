"""The edge of a topology: one way in from outside, and who may do what there.

A caller from outside is a person or a program with a token that names its role. What the roles may call together is
what the identity `edge` may call inside the mesh.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from .topology_model import Call
    from .topology_reader import Reader

NAME = "edge"
_LARGEST_PORT = 65_535


@dataclass(frozen=True, kw_only=True)
class Role:
    """What holders of a token may call; `calls` has those of the included roles, too."""

    name: str
    calls: tuple[Call, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """All of them, "package.Service/Method" or ".../*"."""
        return tuple(method for call in self.calls for method in call.methods)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The listener for the outside.

    `listen`: host:port, port 0 for one that is free. `names`: host names and addresses that clients reach it by, all
    of them in its certificate. `requests_per_s`: calls of one client, that is of one token subject.
    """

    listen: str = "127.0.0.1:0"
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    requests_per_s: int = 100
    max_request_bytes: int = 4 * 2**20
    max_token_hours: float = 7 * 24.0
    roles: Mapping[str, Role] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Address to listen on, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port to listen on; 0: any."""
        return int(self.listen.rpartition(":")[2])

    @property
    def calls(self) -> tuple[Call, ...]:
        """What all roles may call together."""
        return merged(call for role in self.roles.values() for call in role.calls)

    @property
    def owners(self) -> dict[str, str]:
        """The service behind each contract service that is reached here: a path leads to one."""
        return {method.partition("/")[0]: call.service for call in self.calls for method in call.methods}


def read(reader: Reader, node: yaml.Node | None, known: Iterable[str]) -> Edge | None:
    """The `edge:` part; None without one. Raises TopologyError."""
    if node is None:
        return None
    body = reader.mapping(node, NAME, None)
    edge: Edge = reader.record(Edge, node, NAME)
    for key in ("requests_per_s", "max_request_bytes", "max_token_hours"):
        if getattr(edge, key) <= 0:
            raise reader.error(body[key], f"{NAME}.{key} must be more than 0", "leave it out for the default")
    host, colon, port = edge.listen.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) <= _LARGEST_PORT):
        raise reader.error(body["listen"], f"{NAME}.listen is no address: {edge.listen!r}", "write host:port")
    if not edge.names:
        raise reader.error(body["names"], f"{NAME}.names is empty", "list the names that clients reach it by")
    if "roles" not in body:
        raise reader.error(node, f"{NAME} has no roles: nobody could call anything", "list some under `roles:`")
    return dataclasses.replace(edge, roles=_roles(reader, body["roles"], known))


def _roles(reader: Reader, node: yaml.Node, known: Iterable[str]) -> dict[str, Role]:
    nodes = reader.named(node, f"{NAME}.roles")
    own: dict[str, tuple[Call, ...]] = {}
    included: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    for name, item in nodes.items():
        body = reader.mapping(item, f"role {name}", {"includes", "calls", "clearance"})
        clearance = reader.label(item, "clearance", "confidential")
        own[name] = reader.calls(f"role {name}", clearance, body["calls"], known) if "calls" in body else ()
        included[name] = _included(reader, name, body["includes"], nodes) if "includes" in body else []
        for call in own[name]:
            for service in {method.partition("/")[0] for method in call.methods}:
                owner = owners.setdefault(service, call.service)
                if owner != call.service:
                    problem = f"role {name}: {service} is reached at {owner} and at {call.service}"
                    raise reader.error(body["calls"], problem, "a path leads to one service: choose one of them")

    def resolve(name: str, above: tuple[str, ...]) -> tuple[Call, ...]:
        if name in above:
            circle = " -> ".join((*above[above.index(name) :], name))
            raise reader.error(nodes[name], f"roles include each other in a circle: {circle}", "remove one")
        others = [call for other in included[name] for call in resolve(other, (*above, name))]
        return merged([*others, *own[name]])

    return {name: Role(name=name, calls=resolve(name, ())) for name in nodes}


def _included(reader: Reader, name: str, node: yaml.Node, known: Iterable[str]) -> list[str]:
    if not isinstance(node, yaml.SequenceNode):
        raise reader.error(node, f"role {name}: includes is no list", "write [role, ...]")
    names = [str(reader.value(item)) for item in node.value]
    for other, item in zip(names, node.value, strict=True):
        if other not in known:
            raise reader.error(item, f"role {name} includes {other!r}, which is no role", f"known: {', '.join(known)}")
    return names


def merged(calls: Iterable[Call]) -> tuple[Call, ...]:
    """One call for each service, with every method once."""
    found: dict[str, Call] = {}
    for call in calls:
        before = found.get(call.service)
        methods = dict.fromkeys((*(before.methods if before else ()), *call.methods))
        found[call.service] = dataclasses.replace(call, methods=tuple(methods))
    return tuple(found.values())
