"""Golden rows, golden.json beside a model: questions, and the answers that every served copy must give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from .inference import DTYPES, Array

DEFAULT_TOLERANCE = 1e-5


class GoldenError(ValueError):
    """A file that holds no golden rows, or answers that are not those of the rows."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Arrays by name; the first dimension is the rows. tolerance: of the absolute difference."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    tolerance: float = DEFAULT_TOLERANCE

    @classmethod
    def parse(cls, content: bytes) -> Golden:
        """{"inputs": {name: {"shape", "datatype", "data"}}, "outputs": {...}, "tolerance"}. Raises GoldenError."""
        try:
            read: dict[str, Any] = orjson.loads(content)
            inputs, outputs = ({name: _array(item) for name, item in read[side].items()} for side in _SIDES)
            return cls(inputs=inputs, outputs=outputs, tolerance=float(read.get("tolerance", DEFAULT_TOLERANCE)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GoldenError(f"no golden rows: {error!r}") from error

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What the answers must look like."""
        return {name: value.shape for name, value in self.outputs.items()}

    def difference(self, found: Mapping[str, Array]) -> tuple[str, float]:
        """(output, largest absolute difference from the recorded answers); ("", 0) when they are equal.

        Raises GoldenError where a shape is another, or a number is not finite.
        """
        worst = "", 0.0
        for name, wanted in self.outputs.items():
            value = found[name]
            if value.shape != wanted.shape:
                raise GoldenError(f"golden rows: {name} has the shape {value.shape}, not {wanted.shape}")
            off = np.abs(value.astype(np.float64) - wanted.astype(np.float64))
            if not np.isfinite(off).all():
                raise GoldenError(f"golden rows: {name} is not finite")
            worst = max(worst, (name, float(off.max(initial=0.0))), key=lambda pair: pair[1])
        return worst


_SIDES = ("inputs", "outputs")


def _array(item: Mapping[str, Any]) -> Array:
    return np.asarray(item["data"], DTYPES[item["datatype"]]).reshape(item["shape"])
