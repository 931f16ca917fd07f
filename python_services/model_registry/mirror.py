"""MLflow as a mirror: what its tools show is what the journal says, a few seconds later.

MLflow takes seconds to import and 130 MB, so it runs in a process of its own that gets what no other wants of the
processors. It is started when the registry has been quiet for a while and the store is not what it must be, compares
the whole store, repairs what differs, and ends when nothing follows. Nothing of ours reads it: a kill at any moment, or
a deleted store, costs nothing but the next repair.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson

from python_services.kit import telemetry
from python_services.kit.files import replace_file
from python_services.kit.ids import content_id
from python_services.kit.signal import Signal, within

from . import lifecycle
from .artifacts import DamagedError, Store
from .signing import Manifest
from .state import RegistryState

STORE, STAMP, ERRORS = "mlflow.db", "written.json", "errors.log"
IDLE_S = 60.0  # without a change: then the process ends
LATEST = 15  # pauses
_PROCESS = "python_services.model_registry.mirror_process"


def wanted(state: RegistryState, store: Store) -> dict[str, Any]:
    """What MLflow must hold: versions with tags and cards, and aliases."""
    models: dict[str, Any] = {}
    for model_id, model in sorted(state.models.items()):
        versions: dict[str, Any] = {}
        for number, version in sorted(model.versions.items()):
            message, manifest = version.message, Manifest.parse(version.manifest)
            lineage = message.lineage
            tags = {
                "stage": lifecycle.name(message.stage),
                "owner": message.owner,
                "sha256": manifest.sha256,
                "card_sha256": manifest.card_sha256,
                "key_id": version.key_id,
                "quarantined": str(version.quarantined).lower(),
                "lineage.training_job_id": lineage.training_job_id,
                "lineage.dataset_sha256": lineage.dataset_sha256,
                "lineage.feature_set_version": lineage.feature_set_version,
                "lineage.code_version": lineage.code_version,
                "lineage.seed": str(lineage.seed),
                "lineage.trained_until_ns": str(lineage.trained_until_ns),
                **{f"metric.{name}": repr(value) for name, value in sorted(message.metrics.items())},
                **{f"validation.{name}": repr(value) for name, value in sorted(message.validation.metrics.items())},
            }
            versions[str(number)] = {
                "source": f"sha256:{manifest.sha256}",
                "description": _card(store, manifest),
                "tags": {f"alphamesh.{name}": value for name, value in tags.items() if value},
            }
        models[model_id] = {"versions": versions, "aliases": model.named}
    return {"models": models}


def _card(store: Store, manifest: Manifest) -> str:
    try:
        return store.read(manifest.card_sha256).decode() if manifest.card_sha256 else ""
    except (DamagedError, UnicodeDecodeError):
        return ""


class Mirror:
    """The process that writes. It is started when there is something to write, and ends when `close` is called."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def write(self, content: bytes) -> dict[str, int]:
        """Makes the store equal to `content`, one line of JSON; counts of what was changed. Raises RuntimeError."""
        process = self._process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(content + b"\n")
            await process.stdin.drain()
            answer = await process.stdout.readline()
        except OSError:
            answer = b""
        if not answer:
            self._process = None
            raise RuntimeError(f"the mirror ended with {await process.wait()}; see {self._folder / ERRORS}")
        counts: dict[str, int] = orjson.loads(answer)
        return counts

    async def close(self) -> None:
        """The process ends; a repair that is under way is left to the next one."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        with (self._folder / ERRORS).open("wb") as errors:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                _PROCESS,
                str(self._folder / STORE),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
            )


async def run(state: RegistryState, store: Store, changed: Signal, folder: Path, wait_s: float) -> None:
    """Until cancelled: once at the start, then after each group of changes that shows in MLflow."""
    mirror, stamp = Mirror(folder), folder / STAMP
    try:
        while True:
            following = changed.next()
            await _quiet(state, wait_s)
            content = orjson.dumps(wanted(state, store))
            if await asyncio.to_thread(_stamp, folder, content) != _read(stamp):
                try:
                    counts = await mirror.write(content)
                    replace_file(stamp, await asyncio.to_thread(_stamp, folder, content))
                    telemetry.logger().info("MLflow mirrors the registry", **counts)
                except (OSError, RuntimeError) as error:
                    problem = "MLflow was not written; tried again after the next change"
                    telemetry.logger().warning(problem, error=str(error))
            if not await within(following, IDLE_S):
                await mirror.close()
                await following.wait()
    finally:
        await mirror.close()


async def _quiet(state: RegistryState, wait_s: float) -> None:
    """Returns after `wait_s` without an event of the registry: decisions, whose answers it records, go first.

    Where they never pause, after `LATEST` times as long.
    """
    for _ in range(LATEST):
        seq = state.seq
        await asyncio.sleep(wait_s)
        if state.seq == seq:
            return


def _stamp(folder: Path, content: bytes) -> bytes:
    """What the store was made of, and what it was then: as long as both are the same there is nothing to do."""
    held = _read(folder / STORE)
    return orjson.dumps({"content": content_id(content), "store": content_id(held)})


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
