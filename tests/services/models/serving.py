"""A model server for tests: real ONNX Runtime sessions, one for each version that is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from python_services.model_registry.serving import Array, AwayError, RefusedError, Shape


class OnnxServing:
    """As Triton: what is refused changes nothing for what answers."""

    def __init__(self) -> None:
        self.sessions: dict[str, dict[int, Any]] = {}
        self.away = False
        self.log: list[tuple[str, str, tuple[int, ...]]] = []  # (what, model, versions)

    async def loaded(self) -> Mapping[str, frozenset[int]]:
        self._there()
        return {model: frozenset(versions) for model, versions in self.sessions.items() if versions}

    async def load(self, model: str, versions: Mapping[int, Path], config: str) -> None:
        self._there()
        present = self.sessions.get(model, {})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            found = {
                number: present.get(number)
                or onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
                for number, folder in versions.items()
            }
        except Exception as error:
            raise RefusedError(str(error)) from error
        self.sessions[model] = found
        self.log.append(("load", model, tuple(sorted(versions))))

    async def unload(self, model: str) -> None:
        self._there()
        self.sessions.pop(model, None)
        self.log.append(("unload", model, ()))

    async def infer(
        self, model: str, version: int, inputs: Mapping[str, Array], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        self._there()
        try:
            values = self.sessions[model][version].run(list(outputs), dict(inputs))
        except Exception as error:
            raise RefusedError(str(error)) from error
        return dict(zip(outputs, map(np.asarray, values), strict=True))

    def served(self, model: str, version: int) -> Path | None:
        return None

    def _there(self) -> None:
        if self.away:
            raise AwayError("nobody is there")
