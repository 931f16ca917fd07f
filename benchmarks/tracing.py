"""What tracing costs: a call over a Unix socket and the cycles of the demo year, off against 1% and 100% sampled.

The call goes from this process to a service process and back; both ends trace, and an audit process collects. "Off"
has no collector in the topology. Every system stays up, and the measures take turns. Metrics are counted in all three.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import yaml

from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc
from benchmarks.runner import Case
from benchmarks.sessions import ALPHAMESH, Sessions, step
from benchmarks.sessions import rate as cycles_a_second
from mesh import topology
from mesh.connect import SocketSystem
from mesh.rundir import RunDir
from python_services.kit import metrics, tracing
from python_services.kit.metrics import Calls
from python_services.kit.otlp import Exporter

CALLS = 2000
LOOPS = 100_000
SHARES = {"off": None, "1%": 0.01, "100%": 1.0}
_SYSTEMS: dict[str, RunDir] = {}


def cases() -> list[Case]:
    """Rows of the call, of its parts, and of the cycle."""
    folder = Path(tempfile.mkdtemp(prefix="am-bench-"))
    atexit.register(_clean, folder)
    files = {share: _topology(folder, share) for share in SHARES}
    alone = _unary(folder, files, "off")
    rows = [Case(name="a method's count and duration", unit="us", ours=_observe, goal="ours <= 5")]
    for share, rate in SHARES.items():
        if rate is not None:
            rows.append(Case(name=f"place in the trace, both ends, {share}", unit="us", ours=partial(_place, rate)))
    rows.append(Case(name="unary call p50, off", unit="us", ours=alone))
    for share, goal in (("1%", "ratio >= 0.95"), ("100%", None)):
        traced = _unary(folder, files, share)
        name = f"unary call p50, {share}"
        rows.append(Case(name=name, unit="us", ours=traced, peer=alone, peer_name="off", goal=goal))
    for share, goal in (("1%", "ratio >= 0.95"), ("100%", None)):
        # Sessions of their own for each pair, so that both sides run at the same time of day.
        ours, theirs = (_sessions(folder / f"{share} {side}", files[side]) for side in (share, "off"))
        for figure, unit, better, read in (
            ("cycle p50", "ms", "lower", step("cycle", "p50")),
            ("cycles", "1/s", "higher", cycles_a_second),
        ):
            rows.append(
                Case(
                    name=f"{figure}, {share} of the decisions",
                    unit=unit,
                    better=better,  # type: ignore[arg-type]
                    ours=ours.figure(figure, read),
                    peer=theirs.figure(figure, read),
                    peer_name="off",
                    goal=goal,
                )
            )
    return rows


def _sessions(folder: Path, topology_file: Path) -> Sessions:
    folder.mkdir()
    return Sessions(folder, "--up", "--topology", str(topology_file))


def _topology(folder: Path, share: str) -> Path:
    """The real topology with another share of sampled traces, of decisions and of everything else."""
    content = yaml.safe_load(topology.DEFAULT_PATH.read_text())
    rate = SHARES[share]
    if rate is None:
        del content["tracing"]
    else:
        content["tracing"] |= {"decision_rate": rate, "rate": rate}
    path = folder / f"{share.rstrip('%')}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _unary(folder: Path, files: dict[str, Path], share: str) -> Callable[[], float]:
    def measure() -> float:
        if share not in _SYSTEMS:
            run = folder / f"up-{share.rstrip('%')}"
            command = [ALPHAMESH, "up", "--detach", "--data-dir", run, "--topology", files[share]]
            subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, timeout=120)
            _SYSTEMS[share] = RunDir(run)
        return asyncio.run(_calls(_SYSTEMS[share], SHARES[share]))

    return measure


async def _calls(run: RunDir, rate: float | None) -> float:
    """Microseconds of the median call: the coordinator's sessions, of which there are none."""
    exporter, exporting = None, None
    if rate is not None:
        settings = tracing.Settings(endpoint=f"unix:{run.socket('audit')}", rate=rate)
        exporter = Exporter(settings.endpoint, "benchmark", "")
        tracing.start(settings, exporter.keep)
        exporting = asyncio.create_task(exporter.run())
    metrics.start()
    system = SocketSystem(run)
    try:
        stub = system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")
        return await _median(stub)
    finally:
        tracing.tracer, metrics.registry = None, None
        await system.close()
        if exporter is not None and exporting is not None:
            exporting.cancel()
            await exporter.close()


async def _median(stub: Any) -> float:
    request, taken = decision_pb2.ListSessionsRequest(page_size=1), []
    for _ in range(CALLS):
        begun = time.perf_counter_ns()
        await stub.ListSessions(request)
        taken.append(time.perf_counter_ns() - begun)
    return statistics.median(taken) / 1e3


def _observe() -> float:
    registry, ok = metrics.Registry(), grpc.StatusCode.OK
    begun = time.perf_counter_ns()
    for n in range(LOOPS):
        registry.calls(metrics.SERVER, "/alphamesh.risk.v1.RiskService/GetLimits", "operator").observe(ok, n)
    assert isinstance(registry.calls(metrics.SERVER, "/alphamesh.risk.v1.RiskService/GetLimits", "operator"), Calls)
    return (time.perf_counter_ns() - begun) / LOOPS / 1e3


def _place(rate: float) -> float:
    """A client's and a server's context, and their spans' ends, without what carries them."""
    kept: list[tracing.Span] = []
    tracing.start(tracing.Settings(endpoint="", rate=rate), kept.append)
    try:
        tracer, method = tracing.tracer, "alphamesh.risk.v1.RiskService/GetLimits"
        assert tracer is not None
        begun = time.perf_counter_ns()
        for _ in range(LOOPS):
            client, parent = tracing.departing()
            server, above = tracing.arriving(client)
            for context, over in ((server, above), (client, parent)):
                said = dict.fromkeys(("rpc.system",), "grpc")
                tracer.finish(context, over, method, tracing.SERVER, 1, lambda said=said: said)  # type: ignore[misc]
        return (time.perf_counter_ns() - begun) / LOOPS / 1e3
    finally:
        tracing.tracer = None


def _clean(folder: Path) -> None:
    for run in _SYSTEMS.values():
        subprocess.run([str(ALPHAMESH), "down", "--data-dir", str(run.path)], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
