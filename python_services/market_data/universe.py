"""The instruments of a request as they were known at one moment, on their union calendar, ready to be cut."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .history import History

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_UNIVERSES = 8


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Splits by their day, oldest first: new shares for one old of the instrument in `row`."""

    close_ns: Ints
    row: Ints
    ratio: Floats

    def known(self, as_of_ns: int) -> Splits:
        """Those of days that closed by a moment."""
        count = np.searchsorted(self.close_ns, as_of_ns, side="right")
        return Splits(close_ns=self.close_ns[:count], row=self.row[:count], ratio=self.ratio[:count])


@dataclass(frozen=True, kw_only=True)
class Universe:
    """Matrices are days x instruments, C-contiguous: a window of days lies in one piece.

    `ingested`: versions read from each stream but the data set.
    """

    instrument_ids: tuple[str, ...]
    close_ns: Ints
    prices: dict[str, Floats]
    volume: Floats
    factor: Floats
    split: Floats
    close_e9: Ints
    last_bar: NDArray[np.int64]
    bars_so_far: Ints
    ingested: dict[str, int]
    splits: Splits


class Universes:
    """Keeps the last few universes: a session asks for the same one at every step."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._kept: OrderedDict[tuple[tuple[str, ...], int, int], Universe] = OrderedDict()

    def get(self, instrument_ids: tuple[str, ...], known_at_ns: int) -> Universe:
        """The universe of known instruments, in this order, with the versions known at `known_at_ns`.

        It holds later bars of the data set, too: the cut leaves them out.
        """
        # While nothing comes in, as many versions known means the same versions known.
        key = instrument_ids, len(self._history), self._history.versions_known(known_at_ns)
        universe = self._kept.get(key)
        if universe is None:
            universe = self._kept[key] = self._prepare(instrument_ids, known_at_ns)
        self._kept.move_to_end(key)
        while len(self._kept) > _UNIVERSES:
            self._kept.popitem(last=False)
        return universe

    def _prepare(self, instrument_ids: tuple[str, ...], known_at_ns: int) -> Universe:
        rows = self._history.rows(instrument_ids)
        bars = self._history.bars(rows, known_at_ns)
        present = np.ascontiguousarray(bars.present.T)

        def floats(name: str) -> Floats:
            return np.where(present, bars.exact[name].T / 1e9, np.nan)

        days, row = np.nonzero(bars.split_step.T != 1.0)
        last_bar = np.where(present, np.arange(len(present))[:, np.newaxis], -1)
        return Universe(
            instrument_ids=instrument_ids,
            close_ns=bars.close_ns,
            prices={name: floats(name) for name in ("open", "high", "low", "close")},
            volume=floats("volume"),
            factor=np.asarray(np.cumprod(bars.step.T.copy(), axis=0)),
            split=np.asarray(np.cumprod(bars.split_step.T.copy(), axis=0)),
            close_e9=np.ascontiguousarray(bars.exact["close"].T),
            last_bar=np.maximum.accumulate(last_bar, axis=0),
            bars_so_far=np.cumsum(bars.loaded.sum(axis=0)),
            ingested=self._history.read_from(rows, known_at_ns),
            splits=Splits(close_ns=bars.close_ns[days], row=row, ratio=bars.split_step[row, days]),
        )
