"""MLflow beside the registry: what it shows is what the journal says, and what somebody changes there is undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from python_services.model_registry import mirror, mirror_process

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
