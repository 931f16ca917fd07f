"""Rows to learn from, as the service gathered them: features of the feature store, adjusted closes of a snapshot.

They lie in the job's folder as `data.npz`; the worker that reads them has no way to the mesh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import TrainingError

FILE = "data.npz"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """features: rows x columns, NaN where no value exists; instrument, bar: of each row, indices into the others.

    close: bars x instruments, adjusted, NaN where no bar is; close_ns: bars, ascending, Unix nanoseconds UTC.
    """

    names: tuple[str, ...]
    features: Floats
    instrument: Ints
    bar: Ints
    close: Floats
    close_ns: Ints

    def sha256(self) -> str:
        """Over everything that was read."""
        digest = hashlib.sha256("\0".join(self.names).encode())
        for array in (self.features, self.instrument, self.bar, self.close, self.close_ns):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Writes data.npz."""
        np.savez(
            folder / FILE, names=np.array(self.names), features=self.features, instrument=self.instrument, bar=self.bar,
            close=self.close, close_ns=self.close_ns,
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Reads data.npz. Raises TrainingError (DATA_MISSING)."""
        try:
            with np.load(folder / FILE, allow_pickle=False) as found:
                columns = {name: found[name] for name in found.files}
        except (OSError, ValueError) as error:
            raise TrainingError("DATA_MISSING", f"{folder / FILE} cannot be read: {error}") from error
        names: Sequence[str] = columns.pop("names").tolist()
        return cls(names=tuple(names), **columns)
