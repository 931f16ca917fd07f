"""Pieces that every sidecar is made of. Names and fields are those of Envoy's v3 API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from python_services.kit.client import TRUST_DOMAIN

from ..identity import spiffe_id

Json = dict[str, Any]

TYPE = "type.googleapis.com/"
_HTTP = "envoy.extensions.filters.http."
NEVER = "0s"
HEALTH = "grpc.health.v1.Health/Check"  # everybody who has an edge may ask
# Large enough for a snapshot in one flight; Envoy's own default of 256 MiB would let one caller hold that much.
STREAM_WINDOW, CONNECTION_WINDOW = 1 << 20, 16 << 20
HTTP2: Json = {
    "initial_stream_window_size": STREAM_WINDOW,
    "initial_connection_window_size": CONNECTION_WINDOW,
    "max_concurrent_streams": 1024,
}


def typed(name: str, kind: str, **fields: Any) -> Json:
    """A named extension with its configuration."""
    return {"name": name, "typed_config": {"@type": TYPE + kind, **fields}}


def pipe(path: Path) -> Json:
    """A Unix socket that only its owner may open."""
    return {"pipe": {"path": str(path), "mode": 0o600}}


def tcp(host: str, port: int) -> Json:
    """A TCP address."""
    return {"socket_address": {"address": host, "port_value": port}}


def endpoints(name: str, sockets: Sequence[Path]) -> Json:
    """Where the members of the cluster `name` listen."""
    return {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(s)}}}} for s in sockets]}],
    }


def file_source(path: Path) -> Json:
    """A discovery resource in a file that is replaced in one step when it changes."""
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _shown(own: Path) -> Json:
    # With only a minimum set, an upstream connection fails without a word in the log.
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2"],
        "tls_certificate_sds_secret_configs": [{"name": "own", "sds_config": file_source(own)}],
    }


def _mutual(own: Path, trust: Path, who: Json) -> Json:
    # The authority is that of the run and never another, so nothing watches its certificate: see mesh/watches.py.
    believed = {
        "trusted_ca": {"filename": str(trust)},
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": who}],
    }
    return {**_shown(own), "validation_context": believed}


def server_tls(own: Path, trust: Path) -> Json:
    """Serves as the identity in `own`, to anybody of the trust domain; who may do what is the RBAC filter's matter."""
    kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return typed(
        "envoy.transport_sockets.tls",
        kind,
        require_client_certificate=True,
        common_tls_context=_mutual(own, trust, {"prefix": TRUST_DOMAIN}),
    )


def public_tls(own: Path) -> Json:
    """Serves clients outside the mesh, who show no certificate."""
    kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return typed(
        "envoy.transport_sockets.tls",
        kind,
        common_tls_context=_shown(own),
    )


def client_tls(own: Path, trust: Path, callee: str) -> Json:
    """Calls as the identity in `own`, and speaks to `callee` and nobody else."""
    kind = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    return typed(
        "envoy.transport_sockets.tls",
        kind,
        sni=f"{callee}.mesh",
        common_tls_context=_mutual(own, trust, {"exact": spiffe_id(callee)}),
    )


def http2_upstream() -> Json:
    """Speaks HTTP/2 to a cluster, and keeps idle connections."""
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        kind: {
            "@type": TYPE + kind,
            "explicit_http_config": {"http2_protocol_options": HTTP2},
            "common_http_protocol_options": {"idle_timeout": NEVER},
        }
    }


def router(*, says_overloaded: bool) -> Json:
    """The last filter. `says_overloaded`: a call that a circuit breaker refused has x-envoy-overloaded."""
    kind = f"{_HTTP}router.v3.Router"
    return typed("envoy.filters.http.router", kind, suppress_envoy_headers=not says_overloaded)


def rbac(policies: Json) -> Json:
    """Who may call what; nothing that no policy names."""
    return typed("envoy.filters.http.rbac", f"{_HTTP}rbac.v3.RBAC", rules={"action": "ALLOW", "policies": policies})


def rate_limit(per_second: int, **more: Any) -> Json:
    """Refuses what comes faster, as RESOURCE_EXHAUSTED. Does nothing until both fractions are set."""
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return typed(
        "envoy.filters.http.local_ratelimit",
        f"{_HTTP}local_ratelimit.v3.LocalRateLimit",
        stat_prefix="rate_limit",
        token_bucket=bucket(per_second),
        filter_enabled=always,
        filter_enforced=always,
        rate_limited_as_resource_exhausted=True,
        **more,
    )


def bucket(per_second: int) -> Json:
    """Tokens for a second's calls, filled ten times a second."""
    return {
        "max_tokens": per_second,
        "tokens_per_fill": max(per_second // 10, 1),
        "fill_interval": "0.1s" if per_second >= 10 else f"{1 / per_second:.3f}s",
    }


def paths(methods: tuple[str, ...]) -> list[Json]:
    """RBAC permissions for "package.Service/Method" and "package.Service/*"."""
    return [
        {"url_path": {"path": {"prefix": f"/{m.removesuffix('*')}"} if m.endswith("/*") else {"exact": f"/{m}"}}}
        for m in methods
    ]


def connection_manager(prefix: str, *, routes: Json, filters: list[Json], **more: Any) -> Json:
    """HTTP/2 for long streams: nothing idles out, deadlines are the callers' own."""
    kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return typed(
        "envoy.filters.network.http_connection_manager",
        kind,
        stat_prefix=prefix,
        codec_type="HTTP2",
        http2_protocol_options=HTTP2,
        stream_idle_timeout=NEVER,
        common_http_protocol_options={"idle_timeout": NEVER},
        generate_request_id=False,
        # Headers that nobody here reads: fewer to compress, encrypt and parse on every hop.
        server_header_transformation="PASS_THROUGH",
        skip_xff_append=True,
        http_filters=[*filters, router(says_overloaded=prefix == "egress")],
        **routes,
        **more,
    )


def denials(path: Path, *, caller: str, service: str) -> Json:
    """One JSON line for each call that was refused for who made it; python_services/audit/denials.py reads them.

    A refused caller chooses what it sends, so every value has a longest length.
    """
    return {
        "filter": {"grpc_status_filter": {"statuses": ["PERMISSION_DENIED", "UNAUTHENTICATED"]}},
        **typed(
            "envoy.access_loggers.file",
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=str(path),
            log_format={
                "json_format": {
                    "timestamp": "%START_TIME(%s%9f)%",
                    "caller": caller,
                    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
                    "service": service,
                    "user": "%REQ(X-ALPHAMESH-USER):64%",
                    "role": "%REQ(X-ALPHAMESH-ROLE):64%",
                    "method": "%REQ(:PATH):200%",
                    "status": "%GRPC_STATUS%",
                    "detail": "%RESPONSE_CODE_DETAILS%",
                    "traceparent": "%REQ(TRACEPARENT):64%",
                }
            },
        ),
    }


def bootstrap(name: str, cluster: str, admin: Path, listeners: list[Json], clusters: list[Json], most: int) -> Json:
    """A whole Envoy: at most `most` connections, and the figures that somebody reads."""
    monitor = "envoy.resource_monitors.global_downstream_max_connections"
    kind = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {
        "node": {"id": name, "cluster": cluster},
        "admin": {"address": pipe(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"prefix": p} for p in STATS]}}},
        "overload_manager": {"resource_monitors": [typed(monitor, kind, max_active_downstream_connections=most)]},
    }


STATS = ("cluster.", "http.ingress.", "http.egress.", "http.edge.", "listener_manager.", "server.", "sds.")
