"""What may change while a sidecar runs: endpoints, routes and certificates, one file each.

Envoy reads a file again when another is renamed over it, so every file is written beside and renamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from ..identity import Credentials, write_secret
from ..ports import LOOPBACK
from .parts import NEVER, TYPE, Json, tcp

# What may be asked again: a request that never arrived, or that the callee refused to begin. Every mutation carries
# its request_id, so that a repeat of one that did arrive gets the first answer.
RETRY_ON = "unavailable,connect-failure,refused-stream,reset-before-request"


def write(path: Path, kind: str, *resources: Json) -> None:
    """Replaces a discovery file."""
    body = {"resources": [{"@type": f"{TYPE}{kind}", **resource} for resource in resources]}
    write_secret(path, orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())


def write_endpoints(path: Path, group: str, ports: Sequence[int]) -> None:
    """Where the replicas of `group` listen; none: calls to it are UNAVAILABLE."""
    endpoints = [{"endpoint": {"address": tcp(LOOPBACK, port)}} for port in ports]
    resource: Json = {"cluster_name": group, "endpoints": [{"lb_endpoints": endpoints}]}
    write(path, "envoy.config.endpoint.v3.ClusterLoadAssignment", resource)


def write_routes(path: Path, name: str, clusters: Mapping[str, Mapping[str, int]], hash_by: Mapping[str, str]) -> None:
    """By authority: <service>.mesh goes to its clusters by weight. `hash_by`: the header that chooses a replica."""
    hosts = [
        {
            "name": service,
            "domains": [f"{service}.mesh"],
            "routes": [{"match": {"prefix": "/"}, "route": {**_to(weights), **_hash(hash_by[service])}}],
        }
        for service, weights in clusters.items()
    ]
    resource = {"name": name, "virtual_hosts": hosts, "validate_clusters": True}
    write(path, "envoy.config.route.v3.RouteConfiguration", resource)


def _hash(header: str) -> Json:
    return {"hash_policy": [{"header": {"header_name": header}}]} if header else {}


def _to(weights: Mapping[str, int]) -> Json:
    target: dict[str, Any] = (
        {"cluster": next(iter(weights))}
        if len(weights) == 1
        else {"weighted_clusters": {"clusters": [{"name": name, "weight": w} for name, w in weights.items()]}}
    )
    return {
        **target,
        "timeout": NEVER,  # the caller's deadline travels in grpc-timeout
        "retry_policy": {
            "retry_on": RETRY_ON,
            "num_retries": 2,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": f"{TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    },
                }
            ],
            "host_selection_retry_max_attempts": 3,
        },
    }


def write_identity(path: Path, own: Credentials) -> None:
    """A sidecar's certificate and key."""
    certificate = {
        "certificate_chain": {"inline_string": own.certificate},
        "private_key": {"inline_string": own.key},
    }
    kind = "envoy.extensions.transport_sockets.tls.v3.Secret"
    write(path, kind, {"name": "own", "tls_certificate": certificate})


def write_trust(path: Path, authority: str) -> None:
    """Whose certificates are believed."""
    kind = "envoy.extensions.transport_sockets.tls.v3.Secret"
    write(path, kind, {"name": "trust", "validation_context": {"trusted_ca": {"inline_string": authority}}})
