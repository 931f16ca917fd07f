"""The listener for the outside: TLS, a token, a role, a rate, a size; then on to the services as the identity `edge`.

Who a caller is and which role it plays travels on in two headers. Envoy takes them from the verified token; what a
caller sends under such a name is removed before anything looks at it. What was let through goes to the egress of the
edge's own service, as every call inside the mesh does: retries, weights and replicas are decided in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from python_services.kit.client import authority

from ..edge import NAME, Edge
from ..identity import spiffe_id
from ..tokens import AUDIENCE, ISSUER
from . import parts, sidecar
from .parts import HEALTH, NEVER, Json
from .sidecar import APP, ROLE_HEADER, USER_HEADER

REFLECTION = tuple(f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha"))
INSIDE = "inside"
_CLAIMS = "claims"
_JWT = "envoy.filters.http.jwt_authn"
_HTTP = "envoy.extensions.filters.http."
_CLOCK_SKEW_S = 5
_CLIENTS = 1024  # token subjects whose rates are known at a time
_RESOURCE_EXHAUSTED = "8"
# A caller outside shares nothing with us: its windows are small, and one that is gone is noticed.
_HTTP2: Json = {
    "max_concurrent_streams": 100,
    "initial_stream_window_size": 256 * 1024,
    "initial_connection_window_size": 1024 * 1024,
    "connection_keepalive": {"interval": "30s", "timeout": "10s"},
}
_OWN_HEADERS = ("x-alphamesh-", "x-envoy-")


def listener(
    host: str,
    port: int,
    edge: Edge,
    *,
    server: Path,
    jwks: str,
    owners: Mapping[str, str],
    streams: Iterable[str],
    log: Path,
) -> Json:
    """`owners`: the service of each contract; `streams`: methods whose request is a stream, which no limit of its
    whole size can apply to."""
    routes = [
        *(_route({"path": f"/{method}"}, _inside(owners[method.partition("/")[0]]), stream=True) for method in streams),
        *(_route({"prefix": f"/{contract}/"}, _inside(owner)) for contract, owner in owners.items()),
        *(_route({"prefix": f"/{contract}/"}, {"cluster": APP}, stream=True) for contract in REFLECTION),
        _route({"path": f"/{HEALTH}"}, {"cluster": APP}),
    ]
    manager = parts.connection_manager(
        "edge",
        routes={"route_config": {"virtual_hosts": [{"name": "edge", "domains": ["*"], "routes": routes}]}},
        filters=[
            _tokens(jwks, edge.max_token_hours),
            _rate(edge.requests_per_s),
            parts.rbac(_roles(edge)),
            _size(edge.max_request_bytes),
        ],
        access_log=[parts.denials(log, caller=spiffe_id(NAME), service=NAME)],
        early_header_mutation_extensions=[_own_headers_only()],
        use_remote_address=True,
        local_reply_config=_replies(edge.max_request_bytes),
        normalize_path=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
    )
    manager["typed_config"] |= {
        "http2_protocol_options": _HTTP2,
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "300s",
        "common_http_protocol_options": {
            "idle_timeout": "3600s",
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
    }
    return {
        "name": "entry",  # the egress of the service is called "edge"
        "address": parts.tcp(host, port),
        "per_connection_buffer_limit_bytes": 1 << 20,
        "filter_chains": [{"filters": [manager], "transport_socket": parts.public_tls(server)}],
    }


def inside(socket: Path) -> Json:
    """The egress that is the way on."""
    return sidecar.local(INSIDE, socket)


def _inside(owner: str) -> Json:
    return {"cluster": INSIDE, "host_rewrite_literal": authority(owner)}


def _route(match: Json, to: Json, *, stream: bool = False) -> Json:
    """The caller's deadline travels in grpc-timeout; without one the service has its own."""
    buffer = {"@type": f"{parts.TYPE}{_HTTP}buffer.v3.BufferPerRoute", "disabled": True}
    return {
        "match": match,
        "route": {
            **to,
            "timeout": NEVER,
            "max_stream_duration": {"grpc_timeout_header_max": NEVER},
        },
        **({"typed_per_filter_config": {"envoy.filters.http.buffer": buffer}} if stream else {}),
    }


def _tokens(jwks: str, hours: float) -> Json:
    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": jwks},
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
        "require_expiration": True,
        "max_lifetime": f"{hours * 3600:.0f}s",
        "clock_skew_seconds": _CLOCK_SKEW_S,
        "payload_in_metadata": _CLAIMS,
        "claim_to_headers": [
            {"header_name": USER_HEADER, "claim_name": "sub"},
            {"header_name": ROLE_HEADER, "claim_name": "role"},
        ],
    }
    rule = {"match": {"prefix": "/"}, "requires": {"provider_name": ISSUER}}
    kind = f"{_HTTP}jwt_authn.v3.JwtAuthentication"
    return parts.typed(_JWT, kind, providers={ISSUER: provider}, rules=[rule])


def _rate(per_second: int) -> Json:
    """A bucket for each subject. A descriptor without a value matches every value, each by itself."""
    client = {"actions": [{"request_headers": {"header_name": USER_HEADER, "descriptor_key": "user"}}]}
    return parts.rate_limit(
        per_second,
        rate_limits=[client],
        descriptors=[{"entries": [{"key": "user"}], "token_bucket": parts.bucket(per_second)}],
        max_dynamic_descriptors=_CLIENTS,
        always_consume_default_token_bucket=False,
    )


def _roles(edge: Edge) -> Json:
    """By the role that the verified token names; reflection and health for all of them."""
    common = tuple(f"{service}/*" for service in REFLECTION)
    return {
        role.name: {
            "permissions": [{"or_rules": {"rules": parts.paths((*role.methods, *common, HEALTH))}}],
            "principals": [
                {
                    "sourced_metadata": {
                        "metadata_matcher": {
                            "filter": _JWT,
                            "path": [{"key": _CLAIMS}, {"key": "role"}],
                            "value": {"string_match": {"exact": role.name}},
                        }
                    }
                }
            ],
        }
        for role in edge.roles.values()
    }


def _size(most: int) -> Json:
    return parts.typed("envoy.filters.http.buffer", f"{_HTTP}buffer.v3.Buffer", max_request_bytes=most)


def _own_headers_only() -> Json:
    removed = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in _OWN_HEADERS]
    kind = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return parts.typed("envoy.http.early_header_mutation.header_mutation", kind, mutations=removed)


def _replies(most: int) -> Json:
    """Two refusals that Envoy answers with another status: it has none of gRPC's for a body that is too large, and a
    token for another audience is FORBIDDEN to it, though nobody is known by it."""
    too_large = {
        "filter": _status(413),
        "body": {"inline_string": f"the request is larger than {most} bytes; send it in parts"},
        "headers_to_add": [
            {
                "header": {"key": "grpc-status", "value": _RESOURCE_EXHAUSTED},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }
    # No verified claims: a present subject is never empty, so that this matches an absent one only.
    subject = {
        "filter": _JWT,
        "path": [{"key": _CLAIMS}, {"key": "sub"}],
        "value": {"string_match": {"exact": ""}},
    }
    unknown = {"metadata_filter": {"matcher": subject, "match_if_key_not_found": True}}
    another_audience = {"filter": {"and_filter": {"filters": [_status(403), unknown]}}, "status_code": 401}
    return {"mappers": [too_large, another_audience]}


def _status(code: int) -> Json:
    value = {"default_value": code, "runtime_key": "edge.status"}  # a key is required; nothing sets it
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}
