"""The cut: all that was known at one moment, and nothing after it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .universe import Universe

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Columns are bars x instruments, oldest bar first; marks are the last closes as they were traded."""

    columns: dict[str, Floats]
    ts_event_ns: NDArray[np.int64]
    marks_e9: list[int]
    mark_ts_ns: list[int]
    bars_known: int


class NothingKnownError(ValueError):
    """An instrument has no bar at or before the cut; `instrument_id` names it."""

    def __init__(self, instrument_id: str) -> None:
        super().__init__(f"{instrument_id} has no bar at or before the cut")
        self.instrument_id = instrument_id


def cut(universe: Universe, as_of_ns: int, lookback_bars: int) -> Cut:
    """At most `lookback_bars` bars up to as_of; fewer where the data begins later.

    Price at t x factor(t) / factor(as_of): the newest prices are those that were traded. Volume is
    adjusted by splits only. Raises NothingKnownError.
    """
    end = int(np.searchsorted(universe.close_ns, as_of_ns, side="right"))
    if end == 0:
        raise NothingKnownError(universe.instrument_ids[0])
    last = universe.last_bar[end - 1]
    if (last < 0).any():
        raise NothingKnownError(universe.instrument_ids[int(np.argmin(last))])
    window = slice(max(0, end - lookback_bars), end)
    factor = universe.factor[window] / universe.factor[end - 1]
    columns = {name: values[window] * factor for name, values in universe.prices.items()}
    columns["volume"] = universe.volume[window] * (universe.split[end - 1] / universe.split[window])
    return Cut(
        columns=columns,
        ts_event_ns=universe.close_ns[window],
        marks_e9=universe.close_e9[last, np.arange(len(last))].tolist(),
        mark_ts_ns=universe.close_ns[last].tolist(),
        bars_known=int(universe.bars_so_far[end - 1]),
    )


@dataclass(frozen=True, kw_only=True)
class RatesCut:
    """Currency pairs that are known at the cut, and their last closes."""

    instrument_ids: list[str]
    rate_e9: list[int]
    rate_ts_ns: list[int]


def cut_rates(universe: Universe, as_of_ns: int) -> RatesCut:
    """The rates of a universe of currency pairs; those without a bar yet are left out."""
    end = int(np.searchsorted(universe.close_ns, as_of_ns, side="right"))
    last = universe.last_bar[end - 1] if end else np.full(len(universe.instrument_ids), -1)
    known = np.flatnonzero(last >= 0)
    return RatesCut(
        instrument_ids=[universe.instrument_ids[row] for row in known],
        rate_e9=universe.close_e9[last[known], known].tolist(),
        rate_ts_ns=universe.close_ns[last[known]].tolist(),
    )
