"""``python -m python_services.model_registry.mirror_process STORE``: makes an MLflow store what standard input says.

One line of JSON after the other; prints what each changed as JSON. Versions are found by their tag, because MLflow
numbers them by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NUMBER = "alphamesh.version"
_ON_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG: this process ends when the registry does


def repair(client: Any, content: Mapping[str, Any]) -> dict[str, int]:
    """Compares everything and changes what differs; counts by kind."""
    counts = {"models": 0, "versions": 0, "tags": 0, "aliases": 0}
    models: Mapping[str, Any] = content["models"]
    present = {model.name for model in client.search_registered_models()}
    for name in present - set(models):
        client.delete_registered_model(name)
        counts["models"] += 1
    for name, model in models.items():
        if name not in present:
            client.create_registered_model(name)
            counts["models"] += 1
        numbers = _versions(client, name, model["versions"], counts)
        _aliases(client, name, {alias: numbers[str(number)] for alias, number in model["aliases"].items()}, counts)
    return counts


def _versions(client: Any, name: str, wanted: Mapping[str, Any], counts: dict[str, int]) -> dict[str, str]:
    """MLflow's number of each of ours."""
    numbers: dict[str, str] = {}
    for found in client.search_model_versions(f"name='{name}'"):
        own = found.tags.get(NUMBER, "")
        if own not in wanted or own in numbers or found.source != wanted[own]["source"]:
            client.delete_model_version(name, found.version)
            counts["versions"] += 1
            continue
        numbers[own] = str(found.version)
        _tags(client, name, found, wanted[own]["tags"], counts)
        if (found.description or "") != wanted[own]["description"]:
            client.update_model_version(name, found.version, wanted[own]["description"])
            counts["versions"] += 1
    for own, version in wanted.items():
        if own not in numbers:
            made = client.create_model_version(
                name, version["source"], tags={**version["tags"], NUMBER: own}, description=version["description"]
            )
            numbers[own] = str(made.version)
            counts["versions"] += 1
    return numbers


def _tags(client: Any, name: str, found: Any, wanted: Mapping[str, str], counts: dict[str, int]) -> None:
    for key, value in wanted.items():
        if found.tags.get(key) != value:
            client.set_model_version_tag(name, found.version, key, value)
            counts["tags"] += 1
    for key in set(found.tags) - set(wanted) - {NUMBER}:
        client.delete_model_version_tag(name, found.version, key)
        counts["tags"] += 1


def _aliases(client: Any, name: str, wanted: Mapping[str, str], counts: dict[str, int]) -> None:
    present = {alias: str(number) for alias, number in client.get_registered_model(name).aliases.items()}
    for alias in set(present) - set(wanted):
        client.delete_registered_model_alias(name, alias)
        counts["aliases"] += 1
    for alias, number in wanted.items():
        if present.get(alias) != number:
            client.set_registered_model_alias(name, alias, number)
            counts["aliases"] += 1


def main() -> int:
    """Reads, repairs, reports, until the input ends."""
    os.nice(19)
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        ctypes.CDLL(None).prctl(_ON_PARENTS_DEATH, signal.SIGKILL)
    path = Path(sys.argv[1]).resolve()
    os.chdir(path.parent)
    client: Any = None
    for line in sys.stdin:
        with path.with_suffix(".lock").open("w") as lock, contextlib.redirect_stdout(sys.stderr):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if client is None:
                from mlflow.tracking import MlflowClient

                address = f"sqlite:///{path}"
                client = MlflowClient(tracking_uri=address, registry_uri=address)
            counts = repair(client, json.loads(line))
        print(json.dumps(counts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
