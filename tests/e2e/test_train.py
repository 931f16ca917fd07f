"""`alphamesh train`, as a researcher types it, with no system up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import alphamesh

QUICK = [
    "train", "daily_direction", "--algorithm", "ridge", "--set", "walk_forward_folds=2", "--set", "holdout_bars=90",
]  # fmt: skip


def test_training_without_a_system_and_again_with_the_same_bytes(tmp_path: Path) -> None:
    done = alphamesh(*QUICK, "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for wanted in ("cross-validation", "walk_forward.log_loss", "sha256 of model.onnx", "daily_direction/1"):
        assert wanted in done.stdout
    again = alphamesh(*QUICK, "--out", tmp_path, "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    answer = json.loads(again.stdout)
    assert answer["onnx_sha256"] in done.stdout
    assert Path(answer["artifact"]).name == "2", "the next free number"
    assert answer["same_as_shipped_version"] is None
    first, second = ((tmp_path / "daily_direction" / str(n) / "card.json").read_bytes() for n in (1, 2))
    assert first == second
    taken = alphamesh(*QUICK, "--out", tmp_path, "--version", "2", cwd=tmp_path)
    assert taken.returncode == 1
    assert "give another --version" in taken.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "nobody"], "there is no recipe for 'nobody'"),
        (["train", "daily_direction", "--set", "trees"], "write it like trees=60"),
        (["train", "daily_direction", "--algorithm", "magic"], "engine 'magic' is not known"),
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
def test_ray_trains_the_same_bytes(tmp_path: Path) -> None:
    """Run by `make chaos`: Ray takes seconds to start."""
    print("a local Ray takes seconds to start, so this runs in `make chaos` and not in `make test`")
    shas = []
    for engine in ("joblib", "ray"):
        done = alphamesh(*QUICK, "--engine", engine, "--json", "--out", tmp_path, cwd=tmp_path, timeout=110)
        assert done.returncode == 0, done.stderr
        shas.append((json.loads(done.stdout)["onnx_sha256"], json.loads(done.stdout)["metrics"]))
    assert shas[0] == shas[1]
