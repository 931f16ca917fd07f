"""Deadline and retry policy, from the `<domain>_policy.json` beside each contract (gRPC service config).

The same files are rendered into the sidecars' routes, so a timeout is written down once.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import orjson

DEFAULT_TIMEOUT_S = 5.0


@cache
def _timeouts() -> dict[str, float]:
    timeouts: dict[str, float] = {}
    folder = files("alphamesh").joinpath("policies")
    for path in sorted((p for p in folder.iterdir() if p.name.endswith("_policy.json")), key=lambda p: p.name):
        for entry in orjson.loads(path.read_bytes())["methodConfig"]:
            seconds = float(entry["timeout"].removesuffix("s"))
            for name in entry["name"]:
                timeouts[f"/{name['service']}/{name.get('method', '*')}"] = seconds
    return timeouts


@cache
def timeout_s(method: str) -> float:
    """Deadline of a full method name such as ``/alphamesh.venue.v1.VenueService/SubmitOrders``; 0 = none."""
    timeouts = _timeouts()
    service = method.rpartition("/")[0]
    return timeouts.get(method, timeouts.get(f"{service}/*", DEFAULT_TIMEOUT_S))
