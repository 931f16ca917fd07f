"""Where a caller's calls go, and which are made again: from the edges of the topology and the contracts' policies.

Each method that an edge lists has a route; everything else ends here, refused before it leaves the caller's host. The
callee's sidecar refuses it as well (sidecar.ingress), because whoever has a certificate can go there without this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from python_services.kit import policy

from .parts import HEALTH, NEVER, TYPE, Json

Target = Mapping[str, int]  # clusters, each with its share in percent
# A request that never reached a server, or that a server refused to begin, may be sent again whatever it asks for.
_NEVER_ARRIVED = "connect-failure,refused-stream"
_UNAVAILABLE = f"unavailable,reset-before-request,{_NEVER_ARRIVED}"
_PERMISSION_DENIED = 403  # as gRPC maps it


def virtual_hosts(
    targets: Mapping[str, Target], methods: Mapping[str, Sequence[str]], hash_by: Mapping[str, str]
) -> list[Json]:
    """By authority: <service>.mesh goes to its clusters. `methods`: what may be called on each service."""
    hosts = [
        {
            "name": service,
            "domains": [f"{service}.mesh"],
            "routes": _routes({**_clusters(target), **_hash(hash_by[service])}, methods[service]),
        }
        for service, target in targets.items()
    ]
    return [*hosts, {"name": "unlisted", "domains": ["*"], "routes": [_REFUSED]}]


def _clusters(target: Target) -> Json:
    if len(target) == 1:
        return {"cluster": next(iter(target))}
    return {"weighted_clusters": {"clusters": [{"name": name, "weight": w} for name, w in target.items()]}}


def _hash(header: str) -> Json:
    return {"hash_policy": [{"header": {"header_name": header}}]} if header else {}


def _routes(target: Json, methods: Sequence[str]) -> list[Json]:
    routes: list[Json] = []
    for method in (*methods, HEALTH):
        service, _, name = method.partition("/")
        if name != "*":
            routes.append(_route({"path": f"/{method}"}, target, policy.of(f"/{method}")))
            continue
        # The methods that have a policy of their own, then all others of the service.
        own = [path for path in policy.every() if path.startswith(f"/{service}/") and not path.endswith("/*")]
        routes += [_route({"path": path}, target, policy.of(path)) for path in sorted(own)]
        routes.append(_route({"prefix": f"/{service}/"}, target, policy.of(f"/{method}")))
    return [*routes, _REFUSED]


def _route(match: Json, target: Json, its: policy.Policy) -> Json:
    # No timeout: the caller's deadline travels in grpc-timeout.
    return {"match": match, "route": {**target, "timeout": NEVER, "retry_policy": _retries(its.retry)}}


def _retries(retry: policy.Retry | None) -> Json:
    kind = f"{TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    made: Json = {
        "retry_on": _UNAVAILABLE if retry else _NEVER_ARRIVED,
        "num_retries": retry.attempts - 1 if retry else 2,
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": kind}}
        ],
        "host_selection_retry_max_attempts": 3,
    }
    if retry:
        made["retry_back_off"] = {
            "base_interval": f"{retry.first_pause_s:g}s",
            "max_interval": f"{retry.longest_pause_s:g}s",
        }
    return made


_REFUSED: Json = {
    "match": {"prefix": "/"},
    "direct_response": {
        "status": _PERMISSION_DENIED,
        "body": {"inline_string": "the topology has no such edge; add the method under `calls` of the caller"},
    },
}
