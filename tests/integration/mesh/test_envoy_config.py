"""Everything that is rendered for Envoy, read by Envoy."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from mesh import topology, watches
from mesh.rundir import RunDir
from mesh.sidecars import Sidecars, find_program

INOTIFY_INSTANCES = 128  # of a user, by default
TESTS = topology.ROOT / "tests"
TOPOLOGIES = (topology.DEFAULT_PATH, TESTS / "services" / "topology.yaml", TESTS / "chaos" / "topology.yaml")


def validated(path: Path) -> subprocess.CompletedProcess[str]:
    """What Envoy says of a bootstrap."""
    command = [find_program(), "--mode", "validate", "--config-path", str(path), "--concurrency", "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def with_routes(bootstrap: dict[str, Any]) -> dict[str, Any]:
    """The same, with the routes that it would read from a file in their place, so that they are validated too."""
    for listener in bootstrap["static_resources"]["listeners"]:
        for item in listener["filter_chains"][0]["filters"]:
            manager = item["typed_config"]
            if "rds" in manager:
                source = manager.pop("rds")["config_source"]["path_config_source"]["path"]
                routes = orjson.loads(Path(source).read_bytes())["resources"][0]
                del routes["@type"]
                manager["route_config"] = routes
    return bootstrap


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.parent.name)
def test_envoy_takes_every_bootstrap_with_its_routes(run: RunDir, tmp_path, path):
    mesh = topology.load(path)
    Sidecars(run, mesh).write()
    found = sorted((run.path / "mesh" / "bootstrap").glob("*.json"))
    assert len(found) >= len(mesh.services) + bool(mesh.clients)
    for bootstrap in found:
        inline = tmp_path / bootstrap.name
        inline.write_bytes(orjson.dumps(with_routes(orjson.loads(bootstrap.read_bytes()))))
        for each in (bootstrap, inline):
            done = validated(each)
            assert done.returncode == 0, f"{each.name}: {done.stderr}"


def test_two_systems_fit_in_what_linux_lets_a_user_watch(run: RunDir):
    Sidecars(run, topology.load()).write()
    bootstraps = [orjson.loads(path.read_bytes()) for path in (run.path / "mesh" / "bootstrap").glob("*.json")]
    assert len(bootstraps) > len(topology.load().services)
    assert 2 * sum(len(watches.watched(bootstrap)) for bootstrap in bootstraps) < INOTIFY_INSTANCES


def test_a_field_that_envoy_does_not_know_would_be_found(run: RunDir, tmp_path, mesh):
    Sidecars(run, mesh).write()
    bootstrap = next((run.path / "mesh" / "bootstrap").glob("reader*.json"))
    content = with_routes(orjson.loads(bootstrap.read_bytes()))
    listener = content["static_resources"]["listeners"][-1]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["retry_policy"]["retries"] = 2
    wrong = tmp_path / "wrong.json"
    wrong.write_bytes(orjson.dumps(content))
    done = validated(wrong)
    assert done.returncode != 0
    assert "retries" in done.stderr
