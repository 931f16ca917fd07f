"""What the services of a run count, read over their metrics sockets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any

from python_services.kit import tracing
from python_services.kit.observability import metrics_socket

from . import tables
from .errors import MeshError
from .rundir import RunDir

_SAMPLE = re.compile(r"(\w+)\{([^}]*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SUFFIX = ".metrics.sock"
_ANSWER_S = 5.0
_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
FAILURES = frozenset(code.name for code in tracing.FAILURES)


def services(run: RunDir) -> list[str]:
    """Who serves metrics in this run."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in run.sockets.glob(f"*{_SUFFIX}"))


async def read(run: RunDir, service: str) -> str:
    """The metrics of one service, in Prometheus' text format. Raises MeshError when it does not answer."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(metrics_socket(run.sockets, service))
            writer.write(_REQUEST)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
    except (OSError, TimeoutError) as error:
        known = ", ".join(services(run)) or "none"
        raise MeshError(f"{service} serves no metrics ({error!r}); services that do: {known}") from error
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise MeshError(f"{service} refused to show its metrics: {body.decode(errors='replace').strip()}")
    return body.decode()


def rows(texts: Iterable[str]) -> list[dict[str, Any]]:
    """One row for each edge that was called, as its server counted it: requests, failures, durations."""
    edges: dict[tuple[str, ...], dict[str, Any]] = {}
    for text in texts:
        for name, labels, value in samples(text):
            if not name.startswith("alphamesh_rpc_server_"):
                continue
            key = tuple(labels.get(label, "") for label in ("service", "caller", "rpc_service", "rpc_method"))
            edge = edges.setdefault(key, {"codes": {}, "buckets": [], "sum": 0.0})
            if name.endswith("_requests_total"):
                edge["codes"][labels["code"]] = int(value)
            elif name.endswith("_bucket"):
                edge["buckets"].append((float(labels["le"]), int(value)))
            elif name.endswith("_sum"):
                edge["sum"] = value
    return [_row(key, edge) for key, edge in sorted(edges.items())]


def samples(text: str) -> Iterable[tuple[str, Mapping[str, str], float]]:
    """(name, labels, value) of each line that is no comment."""
    for found in _SAMPLE.finditer(text):
        yield found[1], dict(_LABEL.findall(found[2])), float(found[3])


def quantile(buckets: list[tuple[float, int]], share: float) -> float | None:
    """Seconds under which `share` of the calls stayed, interpolated within its bucket; None when beyond the last."""
    total = buckets[-1][1] if buckets else 0
    below, reached = 0.0, 0
    for bound, count in buckets:
        if total and count >= share * total:
            if bound == float("inf"):
                return None
            return below + (bound - below) * (share * total - reached) / max(count - reached, 1)
        below, reached = bound, count
    return None


def show(edges: Iterable[Mapping[str, Any]]) -> None:
    """Prints a table."""
    numbers = frozenset({"requests", "failed", "mean ms", "p50 ms", "p99 ms"})
    columns = ("caller", "service", "method", "requests", "failed", "mean ms", "p50 ms", "p99 ms")
    shown = tables.table("Calls, as the called service counted them", *columns, numbers=numbers)
    for edge in edges:
        failed = f"[red]{edge['failed']}[/red]" if edge["failed"] else ""
        times = [("" if edge[name] is None else f"{edge[name]:.2f}") for name in ("mean_ms", "p50_ms", "p99_ms")]
        shown.add_row(edge["caller"], edge["service"], edge["method"], str(edge["requests"]), failed, *times)
    tables.console.print(shown)


def _row(key: tuple[str, ...], edge: Mapping[str, Any]) -> dict[str, Any]:
    service, caller, rpc_service, method = key
    requests = sum(edge["codes"].values())
    p50, p99 = (quantile(edge["buckets"], share) for share in (0.50, 0.99))
    return {
        "service": service,
        "caller": caller,
        "rpc_service": rpc_service,
        "method": method,
        "requests": requests,
        "codes": edge["codes"],
        "failed": sum(count for code, count in edge["codes"].items() if code in FAILURES),
        "mean_ms": round(edge["sum"] / requests * 1e3, 3) if requests else None,
        "p50_ms": None if p50 is None else round(p50 * 1e3, 3),
        "p99_ms": None if p99 is None else round(p99 * 1e3, 3),
    }
