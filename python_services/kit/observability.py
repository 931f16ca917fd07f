"""What `serve` starts before a service is built: counting, tracing, and the socket where metrics are read.

Metrics are served over HTTP on a Unix socket beside the service's own, for its user only:
``curl --unix-socket sock/execution.metrics.sock http://localhost/metrics``. Who accepts OpenMetrics gets exemplars.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import config, metrics, snapshots, telemetry, tracing
from .otlp import Exporter

_PATH = "/metrics"
_LONGEST_HEAD = 16 * 1024
_PATIENCE_S = 5.0


def metrics_socket(sockets: Path, service: str) -> Path:
    """Where the metrics of a service are read."""
    return sockets / f"{service}.metrics.sock"


class Observability:
    """Of one process."""

    def __init__(self, service: str, version: str, settings: Mapping[str, Any] | None, socket: Path) -> None:
        """settings: those of `tracing.Settings`; None exports nothing. Raises ConfigError."""
        self._service = service
        self._socket = socket
        self._registry = metrics.start()
        self._server: asyncio.Server | None = None
        self._exporter: Exporter | None = None
        self._exporting: asyncio.Task[None] | None = None
        if settings is not None:
            chosen = config.load(tracing.Settings, settings, where="tracing")
            self._exporter = Exporter(chosen.endpoint, service, version)
            tracing.start(chosen, self._exporter.keep)
        self._show()

    async def start(self) -> None:
        """From now on metrics can be read, and spans are exported."""
        self._socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._answer, self._socket, limit=_LONGEST_HEAD)
        self._socket.chmod(0o600)
        if self._exporter is not None:
            self._exporting = asyncio.create_task(self._exporter.run(), name="export-spans")
            self._exporting.add_done_callback(_ended)

    async def close(self) -> None:
        """Exports what is left."""
        if self._exporter is not None and self._exporting is not None:
            self._exporting.cancel()
            await asyncio.gather(self._exporting, return_exceptions=True)
            await self._exporter.close()
        if self._server is not None:
            self._server.close()

    def _show(self) -> None:
        show = metrics.figure
        show("process_cpu_seconds_total", "User and system CPU time.", _cpu_seconds)
        show("process_resident_memory_bytes", "Resident memory.", _resident_bytes)
        hits, misses = "alphamesh_snapshot_cache_hits_total", "alphamesh_snapshot_cache_misses_total"
        show(hits, "Snapshots that were in memory.", lambda: snapshots.lookups.hits)
        show(misses, "Snapshots that had to be fetched.", lambda: snapshots.lookups.misses)
        exporter = self._exporter
        if exporter is not None:
            show("alphamesh_spans_exported_total", "Spans that the collector took.", lambda: exporter.exported)
            show("alphamesh_spans_dropped_total", "Spans that were lost.", lambda: exporter.dropped)
            show("alphamesh_spans_waiting", "Spans that were not exported yet.", lambda: exporter.waiting)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One HTTP/1.1 request a connection."""
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_PATIENCE_S):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                writer.write(self._response(head))
                await writer.drain()
        writer.close()

    def _response(self, head: str) -> bytes:
        request, _, headers = head.partition("\r\n")
        method, _, target = request.partition(" ")
        path = target.split(" ")[0].partition("?")[0]
        exemplars = "application/openmetrics-text" in headers.lower()
        kind = metrics.OPEN_METRICS if exemplars else metrics.TEXT
        if path != _PATH:
            status, body = "404 Not Found", f"only {_PATH} is here\n"
        elif method != "GET":
            status, body = "405 Method Not Allowed", "use GET\n"
        else:
            status, body = "200 OK", self._registry.render(self._service, exemplars=exemplars)
        content = body.encode()
        answer = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        return answer.encode() + content


def _ended(task: asyncio.Task[None]) -> None:
    """A fault of the exporter costs spans, never the service."""
    if not task.cancelled() and (error := task.exception()) is not None:
        telemetry.logger().error("spans are exported no more", exc_info=error)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_bytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
