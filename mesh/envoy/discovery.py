"""What may change while a sidecar runs: endpoints of replicas, routes and certificates, one file each.

Envoy reads a file again when another is renamed over it, so every file is written beside and renamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from ..identity import Credentials, write_secret
from .parts import TYPE, Json, endpoints
from .routes import Target, virtual_hosts


def write(path: Path, kind: str, *resources: Json) -> None:
    """Replaces a discovery file."""
    body = {"resources": [{"@type": f"{TYPE}{kind}", **resource} for resource in resources]}
    write_secret(path, orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())


def write_endpoints(path: Path, group: str, sockets: Sequence[Path]) -> None:
    """Where the replicas of `group` listen; none: calls to it are UNAVAILABLE."""
    write(path, "envoy.config.endpoint.v3.ClusterLoadAssignment", endpoints(group, sockets))


def write_routes(
    path: Path,
    name: str,
    targets: Mapping[str, Target],
    methods: Mapping[str, Sequence[str]],
    hash_by: Mapping[str, str],
) -> None:
    """Where the calls of one caller go: the clusters of each service by weight, for the methods listed.

    `hash_by`: the header that chooses a replica, by service.
    """
    hosts = virtual_hosts(targets, methods, hash_by)
    resource = {"name": name, "virtual_hosts": hosts, "validate_clusters": True}
    write(path, "envoy.config.route.v3.RouteConfiguration", resource)


def write_identity(path: Path, own: Credentials) -> None:
    """A sidecar's certificate and key."""
    certificate = {
        "certificate_chain": {"inline_string": own.certificate},
        "private_key": {"inline_string": own.key},
    }
    kind = "envoy.extensions.transport_sockets.tls.v3.Secret"
    write(path, kind, {"name": "own", "tls_certificate": certificate})
