"""What the registry needs of a model server, and Triton as one.

`load` makes exactly the given versions of a model serve: those that do already go on meanwhile, and a version that is
refused changes nothing for the others.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from python_services.kit.context import Context
from python_services.kit.errors import ServiceError
from python_services.kit.files import replace_file

Array = NDArray[Any]
Shape = tuple[int, ...]
INFER_TIMEOUT_S = 5.0


class AwayError(RuntimeError):
    """Nobody answers now; asking again later may help."""


class RefusedError(RuntimeError):
    """The version cannot be loaded, or does not answer as it must."""


class Serving(Protocol):
    """A model server."""

    async def loaded(self) -> Mapping[str, frozenset[int]]:
        """Versions that answer now, by model. Raises AwayError."""

    async def load(self, model: str, versions: Mapping[int, Path], config: str) -> None:
        """These versions (number -> folder with model.onnx and what is beside it) answer, and no other.

        The folder of one that answers already need not be there any more; of a new one it is gone after the call.
        `config`: config.pbtxt of the model, where the server has none yet. Raises AwayError, RefusedError.
        """

    async def unload(self, model: str) -> None:
        """No version of the model answers. Raises AwayError."""

    async def infer(
        self, model: str, version: int, inputs: Mapping[str, Array], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        """The named outputs. Raises AwayError, RefusedError."""

    def served(self, model: str, version: int) -> Path | None:
        """The folder that the server reads this version from; None when there is none."""


class TritonServing:
    """Triton, over the kit's clients; versions come and go by renames in its repository."""

    def __init__(self, context: Context[Any]) -> None:
        from python_services.kit.inference import InferenceClient
        from python_services.kit.inference_admin import InferenceAdmin

        self._admin = InferenceAdmin.of(context)
        # Golden rows are asked once: no breaker shall hide what is wrong with them.
        self._client = InferenceClient.of(context, failures=1_000_000)

    async def loaded(self) -> Mapping[str, frozenset[int]]:
        """Versions that are READY."""
        found: dict[str, set[int]] = {}
        for one in await _asked(self._admin.index()):
            if one.state == "READY":
                found.setdefault(one.model, set()).add(one.version)
        return {model: frozenset(versions) for model, versions in found.items()}

    async def load(self, model: str, versions: Mapping[int, Path], config: str) -> None:
        """Installs what is missing, takes away what is not wanted, and loads."""
        present = {int(path.name) for path in (self._admin.models / model).glob("[0-9]*")}
        written = None
        for version, folder in versions.items():
            if version not in present:
                written = folder.with_name(f"{model}.pbtxt")
                written.write_text(config)
                self._admin.install(model, version, folder, written)
        for version in present - set(versions):
            self._admin.remove(model, version)
        _serve_all(self._admin.models / model / "config.pbtxt")
        try:
            await _asked(self._admin.load(model))
        except RefusedError:
            for version in set(versions) - present:
                self._admin.remove(model, version)
            raise
        finally:
            if written is not None:
                written.unlink(missing_ok=True)

    async def unload(self, model: str) -> None:
        """Unloads, then takes its versions away, so that a restart of Triton does not bring them back."""
        await _asked(self._admin.unload(model))
        for path in (self._admin.models / model).glob("[0-9]*"):
            self._admin.remove(model, int(path.name))

    async def infer(
        self, model: str, version: int, inputs: Mapping[str, Array], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        """Asks with a deadline that fits a first answer."""
        found: Mapping[str, Array] = await _asked(
            self._client.infer(model, version, dict(inputs), dict(outputs), INFER_TIMEOUT_S)
        )
        return found

    def served(self, model: str, version: int) -> Path | None:
        """In the repository."""
        folder = self._admin.models / model / str(version)
        return folder if folder.is_dir() else None


def _serve_all(config: Path) -> None:
    """Without a policy Triton serves the highest number only: loading a canary would unload the champion."""
    text = config.read_text()
    if "version_policy" not in text:
        replace_file(config, (text.rstrip() + "\nversion_policy: { all: {} }\n").encode())


async def _asked(call: Any) -> Any:
    """The answer; an error of the client as one of ours."""
    try:
        return await call
    except ServiceError as error:
        if error.reason in ("UNAVAILABLE", "DEADLINE", "BREAKER_OPEN"):
            raise AwayError(error.message) from error
        raise RefusedError(error.message) from error


def stage(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Writes the files of a version into `folder`, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def triton_config(model_id: str, signature: Any) -> str:
    """config.pbtxt of a model whose batch is the first dimension of every tensor."""
    from alphamesh.model.v1 import model_pb2

    batched = all(spec.shape and spec.shape[0] == -1 for spec in (*signature.inputs, *signature.outputs))
    lines = [
        f'name: "{model_id}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {(signature.maximum_batch or 1024) if batched else 0}",
        "version_policy: { all: {} }",
    ]
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            dims = list(spec.shape)[1 if batched else 0 :] or [1]
            datatype = model_pb2.TensorSpec.DataType.Name(spec.data_type).removeprefix("DATA_TYPE_")
            lines.append(f'{kind} [ {{ name: "{spec.name}", data_type: TYPE_{datatype}, dims: {dims} }} ]')
    if batched:
        lines.append("dynamic_batching {}")
    return "\n".join(lines) + "\n"
