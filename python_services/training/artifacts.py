"""Writes a model version as Triton's repository wants it, in one step.

    <root>/<model_id>/config.pbtxt
    <root>/<model_id>/<version>/{model.onnx, card.json, card.md, golden.json, ...}

A version is written into a folder beside its place and renamed, so that nobody ever sees half of one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from .errors import TrainingError
from .recipes import Golden, Tensor, Trained

MODEL = "model.onnx"
DATATYPES = {
    "FP32": "TYPE_FP32",
    "FP64": "TYPE_FP64",
    "INT64": "TYPE_INT64",
    "INT32": "TYPE_INT32",
    "BYTES": "TYPE_STRING",
}
ROOT = Path(__file__).resolve().parents[2]


def write(root: Path, trained: Trained, version: int, *, replace: bool = False) -> Path:
    """Writes version `version` of the model under `root`; returns its folder.

    Fills in hashes and code version of the card; the number stands in the path alone.
    Raises TrainingError (VERSION_EXISTS) unless `replace`.
    """
    card = trained.card
    model = root / card.model_id
    target = model / str(version)
    if target.exists() and not replace:
        raise TrainingError("VERSION_EXISTS", f"{target} exists; give another version, or remove it first")
    golden = golden_json(trained.golden)
    card.onnx_sha256, card.golden_sha256 = _sha256(trained.onnx_bytes), _sha256(golden)
    card.files = {name: _sha256(content) for name, content in sorted(trained.files.items())}
    card.code_version = card.code_version or code_version(card.model_id)
    content = {
        MODEL: trained.onnx_bytes,
        "card.json": card.to_json(),
        "card.md": card.to_markdown().encode(),
        "golden.json": golden,
        **trained.files,
    }
    model.mkdir(parents=True, exist_ok=True)
    new = model / f".{version}.{os.getpid()}"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name, body in content.items():
        (new / name).write_bytes(body)
    if target.exists():
        shutil.rmtree(target)
    new.rename(target)
    config = config_pbtxt(
        card.model_id,
        [_tensor(each) for each in card.inputs],
        [_tensor(each) for each in card.outputs],
        trained.max_batch_size,
    )
    (model / "config.pbtxt").write_text(config, encoding="utf-8")
    return target


def config_pbtxt(model_id: str, inputs: Iterable[Tensor], outputs: Iterable[Tensor], max_batch_size: int) -> str:
    """Triton's model configuration: explicit shapes, so that nothing is completed by the server."""
    lines = [f'name: "{model_id}"', 'backend: "onnxruntime"', f"max_batch_size: {max_batch_size}"]
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            lines += [
                f"{kind} {{",
                f'  name: "{tensor.name}"',
                f"  data_type: {DATATYPES[tensor.datatype]}",
                f"  dims: {list(tensor.shape)}",
                "}",
            ]
    lines += ["dynamic_batching {}"]  # what waits is answered together; nothing waits for more
    return "\n".join(lines) + "\n"


def golden_json(golden: Golden) -> bytes:
    """{"inputs": {name: {"shape", "datatype", "data"}}, "outputs": {...}, "tolerance"}; data flat, row by row."""
    content = {
        "inputs": {name: _array(values) for name, values in golden.inputs.items()},
        "outputs": {name: _array(values) for name, values in golden.outputs.items()},
        "tolerance": golden.tolerance,
    }
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def read_golden(content: bytes) -> Golden:
    """The reverse of `golden_json`."""
    parsed = orjson.loads(content)
    return Golden(
        inputs={name: _from(values) for name, values in parsed["inputs"].items()},
        outputs={name: _from(values) for name, values in parsed["outputs"].items()},
        tolerance=parsed["tolerance"],
    )


def code_version(model_id: str) -> str:
    """Hex sha256 over the sources that train a model: its recipe, and what recipes share."""
    digest = hashlib.sha256()
    folder = Path(__file__).resolve().parent
    others = {
        "confinement.py",
        "executors.py",
        "worker.py",
        "service.py",
        "jobs.py",
        "running.py",
        "gathering.py",
        "translate.py",
        "logic.py",
        "config.py",
        "__main__.py",
    }
    for path in sorted(folder.rglob("*.py")):
        foreign = path.parent.name == "recipes" and path.stem not in ("__init__", model_id)
        if foreign or path.name in others:
            continue
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def commit() -> str:
    """The commit of the working tree, "-dirty" when it was changed since; empty where there is no repository."""
    try:
        found = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def _tensor(each: Mapping[str, Any]) -> Tensor:
    return Tensor(name=each["name"], shape=tuple(each["shape"][1:]), datatype=each["datatype"])


_NUMPY = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32, "BYTES": np.object_}


def _array(values: NDArray[Any]) -> dict[str, Any]:
    datatype = next((name for name, kind in _NUMPY.items() if name != "BYTES" and values.dtype == kind), "BYTES")
    return {"shape": list(values.shape), "datatype": datatype, "data": values.ravel().tolist()}


def _from(content: Mapping[str, Any]) -> NDArray[Any]:
    return np.array(content["data"], dtype=_NUMPY[content["datatype"]]).reshape(content["shape"])


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
