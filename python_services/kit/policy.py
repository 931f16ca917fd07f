"""Deadline and retry policy, from the `<domain>_policy.json` beside each contract (gRPC service config).

The same files are rendered into the sidecars' routes, so both are written down once. A deadline is the client's own; a
retry is the sidecar's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

DEFAULT_TIMEOUT_S = 5.0
_MOST_ATTEMPTS = 5  # as in gRPC: more is cut off there


class PolicyError(ValueError):
    """A policy that cannot be used; the message names the method and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a call is made in all while it is UNAVAILABLE, and the pauses between, which double."""

    attempts: int
    first_pause_s: float
    longest_pause_s: float


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Of one method. `timeout_s` 0: no deadline. `retry` None: only what never arrived is sent again."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    retry: Retry | None = None


_DEFAULT = Policy()


def parse(contents: Iterable[bytes]) -> dict[str, Policy]:
    """Policies by "/package.Service/Method", or "/package.Service/*" for all others of a service.

    Raises PolicyError.
    """
    policies: dict[str, Policy] = {}
    for content in contents:
        for entry in orjson.loads(content)["methodConfig"]:
            for name in entry["name"]:
                method = f"/{name['service']}/{name.get('method', '*')}"
                if method in policies:
                    raise PolicyError(f"{method} has two policies; remove one")
                policies[method] = Policy(
                    timeout_s=_seconds(entry["timeout"]), retry=_retry(method, entry.get("retryPolicy"))
                )
    return policies


def of(method: str) -> Policy:
    """That of a full method name such as ``/alphamesh.venue.v1.VenueService/SubmitOrders``, or of its service."""
    policies = every()
    return policies.get(method) or policies.get(f"{method.rpartition('/')[0]}/*", _DEFAULT)


@cache
def every() -> Mapping[str, Policy]:
    """All policies, as `parse` gives them."""
    folder = files("alphamesh").joinpath("policies")
    return parse(path.read_bytes() for path in folder.iterdir() if path.name.endswith("_policy.json"))


@cache
def timeout_s(method: str) -> float:
    """Deadline of a full method name; 0 = none."""
    return of(method).timeout_s


def _retry(method: str, entry: Mapping[str, Any] | None) -> Retry | None:
    if entry is None:
        return None
    if entry["retryableStatusCodes"] != ["UNAVAILABLE"]:
        raise PolicyError(f"{method}: only UNAVAILABLE says that a call may be repeated; remove the other codes")
    if not 2 <= entry["maxAttempts"] <= _MOST_ATTEMPTS:
        raise PolicyError(f"{method}: maxAttempts is {entry['maxAttempts']}; use 2 to {_MOST_ATTEMPTS}")
    if entry["backoffMultiplier"] != 2:
        raise PolicyError(f"{method}: backoffMultiplier must be 2, as the sidecars double their pauses")
    return Retry(
        attempts=entry["maxAttempts"],
        first_pause_s=_seconds(entry["initialBackoff"]),
        longest_pause_s=_seconds(entry["maxBackoff"]),
    )


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))
