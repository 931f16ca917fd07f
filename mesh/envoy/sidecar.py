"""Listeners and clusters of a sidecar: what comes in to its service, and what its service calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from python_services.kit.client import CALLER_KEY, USER_KEY

from ..edge import NAME as EDGE
from ..identity import spiffe_id
from ..instances import Group
from ..topology import Limits
from . import parts
from .parts import HEALTH, NEVER, Json

# On whose behalf the edge calls, and as what; nobody else may say so.
USER_HEADER, ROLE_HEADER = USER_KEY, "x-alphamesh-role"
APP = "app"
NOBODY = "nobody"
_EJECT_S = "5s"
# Random replicas of which the least busy is taken. With Envoy's two, a second attempt at one that hangs would reach
# the same again one time in four; with ten, of two replicas, one time in a thousand.
_CHOICES = 10


def ingress(
    name: str, socket: Path, own: Path, trust: Path, callers: Mapping[str, tuple[str, ...]], limits: Limits, log: Path
) -> Json:
    """Mutual TLS on `socket`; `callers`: by identity, the methods that it may call. Everything else is refused.

    The service reads who calls from a header that this listener sets, and that nobody else can.
    """
    policies = {
        caller: {
            "permissions": [_permission((*methods, HEALTH), speaks_for_users=caller == EDGE)],
            "principals": [{"authenticated": {"principal_name": {"exact": spiffe_id(caller)}}}],
        }
        for caller, methods in callers.items()
    }
    filters = [parts.rbac(policies), parts.rate_limit(limits.requests_per_s)]
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": APP, "timeout": NEVER, "max_stream_duration": {"grpc_timeout_header_max": NEVER}},
    }
    caller = {"header": {"key": CALLER_KEY, "value": "%DOWNSTREAM_PEER_URI_SAN%"}}
    routes = {
        "route_config": {
            "virtual_hosts": [{"name": APP, "domains": ["*"], "routes": [route]}],
            "request_headers_to_add": [{**caller, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        }
    }
    refused = parts.denials(log, caller="%DOWNSTREAM_PEER_URI_SAN%", service=name)
    manager = parts.connection_manager("ingress", routes=routes, filters=filters, access_log=[refused])
    return {
        "name": "ingress",
        "address": parts.pipe(socket),
        "filter_chains": [{"filters": [manager], "transport_socket": parts.server_tls(own, trust)}],
    }


def _permission(methods: tuple[str, ...], *, speaks_for_users: bool) -> Json:
    allowed = {"or_rules": {"rules": parts.paths(methods)}}
    if speaks_for_users:
        return allowed
    stated = [{"header": {"name": name, "present_match": True}} for name in (USER_HEADER, ROLE_HEADER)]
    return {"and_rules": {"rules": [allowed, {"not_rule": {"or_rules": {"rules": stated}}}]}}


def app(socket: Path) -> Json:
    """The service beside this sidecar."""
    return local(APP, socket)


def local(name: str, socket: Path) -> Json:
    """Whoever listens on a Unix socket."""
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": parts.endpoints(name, [socket]),
        "typed_extension_protocol_options": parts.http2_upstream(),
    }


def nobody() -> Json:
    """Where calls go that nobody is to get: they are UNAVAILABLE."""
    return {"name": NOBODY, "type": "STATIC", "load_assignment": {"cluster_name": NOBODY}}


def egress(name: str, socket: Path, routes: Path, log: Path) -> Json:
    """A Unix socket on which <service>.mesh is each service that `routes` knows; what it refuses is in `log`."""
    rds = {"route_config_name": name, "config_source": parts.file_source(routes)}
    refused = parts.denials(log, caller=spiffe_id(name), service="%REQ(:AUTHORITY):64%")
    manager = parts.connection_manager("egress", routes={"rds": rds}, filters=[], access_log=[refused])
    return {"name": name, "address": parts.pipe(socket), "filter_chains": [{"filters": [manager]}]}


def upstream(name: str, group: Group, own: Path, trust: Path, where: Json) -> Json:
    """The replicas of a callee: bounded, watched, and put aside while they fail. `where`: `fixed` or `discovered`.

    With one replica nothing is ejected: half of one host is none, and a restart would be seen late. Where there can be
    several, each is asked whether it serves; one that hangs answers nothing and is passed over.
    """
    callee, limits = group.service.name, group.service.limits
    threshold = {
        "max_connections": limits.connections,
        "max_pending_requests": limits.requests,
        "max_requests": limits.requests,
        "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 3},
        "track_remaining": True,
    }
    return {
        "name": name,
        **where,
        "connect_timeout": "1s",
        "lb_policy": "RING_HASH" if group.service.sharded_by else "LEAST_REQUEST",
        **({} if group.service.sharded_by else {"least_request_lb_config": {"choice_count": _CHOICES}}),
        "circuit_breakers": {"thresholds": [threshold]},
        "outlier_detection": {
            "interval": "1s",
            "base_ejection_time": _EJECT_S,
            "max_ejection_percent": 50,
            "consecutive_5xx": 5,
            "consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100,
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 3,
        },
        # A host that fails or recovers counts at once; by default Envoy collects such news for a second.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": NEVER},
        "typed_extension_protocol_options": parts.http2_upstream(),
        "transport_socket": parts.client_tls(own, trust, callee),
        **(_health(callee) if group.service.replicas else {}),
    }


def fixed(name: str, socket: Path) -> Json:
    """One process in one place for as long as the run lasts. `name`: the cluster's."""
    return {"type": "STATIC", "load_assignment": parts.endpoints(name, [socket])}


def discovered(group: Group, endpoints: Path) -> Json:
    """Replicas that come and go: those in the file `endpoints`."""
    return {
        "type": "EDS",
        "eds_cluster_config": {"service_name": group.name, "eds_config": parts.file_source(endpoints)},
    }


def _health(callee: str) -> Json:
    """Active checks through the callee's sidecar, as often as a hung replica may cost somebody a deadline."""
    check = {
        "timeout": "1s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "no_traffic_healthy_interval": "5s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "grpc_health_check": {"authority": f"{callee}.mesh"},
    }
    # Without the second, an endpoint that was removed is kept until its check fails.
    return {"health_checks": [check], "ignore_health_on_host_removal": True}


def bootstrap(name: str, identity: str, admin: Path, listeners: Sequence[Json], clusters: Sequence[Json]) -> Json:
    """One sidecar."""
    return parts.bootstrap(name, identity, admin, list(listeners), list(clusters), most=CONNECTIONS)


CONNECTIONS = 1024
