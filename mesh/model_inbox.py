"""The registry's inbox: where an artifact lies while it is registered. The registry keeps a copy of its own."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alphamesh.model.v1 import model_pb2
from python_services.kit.ids import content_id

from .errors import MeshError
from .rundir import RunDir

MODEL, SERVICE = "model.onnx", "model_registry"


@contextmanager
def placed(run: RunDir, folder: Path) -> Iterator[model_pb2.Artifact]:
    """The artifact in `folder`, a version of a model, copied into the inbox of `run` meanwhile. Raises MeshError."""
    try:
        content = (folder / MODEL).read_bytes()
    except OSError as error:
        raise MeshError(
            f"{folder / MODEL} cannot be read ({error.strerror}); give the folder of a version, as `alphamesh train` "
            "leaves it"
        ) from error
    inbox = run.path / "data" / SERVICE / "inbox"
    place = inbox / uuid.uuid4().hex
    try:
        shutil.copytree(folder, place)
        yield model_pb2.Artifact(
            path=str((place / MODEL).relative_to(inbox)),
            sha256=content_id(content),
            size_bytes=len(content),
            format=model_pb2.Artifact.FORMAT_ONNX,
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)
