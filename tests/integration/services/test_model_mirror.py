"""MLflow beside the registry: what it shows is what the journal says, and what somebody changes there is undone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from python_services.kit.signal import Signal
from python_services.model_registry import mirror, mirror_process
from python_services.model_registry.artifacts import Store
from python_services.model_registry.config import Rollouts
from python_services.model_registry.state import RegistryState

HASH = "ab" * 32


def content(champion: int = 2) -> dict[str, Any]:
    versions = {
        str(number): {
            "source": f"sha256:{number}{HASH[1:]}",
            "description": f"card of {number}",
            "tags": {"alphamesh.stage": "CHAMPION" if number == champion else "RETIRED", "alphamesh.metric.auc": "0.7"},
        }
        for number in (1, 2)
    }
    return {"models": {"direction": {"versions": versions, "aliases": {"champion": champion}}}}


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")  # MLflow's own
async def test_the_store_is_made_and_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = mirror.Mirror(tmp_path)
    assert await process.write(orjson.dumps(content())) == {"models": 1, "versions": 2, "tags": 0, "aliases": 1}
    assert await process.write(orjson.dumps(content())) == {"models": 0, "versions": 0, "tags": 0, "aliases": 0}
    await process.close()
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    from mlflow.tracking import MlflowClient

    address = f"sqlite:///{tmp_path / mirror.STORE}"
    client = MlflowClient(tracking_uri=address, registry_uri=address)
    assert client.get_model_version_by_alias("direction", "champion").tags["alphamesh.version"] == "2"
    assert client.get_model_version("direction", "1").description == "card of 1"
    assert mirror_process.repair(client, content()) == {"models": 0, "versions": 0, "tags": 0, "aliases": 0}
    client.set_registered_model_alias("direction", "champion", "1")
    client.set_registered_model_alias("direction", "mine", "1")
    client.set_model_version_tag("direction", "2", "alphamesh.stage", "SHADOW")
    client.create_registered_model("stray")
    client.create_model_version("direction", "file:///elsewhere")
    assert mirror_process.repair(client, content()) == {"models": 1, "versions": 1, "tags": 1, "aliases": 2}
    assert mirror_process.repair(client, content()) == {"models": 0, "versions": 0, "tags": 0, "aliases": 0}
    assert mirror_process.repair(client, content(champion=1)) == {"models": 0, "versions": 0, "tags": 2, "aliases": 1}
    assert dict(client.get_registered_model("direction").aliases) == {"champion": 1}


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")  # MLflow's own
async def test_mlflow_is_started_only_where_the_store_is_not_what_it_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, store, log = RegistryState(Rollouts()), Store(tmp_path / "blobs"), tmp_path / mirror.ERRORS

    async def start(until: Callable[[], bool], seconds: float) -> None:
        """A start of the registry: until something is true, or for some seconds."""
        running = asyncio.create_task(mirror.run(state, store, Signal(), tmp_path, 0.01))
        for _ in range(int(seconds / 0.02)):
            if until():
                break
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    await start((tmp_path / mirror.STAMP).exists, 60.0)
    log.unlink()
    await start(log.exists, 1.0)
    assert not log.exists()  # no process: everything is as it was left
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    from mlflow.tracking import MlflowClient

    address = f"sqlite:///{tmp_path / mirror.STORE}"
    client = MlflowClient(tracking_uri=address, registry_uri=address)
    client.create_registered_model("stray")
    await start(lambda: not client.search_registered_models(), 60.0)
    assert client.search_registered_models() == []
