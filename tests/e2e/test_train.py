"""`alphamesh train`, as a researcher types it, with no system up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mesh.rundir import RunDir
from tests.integration.conftest import alphamesh

QUICK = [
    "train", "daily_direction", "--algorithm", "ridge", "--set", "walk_forward_folds=2",
]  # fmt: skip


def test_training_without_a_system(tmp_path: Path) -> None:
    done = alphamesh(*QUICK, "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for wanted in ("cross-validation", "walk_forward.log_loss", "sha256 of model.onnx", "daily_direction/1"):
        assert wanted in done.stdout
    assert (tmp_path / "daily_direction" / "config.pbtxt").exists()
    assert not (tmp_path / "var").exists(), "what was started for it is gone"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "nobody"], "there is no recipe for 'nobody'"),
        (["train", "daily_direction", "--set", "trees"], "write it like trees=60"),
        (["train", "daily_direction", "--set", "tres=3"], "gradient_boosting has no parameter 'tres'"),
    ],
)
def test_wrong_wishes_are_refused_with_what_to_do(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = alphamesh(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_recipes_are_listed(tmp_path: Path) -> None:
    done = alphamesh("train", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "daily_direction" in done.stdout
    assert "Examples" in alphamesh("train", "--help").stdout


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_ray_trains_the_same_bytes(tmp_path: Path) -> None:
    """Run by `make chaos`: Ray takes seconds to start."""
    print("a local Ray takes seconds to start, so this runs in `make chaos` and not in `make test`")
    answers = []
    for engine in ("joblib", "ray"):
        done = alphamesh(*QUICK, "--engine", engine, "--json", "--out", tmp_path, cwd=tmp_path, timeout=110)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    one, other = answers
    assert one["onnx_sha256"] == other["onnx_sha256"]
    assert one["metrics"] == other["metrics"]
    assert one["same_as_shipped_version"] is None
    assert [Path(each["artifact"]).name for each in answers] == ["1", "2"], "the next free number"
    taken = alphamesh(*QUICK, "--out", tmp_path, "--version", "2", cwd=tmp_path, timeout=110)
    assert taken.returncode == 1
    assert "give another --version" in taken.stderr


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_the_service_is_killed_while_it_trains() -> None:
    """Run by `make chaos`: a whole system is started. Its training service gets a kill -9 in the middle of a job."""
    print("a whole system is started and a model trained, so this runs in `make chaos` and not in `make test`")
    with tempfile.TemporaryDirectory(prefix="am-") as name:
        folder = Path(name)
        run = RunDir(folder / "run")
        assert alphamesh("up", "--detach", "--data-dir", run.path, timeout=110).returncode == 0
        try:
            command = [sys.executable, "-m", "mesh.cli", "train", "daily_direction", "--data-dir", str(run.path)]
            with subprocess.Popen([*command, "--out", str(folder)], stdout=subprocess.PIPE, text=True) as training:
                assert training.stdout is not None
                for line in training.stdout:
                    if "cross-validation" in line:
                        break
                os.kill(run.state()["processes"]["training"]["pid"], signal.SIGKILL)
                rest = training.stdout.read()
            assert training.returncode == 0, rest
            assert "the same bytes as version 1" in rest
        finally:
            assert alphamesh("down", "--data-dir", run.path).returncode == 0
