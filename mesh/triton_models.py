"""The model repository of a run: a copy of the topology's models, checked, to which versions are added while it runs.

Triton reads it at its own start too, so whatever lies here is served again after a crash. What Triton refuses is put
aside: at a start, one broken version of a model would take the others of it down.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from inference import model_config_pb2
from python_services.kit import inference_admin
from python_services.kit.inference_admin import CONFIG, MODEL

from .errors import MeshError

BACKEND = "onnxruntime"
REFUSED = "refused"


class ModelError(MeshError):
    """A model that cannot be served as its folder stands; the message has file, problem and remedy."""


def read_config(path: Path) -> model_config_pb2.ModelConfig:
    """A config.pbtxt of the folder's name, for the one backend. Raises ModelError with file and line."""
    try:
        config = inference_admin.read_config(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; a model needs one") from error
    except ValueError as error:
        raise ModelError(str(error)) from error
    if config.name not in ("", path.parent.name):
        raise ModelError(f"{path}: the model is called {config.name!r}; call it {path.parent.name!r} as its folder")
    if config.backend != BACKEND:
        raise ModelError(f"{path}: the backend is {config.backend!r}; write backend: {BACKEND!r}")
    if not config.input or not config.output:
        raise ModelError(f"{path}: no inputs or no outputs; list both, nothing is completed by guessing")
    return config


def versions(model: Path) -> list[int]:
    """Those that Triton would try to load, oldest first."""
    return sorted(int(path.name) for path in model.iterdir() if path.name.isdecimal() and path.is_dir())


def fill(models: Path, source: Path) -> list[str]:
    """Adds what `source` has to the repository `models`; the names of all models in it. Raises ModelError."""
    models.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in sorted(path for path in source.iterdir() if (path / CONFIG).is_file()):
        inference_admin.install_config(models, folder.name, read_config(folder / CONFIG))
        for version in versions(folder):
            if refused_path(models, folder.name, version).exists():
                continue  # until somebody looks at it
            if not (folder / str(version) / MODEL).is_file():
                raise ModelError(f"{folder / str(version)}: no {MODEL}; build it (`make setup`) or remove the version")
            try:
                inference_admin.install_version(models, folder.name, version, folder / str(version))
            except FileExistsError as error:
                raise ModelError(f"{error}, or start in another --data-dir") from error
            except OSError as error:  # shutil.Error is one; a full disk, most of the time
                where = models / folder.name / str(version)
                raise ModelError(f"{where} cannot be written: {error}; make room on the disk") from error
    return names(models)


def names(models: Path) -> list[str]:
    """Models that have something to serve."""
    return sorted(path.name for path in models.iterdir() if path.is_dir() and versions(path))


def refused_path(models: Path, model: str, version: int) -> Path:
    """Where a version lies that was put aside."""
    return models.parent / REFUSED / f"{model}-{version}"


def put_aside(models: Path, model: str, version: int) -> Path:
    """Takes a version that Triton refuses out of the repository; it stays in refused/ for whoever looks into it."""
    target = refused_path(models, model, version)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(mode=0o700, exist_ok=True)
    return (models / model / str(version)).rename(target)
