"""MLflow as a mirror: what its tools show is what the journal says, a few seconds later.

MLflow takes seconds to import and 130 MB, so it runs in a short process of its own at low priority, started after
changes and once at the start, which compares the whole store with what it must be and repairs what differs. Nothing
of ours reads it: a kill at any moment, or a deleted store, costs nothing but the next repair.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson

from python_services.kit import telemetry
from python_services.kit.signal import Signal

from . import lifecycle
from .artifacts import DamagedError, Store
from .signing import Manifest
from .state import RegistryState

STORE = "mlflow.db"
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


async def write(folder: Path, content: dict[str, Any]) -> dict[str, int]:
    """Makes the store in `folder` equal to `content`; counts of what was changed. Raises RuntimeError."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _PROCESS,
        str(folder / STORE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
    )
    try:
        answer, errors = await process.communicate(orjson.dumps(content))
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"the mirror ended with {process.returncode}: {' '.join(last)}")
    counts: dict[str, int] = orjson.loads(answer)
    return counts


async def run(state: RegistryState, store: Store, changed: Signal, folder: Path, wait_s: float) -> None:
    """Until cancelled: once at the start, then after each group of changes that shows in MLflow."""
    written: bytes = b""
    while True:
        following = changed.next()
        await asyncio.sleep(wait_s)
        content = wanted(state, store)
        serialised = orjson.dumps(content)
        if serialised != written:
            try:
                counts = await write(folder, content)
                written = serialised
                telemetry.logger().info("MLflow mirrors the registry", **counts)
            except (OSError, RuntimeError) as error:
                telemetry.logger().warning(
                    "MLflow was not written; tried again after the next change", error=str(error)
                )
        await following.wait()
