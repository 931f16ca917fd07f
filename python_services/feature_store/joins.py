"""Point-in-time join: for each row the newest entry of its instrument that was visible at the row's cut. Pure."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .definitions import Floats

Ints: TypeAlias = NDArray[np.int64]


def asof_positions(row_keys: Ints, row_ns: Ints, table_offsets: Ints, table_ns: Ints) -> Ints:
    """Position in the table of what each row sees; -1 where nothing was visible yet.

    table_ns: ascending within each key; entries of key k are those from table_offsets[k] to table_offsets[k + 1].
    """
    positions = np.full(len(row_keys), -1, dtype=np.int64)
    order = np.argsort(row_keys, kind="stable")
    bounds = np.searchsorted(row_keys[order], np.arange(len(table_offsets)))
    for key in range(len(table_offsets) - 1):
        chosen = order[bounds[key] : bounds[key + 1]]
        if not len(chosen):
            continue
        start = int(table_offsets[key])
        found = np.searchsorted(table_ns[start : table_offsets[key + 1]], row_ns[chosen], side="right") - 1
        positions[chosen] = np.where(found < 0, -1, found + start)
    return positions


def asof_join(row_keys: Ints, row_ns: Ints, table_offsets: Ints, table_ns: Ints, values: Floats) -> Floats:
    """Rows x columns of `values` (entries x columns); NaN where nothing was visible yet. See `asof_positions`."""
    positions = asof_positions(row_keys, row_ns, table_offsets, table_ns)
    joined = values.take(positions, axis=0, mode="wrap")
    joined[positions < 0] = np.nan
    return joined
