"""One service of the kit, and several ways to it: its own socket, one Envoy, and pairs of sidecars as a run has them.

The service is started by `alphamesh up` without sidecars. Every pair is rendered by mesh/sidecars.py into a run
directory of its own, in which the service's socket is a link to the real one; `change` may edit the bootstraps.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import orjson
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from mesh import topology
from mesh.envoy import parts, sidecar
from mesh.rundir import RunDir
from mesh.sidecars import SUFFIX, Sidecar, Sidecars

ALPHAMESH = Path(sys.executable).with_name("alphamesh")
SUBJECT, CALLER = "subject", "operator"
TOPOLOGY = """version: 1
mesh: {sidecars: false}
services:
  subject: {module: benchmarks.servers.subject}
clients:
  operator:
    calls:
      subject:
        - alphamesh.risk.v1.RiskService/GetLimits
        - alphamesh.execution.v1.ExecutionService/ReserveExposure
        - alphamesh.execution.v1.ExecutionService/StreamEvents
"""
Json = parts.Json
Change = Callable[[Json], None]


@dataclass
class Way:
    """A socket on which the service is reached, and the processes on the way there."""

    socket: Path
    pids: list[int] = field(default_factory=list)
    sampled_every: int = 0  # calls; 0: none is traced


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans over OTLP and counts them."""

    def __init__(self, socket: Path) -> None:
        self.spans = 0
        self._server = grpc.server(futures.ThreadPoolExecutor(1))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self._server.add_insecure_port(f"unix:{socket}")
        self._server.start()

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Counts."""
        self.spans += sum(len(s.spans) for resource in request.resource_spans for s in resource.scope_spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def close(self) -> None:
        """Stops serving."""
        self._server.stop(None).wait()


class Ground:
    """The running service; `pair` and `hop` add ways to it. `close` ends everything."""

    def __init__(self) -> None:
        self._keep = tempfile.TemporaryDirectory(prefix="am-", ignore_cleanup_errors=True)
        self.folder = Path(self._keep.name)
        path = self.folder / "topology.yaml"
        path.write_text(TOPOLOGY)
        self._topology = topology.load(path)
        self._alphamesh("up", "--detach", "--topology", path)
        self._envoys: list[subprocess.Popen[bytes]] = []
        run = RunDir(self.folder / "run")
        self._service = run.socket(SUBJECT)
        self.direct = Way(self._service)
        self.service_pid: int = run.state()["processes"][SUBJECT]["pid"]

    def pair(self, name: str, change: Change | None = None, concurrency: int = 1) -> Way:
        """The caller's sidecar and the service's, as `alphamesh up` renders them; `change` edits each bootstrap."""
        run = self._run(name)
        sidecars = Sidecars(run, self._topology)
        sidecars.write()
        for node in sidecars.nodes:
            if change is not None:
                path = _bootstrap(node)
                content = orjson.loads(path.read_bytes())
                change(content)
                path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        return Way(run.egress(CALLER), self._start(run, sidecars.nodes, concurrency))

    def hop(self, name: str) -> Way:
        """One Envoy in plaintext between two Unix sockets, with no filter but the router."""
        run = self._run(name)
        socket = run.sockets / "hop.sock"
        route = {"match": {"prefix": "/"}, "route": {"cluster": sidecar.APP, "timeout": parts.NEVER}}
        hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
        routes = {"route_config": {"virtual_hosts": hosts}}
        manager = parts.connection_manager("ingress", routes=routes, filters=[])
        listener = {"name": "hop", "address": parts.pipe(socket), "filter_chains": [{"filters": [manager]}]}
        node = Sidecar(run, f"hop{SUFFIX}", ([listener], [sidecar.app(run.socket(SUBJECT))]))
        node.write()
        return Way(socket, self._start(run, [node], 1))

    def close(self) -> None:
        """Ends the Envoys and the service."""
        for process in self._envoys:
            process.terminate()
        for process in self._envoys:
            process.wait()
        self._alphamesh("down")
        self._keep.cleanup()

    def _run(self, name: str) -> RunDir:
        run = RunDir.create(self.folder / name)
        run.socket(SUBJECT).symlink_to(self._service)
        return run

    def _start(self, run: RunDir, nodes: Iterable[Sidecar], concurrency: int) -> list[int]:
        found = []
        for node in nodes:
            command = node.command()
            command[command.index("--concurrency") + 1] = str(concurrency)
            with run.log(node.name).open("ab") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log)
            self._envoys.append(process)
            found.append(process.pid)
            try:
                asyncio.run(asyncio.wait_for(node.ready(), 10))
            except TimeoutError as error:
                raise RuntimeError(f"{node.name} is not ready: {run.log(node.name).read_text()}") from error
        return found

    def _alphamesh(self, *arguments: str | Path) -> None:
        command = [ALPHAMESH, *arguments, "--data-dir", self.folder / "run"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"alphamesh {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")


def _bootstrap(node: Sidecar) -> Path:
    return Path(node.command()[node.command().index("--config-path") + 1])


def managers(bootstrap: Json) -> list[Json]:
    """The HTTP connection managers of a bootstrap."""
    return [
        filter_["typed_config"]
        for listener in bootstrap["static_resources"]["listeners"]
        for chain in listener["filter_chains"]
        for filter_ in chain["filters"]
    ]


def traced(collector: Path) -> Change:
    """Spans of the calls whose caller says so in traceparent, from every sidecar, to a collector on a Unix socket."""

    def change(bootstrap: Json) -> None:
        name = "collector"
        cluster = {**sidecar.app(collector), "name": name}
        cluster["load_assignment"] = {**cluster["load_assignment"], "cluster_name": name}
        bootstrap["static_resources"]["clusters"].append(cluster)
        provider: dict[str, Any] = parts.typed(
            "envoy.tracers.opentelemetry",
            "envoy.config.trace.v3.OpenTelemetryConfig",
            grpc_service={"envoy_grpc": {"cluster_name": name}, "timeout": "1s"},
            service_name=bootstrap["node"]["id"],
        )
        for manager in managers(bootstrap):
            # Envoy 1.40 traces no call without a request id, and leaves all others to the parent's sampled flag.
            manager["generate_request_id"] = True
            manager["tracing"] = {"provider": provider, "random_sampling": {"value": 100}}

    return change


def cpu_s(pid: int) -> float:
    """Processor time of all threads of a process, seconds, exact to the microsecond."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
