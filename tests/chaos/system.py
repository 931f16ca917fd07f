"""The system under test: started by the command line as a user does, and what is needed to hurt it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc

from mesh.rundir import RunDir
from mesh.topology import ROOT
from python_services.kit.client import Channel, open_channel

TOPOLOGY = Path(__file__).with_name("topology.yaml")
CLIENT = "operator"
S = TypeVar("S")


class ChaosError(AssertionError):
    """A promise that was not kept, or a system that did not come back."""


def alphamesh(*arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Runs the command line."""
    command = [sys.executable, "-m", "mesh.cli", *map(str, arguments)]
    return subprocess.run(command, timeout=timeout, check=False, capture_output=True, text=True)


class Mesh:
    """One data directory, up or down."""

    def __init__(self, path: Path | None = None, servers: int = 1) -> None:
        """`path` None: a new folder, removed by `close`. `servers`: of the event log."""
        self._temporary = tempfile.mkdtemp(prefix="chaos-") if path is None else None
        self.path = path or Path(str(self._temporary)) / "run"
        self.servers = servers

    def up(self) -> None:
        """Raises ChaosError with what the command line says."""
        cluster = ["--nats-cluster", str(self.servers)] if self.servers > 1 else []
        done = alphamesh("up", "--detach", "--data-dir", self.path, "--topology", TOPOLOGY, *cluster)
        if done.returncode:
            raise ChaosError(f"`alphamesh up` failed: {done.stderr}")

    def down(self) -> None:
        """Stops it; harmless when it is down."""
        done = alphamesh("down", "--data-dir", self.path)
        if done.returncode:
            raise ChaosError(f"`alphamesh down` failed: {done.stderr}")

    def close(self) -> None:
        """Down, and nothing is left."""
        if (self.path / "config").is_dir():
            self.down()
        if self._temporary is not None:
            shutil.rmtree(self._temporary)

    @property
    def run(self) -> RunDir:
        """Its paths."""
        return RunDir(self.path)

    def status(self) -> dict[str, Any]:
        """What `alphamesh status --json` says."""
        answer: dict[str, Any] = json.loads(alphamesh("status", "--json", "--data-dir", self.path).stdout)
        return answer

    def pids(self) -> dict[str, int]:
        """Of every process that runs now, from the file that `alphamesh status` shows."""
        found = self.run.state().get("processes", {})
        return {name: facts["pid"] for name, facts in found.items() if facts["pid"] is not None}

    def signal(self, number: signal.Signals, names: Iterable[str]) -> float:
        """Sends a signal to processes; returns the moment just before. Raises ChaosError for one that is not up."""
        pids = self.pids()
        missing = [name for name in names if name not in pids]
        if missing:
            raise ChaosError(f"not up: {', '.join(missing)}")
        moment = time.monotonic()
        for name in names:
            os.kill(pids[name], number)
        return moment

    def wait_serving(self, limit_s: float = 60) -> None:
        """Returns when every process says that it serves, by the supervisor's file. Raises ChaosError."""
        give_up = time.monotonic() + limit_s
        while True:
            state = self.run.state()
            found = state.get("processes", {}).values()
            if state.get("state") == "RUNNING" and all(facts["state"] == "SERVING" for facts in found):
                return
            if time.monotonic() > give_up:
                raise ChaosError(f"not serving again after {limit_s:g} s: {json.dumps(state)}")
            time.sleep(0.02)

    def nats_url(self) -> str:
        """Addresses of the event log's servers."""
        return str(json.loads((self.path / "config" / "execution.json").read_text())["nats_url"])

    def verify(self) -> None:
        """`alphamesh verify`: every view is what the journals say. Raises ChaosError."""
        done = alphamesh("verify", "--json", "--data-dir", self.path)
        if done.returncode:
            raise ChaosError(f"a view differs from the journals: {done.stdout}{done.stderr}")

    def verify_log(self, limit_s: float = 60) -> dict[str, dict[str, Any]]:
        """`alphamesh log verify`, by stream. Raises subprocess.TimeoutExpired."""
        done = alphamesh("log", "verify", "--json", "--data-dir", self.path, timeout=limit_s)
        return {row["stream"]: row for row in json.loads(done.stdout)["streams"]}


__all__ = ["ROOT", "TOPOLOGY", "ChaosError", "Links", "Mesh", "alphamesh"]


class Links:
    """Connections of one client: real sockets, the kit's own channel."""

    def __init__(self, mesh: Mesh) -> None:
        self._run = mesh.run
        self._channels: dict[str, Channel] = {}

    def stub(self, kind: Callable[[grpc.aio.Channel], S], service: str) -> S:
        """A stub of the generated code."""
        if service not in self._channels:
            self._channels[service] = open_channel(CLIENT, service, self._run.socket(service))
        return kind(cast(grpc.aio.Channel, self._channels[service]))

    async def close(self) -> None:
        """Closes all."""
        for channel in self._channels.values():
            await channel.close()
