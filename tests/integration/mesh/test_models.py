"""The registry as a process: shipped models become champions, a kill changes nothing, the command line tells."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh import topology
from mesh.rundir import RunDir
from tests.integration.conftest import alphamesh
from tests.services.models import made

MODELS = topology.ROOT / "tests" / "services" / "registry.yaml"


@pytest.fixture(scope="module")
def up() -> Iterator[RunDir]:
    """The registry with two shipped versions, before ONNX Runtime in its own process."""
    with tempfile.TemporaryDirectory(prefix="am-") as name:
        folder = Path(name)
        made.write(folder / "shipped" / "made" / "1", made.graph())
        weights = (1.1, -0.6, 0.3)
        made.write(folder / "shipped" / "made" / "2", made.graph(weights), made.golden(made.answers(weights)))
        made.write(folder / "shipped" / "broken" / "1", made.graph(), made.golden(made.answers(weights)))
        content: dict[str, Any] = yaml.safe_load(MODELS.read_text())
        content["mesh"] = {"sidecars": False}
        content["services"]["model_registry"]["config"] |= {
            "bundled": str(folder / "shipped"),
        }  # fmt: skip
        file = folder / "topology.yaml"
        file.write_text(yaml.safe_dump(content))
        started = alphamesh("up", "--detach", "--data-dir", folder / "run", "--topology", file)
        assert started.returncode == 0, started.stderr
        yield RunDir(folder / "run")
        stopped = alphamesh("down", "--data-dir", folder / "run")
        assert stopped.returncode == 0, stopped.stderr


def models(up: RunDir, *arguments: str) -> Any:
    """`alphamesh models ... --json`."""
    done = alphamesh("models", *arguments, "--json", "--data-dir", up.path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def until(up: RunDir, stages: dict[tuple[str, int], str]) -> list[dict[str, Any]]:
    """Waits for what the registry does by itself."""
    deadline = time.monotonic() + 20
    while True:
        rows: list[dict[str, Any]] = models(up, "list")
        found = {(row["model_id"], row["version"]): row["stage"] for row in rows}
        if found == stages:
            return rows
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


STAGES = {("made", 1): "VALIDATED", ("made", 2): "CHAMPION", ("broken", 1): "ROLLED_BACK"}


def test_shipped_models_are_registered_proved_and_answer_and_a_kill_changes_nothing(up: RunDir) -> None:
    rows = until(up, STAGES)
    assert {(row["model_id"], row["version"]): row["share_bps"] for row in rows}["made", 2] == 10_000
    shown = models(up, "show", "made")
    assert (shown["version"], shown["lineage"]["dataset_sha256"], shown["metrics"]["auc"]) == (2, "ab" * 32, 0.7)
    assert [each["actor"] for each in shown["transitions"]] == ["model_registry", *["bootstrap"] * 3]
    refused = models(up, "show", "broken", "1")
    assert refused["alerts"][0]["trigger"] == "GOLDEN_ROWS"
    status = json.loads(alphamesh("status", "--json", "--data-dir", up.path).stdout)
    pid = status["processes"]["model_registry"]["pid"]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while True:
        process = json.loads(alphamesh("status", "--json", "--data-dir", up.path).stdout)["processes"]["model_registry"]
        if process["pid"] not in (None, pid) and process["state"] == "SERVING":
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert until(up, STAGES) == rows
    again = models(up, "show", "made")
    assert {key: again[key] for key in shown if key != "observed"} == {
        key: shown[key] for key in shown if key != "observed"
    }
    verified = alphamesh("verify", "--json", "--data-dir", up.path)
    assert verified.returncode == 0, verified.stdout
    assert [view["view"] for view in json.loads(verified.stdout)["views"]] == ["model_registry.state"]


def test_the_command_line_promotes_compares_and_rolls_back(up: RunDir) -> None:
    until(up, STAGES)
    checked = alphamesh("models", "promote", "made", "1", "--reason", "test", "--check", "--data-dir", up.path)
    assert (checked.returncode, checked.stdout) == (0, "it may be promoted\n")
    for stage in ("SHADOW", "CANARY"):
        assert models(up, "promote", "made", "1", "--reason", "test")["stage"] == stage
    early = alphamesh("models", "promote", "made", "1", "--reason", "test", "--data-dir", up.path)
    assert early.returncode == 1
    assert "has answered 0 questions as canary of the 40 that are the least" in early.stderr
    compared = models(up, "compare", "made")
    assert [(each["version"], each["share_bps"]) for each in compared] == [(2, 9_500), (1, 500)]
    text = alphamesh("models", "compare", "made", "--data-dir", up.path).stdout
    assert "2 (CHAMPION)" in text
    assert "log_loss" in text
    back = alphamesh("models", "rollback", "made", "--reason", "test", "--data-dir", up.path)
    assert (back.returncode, back.stdout) == (0, "made/1 is out of service; version 2 answers\n")
    unknown = alphamesh("models", "show", "nobody", "--data-dir", up.path)
    assert unknown.stderr == "alphamesh: there is no model 'nobody'; there are broken, made\n"
