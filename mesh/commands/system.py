"""up, down, status, logs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from .. import control, logs, topology
from ..errors import MeshError
from ..rundir import RunDir
from ..supervisor import Supervisor

_POLL_S = 0.05
_DOWN_TIMEOUT_S = 60.0


async def up(
    detach: bool, data_dir: Path | None, topology_file: Path | None, nats_cluster: int | None, journal: str | None
) -> int:
    """Starts the system; returns 0 at once when detached, else when it was told to stop."""
    mesh = chosen(topology_file, nats_cluster, journal)
    if detach:
        return await _detach(data_dir, mesh, journal)
    run = RunDir.create(data_dir)
    try:
        async with supervised(run, mesh) as supervisor:
            _say_ready(run, supervisor.startup_ms, run.state()["edge"])
            await supervisor.watch()
    finally:
        run.release()
    return 0


def chosen(topology_file: Path | None, nats_cluster: int | None, journal: str | None) -> topology.Topology:
    """The topology with what the options change. Raises TopologyError."""
    mesh = topology.load(topology_file or topology.DEFAULT_PATH)
    if nats_cluster is not None:
        mesh = mesh.with_servers(nats_cluster)
    return mesh if journal is None else mesh.with_journals(journal)


@asynccontextmanager
async def supervised(run: RunDir, mesh: topology.Topology) -> AsyncIterator[Supervisor]:
    """A system that is up inside and stopped after, whatever happens."""
    supervisor = Supervisor(run, mesh)
    try:
        await supervisor.start()
        async with control.serving(run, mesh, supervisor):
            yield supervisor
    finally:
        try:
            await supervisor.stop()
        except asyncio.CancelledError:
            supervisor.kill()
            await supervisor.stop()
            raise


async def down(data_dir: Path | None) -> int:
    """Asks the supervisor to stop, and waits until nothing is left."""
    run = RunDir.find(data_dir)
    holder = run.holder()
    if holder is None:
        print(f"nothing is up in {run.path}")
        return 0
    os.kill(holder, signal.SIGTERM)
    begun = time.monotonic()
    while run.holder() == holder:
        if time.monotonic() - begun > _DOWN_TIMEOUT_S:
            raise MeshError(f"process {holder} did not stop within {_DOWN_TIMEOUT_S:g} s; end it with kill -9 {holder}")
        await asyncio.sleep(_POLL_S)
    print(f"stopped {run.path}")
    return 0


async def status(data_dir: Path | None, as_json: bool) -> int:
    """What runs, and whether it says that it serves."""
    from python_services.kit import health

    run = RunDir.find(data_dir)
    holder, state = run.holder(), run.state()
    processes: dict[str, dict[str, Any]] = state.get("processes", {})
    if holder is None:
        state["state"] = "DOWN"
    for name, facts in processes.items():
        if holder is None:
            facts.update(state="STOPPED", pid=None)
        elif facts["state"] == "SERVING" and run.settings(name) is not None:  # a service, no server
            facts["health"] = await health.check(run.socket(name))
    serving = holder is not None and all(
        facts["state"] == "SERVING" and facts.get("health", "SERVING") == "SERVING" for facts in processes.values()
    )
    if as_json:
        import orjson

        answer = {**state, "supervisor_pid": holder, "data_dir": str(run.path), "serving": serving}
        print(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        from .. import tables

        tables.status(run.path, state.get("state", "DOWN"), holder, processes, state.get("edge"))
        tables.replicas(state.get("services", {}) if holder else {}, processes)
    return 0 if serving else 1


async def print_logs(service: str | None, follow: bool, lines: int, data_dir: Path | None, as_json: bool) -> int:
    """Merged by time; with `follow`, for ever."""
    import orjson

    run = RunDir.find(data_dir)
    folder = run.path / "logs"
    known = sorted(path.stem for path in folder.glob("*.jsonl"))
    if service is not None and service not in known:
        raise MeshError(f"there is no log of {service!r} in {folder}; there are {', '.join(known) or 'none yet'}")

    def show(record: dict[str, Any]) -> None:
        print(orjson.dumps(record).decode() if as_json else logs.plain(record), flush=follow)

    paths = [run.log(name) for name in ([service] if service else known)]
    positions = {path: path.stat().st_size for path in paths}
    records = [record for path in paths for record in logs.tail(path, lines)]
    records.sort(key=lambda record: str(record.get("timestamp", "")))
    for record in records[len(records) - lines if lines < len(records) else 0 :]:
        show(record)
    while follow:
        for path in paths if service else sorted(folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(positions.get(path, 0))
                for line in file.readlines():
                    if not line.endswith(b"\n"):
                        break  # the rest of it comes later
                    positions[path] = positions.get(path, 0) + len(line)
                    show(logs.parse(line))
        await asyncio.sleep(_POLL_S)
    return 0


async def _detach(data_dir: Path | None, mesh: topology.Topology, journal: str | None) -> int:
    run = RunDir.create(data_dir)  # errors are shown here, before anything is in the background
    command = [sys.executable, "-m", "mesh.cli", "up", "--data-dir", str(run.path), "--topology", str(mesh.path)]
    command += ["--nats-cluster", str(mesh.event_log.servers), *(["--journal", journal] if journal else [])]
    run.release()
    output = run.path / "supervisor.log"
    with output.open("wb") as log:
        child = subprocess.Popen(  # noqa: ASYNC220 - it outlives this event loop
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=topology.ROOT,
        )
    while child.poll() is None:
        state = run.state()
        if state.get("pid") == child.pid and state.get("state") == "RUNNING":
            _say_ready(run, state["startup_ms"], state["edge"])
            print("stop it with `alphamesh down`")
            return 0
        await asyncio.sleep(_POLL_S)
    lines = output.read_text(errors="replace").splitlines()
    raise MeshError("\n".join(lines[-20:]).removeprefix("alphamesh: ") or f"the supervisor ended; see {output}")


def _say_ready(run: RunDir, startup_ms: dict[str, float], edge: dict[str, str] | None) -> None:
    parts = ", ".join(f"{name} {value:.0f}" for name, value in startup_ms.items() if name != "total")
    print(f"ready in {startup_ms['total']:.0f} ms ({parts})", f"data and logs: {run.path}", sep="\n", flush=True)
    if edge:
        print(f"edge: {edge['address']}, authority {edge['authority']}; `alphamesh token` lets somebody in", flush=True)
