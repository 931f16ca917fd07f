"""session: trade a range of days, watch it, report it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

from alphamesh.decision.v1 import decision_pb2

from .. import report as reports
from .. import risk_report, tables, texts_file, topology
from .. import session as sessions
from ..connect import SocketSystem, System, running
from ..errors import MeshError
from ..progress import ProgressView
from ..rundir import RunDir
from ..wish import Wish
from . import texts
from .system import chosen, supervised

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class How:
    """Where the services come from, and where the report goes."""

    up: bool
    local: bool
    serve: bool
    report: Path | None
    data: Path | None
    instruments_file: Path | None
    data_dir: Path | None
    topology: Path | None
    texts: Path | None = None
    nats_cluster: int | None = None
    journal: str | None = None


@dataclass(kw_only=True)
class _Stage:
    """A system that is ready for a session."""

    run: RunDir
    system: System
    transport: str
    services: Callable[[], Mapping[str, Mapping[str, Any]]]
    startup_ms: Mapping[str, float]
    watch: Callable[[], Awaitable[None]]


async def session(wish: Wish, how: How) -> int:
    """0 when the session succeeded and its report is written."""
    wanted = sessions.spec(wish)  # wrong options end here, before anything is started
    _check(how)
    words = [] if how.texts is None else texts_file.read(how.texts)
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(_stage(how))
        if how.texts is not None:
            print(texts.told(await texts.take_in(stage.system, how.texts, words, quiet=False)), flush=True)
        code = await _alongside(_trade_and_report(stage, wanted, how.report), stage.watch)
        if how.serve:
            print(f"the system stays up in {stage.run.path}; Ctrl-C stops it", flush=True)
            await stage.watch()
    return code


async def _trade_and_report(stage: _Stage, wanted: decision_pb2.SessionSpec, path: Path | None) -> int:
    begun = time.perf_counter()
    with ProgressView() as view:
        watched = await sessions.trade(stage.system, wanted, view.show)
    elapsed_s = time.perf_counter() - begun
    facts = await reports.collect(stage.system, watched.session)
    content = reports.build(
        watched,
        facts,
        reports.Surroundings(
            transport=stage.transport,
            elapsed_s=elapsed_s,
            services=stage.services(),
            startup_ms=stage.startup_ms,
            data_dir=stage.run.path,
            logs={log.stem: str(log) for log in sorted((stage.run.path / "logs").glob("*.jsonl"))},
        ),
    )
    written = [stage.run.path / "report.json", *([path] if path else [])]
    for target in written:
        _write(target, content)
    tables.summary(content)
    if content["risk"] is not None:
        risk_report.show(content["risk"], whole=False)
    if content["var_backtest"] is not None:
        risk_report.show_backtest(content["var_backtest"])
    print(f"logs:   {stage.run.path / 'logs'}")
    print(f"report: {written[-1]}")
    print(f"explain a decision: alphamesh explain --last --data-dir {stage.run.path}", flush=True)
    if content["session"]["state"] != "SUCCEEDED":
        raise MeshError(f"the session ended {content['session']['state']}: {watched.session.reason}")
    if not content["reconciled"]:
        found, wanted_pnl = content["pnl"], content["pnl_from_fills"]
        raise MeshError(
            f"the books do not add up: P&L {found}, from the fills {wanted_pnl}; please report {written[0]}"
        )
    return 0


@asynccontextmanager
async def _stage(how: How) -> AsyncIterator[_Stage]:
    if not how.up and not how.local:
        run = RunDir.find(how.data_dir)
        async with running(run) as system:
            yield _Stage(
                run=run,
                system=system,
                transport="processes",
                services=lambda: _processes(run),
                startup_ms=run.state().get("startup_ms", {}),
                watch=_for_ever,
            )
        return
    mesh = _topology(how)
    run = RunDir.create(how.data_dir)
    try:
        async with _local(run, mesh) if how.local else _processes_of(run, mesh) as stage:
            yield stage
    finally:
        run.release()


@asynccontextmanager
async def _processes_of(run: RunDir, mesh: topology.Topology) -> AsyncIterator[_Stage]:
    own = ", PostgreSQL" if mesh.journals.kind == "postgres" else ""
    print(f"starting {len(mesh.services)} services{own} and the event log in {run.path}", flush=True)
    async with supervised(run, mesh) as supervisor:
        print(f"ready in {supervisor.startup_ms['total'] / 1e3:.1f} s", flush=True)
        system = SocketSystem(run)
        try:
            yield _Stage(
                run=run,
                system=system,
                transport="processes",
                services=lambda: _processes(run),
                startup_ms=supervisor.startup_ms,
                watch=supervisor.watch,
            )
        finally:
            await system.close()


@asynccontextmanager
async def _local(run: RunDir, mesh: topology.Topology) -> AsyncIterator[_Stage]:
    begun = time.perf_counter()
    from python_services.kit import telemetry
    from python_services.local import LocalSystem

    for service in mesh.services:
        run.write_config(service, "", mesh.journals.address)
    run.write_state(
        {
            "pid": os.getpid(),
            "state": "LOCAL",
            "topology": str(mesh.path),
            "journals": mesh.journals.kind,
            "since": _now(),
        }
    )
    try:
        with run.log("local").open("ab") as log, telemetry.logging_to("local", log):
            async with LocalSystem(run.path, mesh) as system:
                total = round((time.perf_counter() - begun) * 1e3, 1)
                yield _Stage(
                    run=run,
                    system=system,
                    transport="local",
                    services=lambda: {
                        name: {
                            "version": version,
                            "pid": os.getpid(),
                            "restarts": 0,
                            "startup_ms": system.startup_ms[name],
                        }
                        for name, version in system.versions.items()
                    },
                    startup_ms={**system.startup_ms, "total": total},
                    watch=_for_ever,
                )
    finally:
        run.write_state({**run.state(), "state": "STOPPED"})


async def _alongside(work: Awaitable[T], watch: Callable[[], Awaitable[None]]) -> T:
    """The result of `work`; what `watch` raises when it ends first."""
    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(watch())
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if watcher.done() and not task.done():
            await watcher
        return await task
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def _processes(run: RunDir) -> dict[str, dict[str, Any]]:
    wanted = ("version", "pid", "restarts", "startup_ms")
    return {name: {key: facts[key] for key in wanted} for name, facts in run.state().get("processes", {}).items()}


def _check(how: How) -> None:
    if how.up and how.local:
        raise MeshError("--up and --local are two ways to run the services; give one of them")
    if how.serve and not how.up:
        raise MeshError("--serve keeps a system up that this command started; give --up, too")
    if how.nats_cluster is not None and not how.up:
        raise MeshError("--nats-cluster is about the event log that this command starts; give --up, too")
    if how.journal is not None and not how.up and not how.local:
        raise MeshError("--journal takes effect when services start; give --up or --local, too")
    changes = {"--data": how.data, "--instruments-file": how.instruments_file, "--topology": how.topology}
    for option, value in changes.items():
        if value is None:
            continue
        if not how.up and not how.local:
            raise MeshError(f"{option} takes effect when services start; give --up or --local, too")
        if not value.is_file():
            raise MeshError(f"{option} {value}: there is no such file; correct the path")
    if how.report is not None and not how.report.absolute().parent.is_dir():
        raise MeshError(f"--report {how.report}: there is no folder {how.report.absolute().parent}; make it first")


def _topology(how: How) -> topology.Topology:
    mesh = chosen(how.topology, how.nats_cluster, how.journal)
    if how.local and mesh.journals.kind in ("postgres", "nats"):
        raise MeshError(
            f"journals on {mesh.journals.kind} need a server that --up starts; give --up instead of --local, or the "
            "address of a server"
        )
    changes: dict[str, Any] = {}
    if how.data is not None:
        changes["datasets"] = [str(how.data.absolute())]
    if how.instruments_file is not None:
        changes["instruments"] = str(how.instruments_file.absolute())
    return mesh.with_config("market_data", changes) if changes else mesh


def _write(path: Path, content: Mapping[str, Any]) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise MeshError(f"cannot write the report {path}: {error.strerror}; choose another --report") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
