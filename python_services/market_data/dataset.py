"""The loaded data as dense arrays, instruments x days, and the part of them that one universe needs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import adjustment, checks
from .findings import Finding
from .instruments import InstrumentSpec, Session
from .reading import EXACT, Rows
from .sessions import session_times

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_UNIVERSES = 8


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All bars that passed the checks. Matrices are instruments x days; prices and volume in nano units.

    `finding_ns`: close of the day of each finding, which may be a day without any good bar.
    """

    sha256: str
    instruments: tuple[InstrumentSpec, ...]
    days: Ints
    open_ns: Ints
    close_ns: Ints
    present: NDArray[np.bool_]
    bars: dict[str, Ints]
    factor: Floats
    split: Floats
    findings: tuple[Finding, ...]
    finding_ns: tuple[int, ...]

    @property
    def bar_count(self) -> int:
        """Number of bars held."""
        return int(self.present.sum())


def build(
    rows: Rows, specs: tuple[InstrumentSpec, ...], session: Session, *, sha256: str, where: tuple[str, ...]
) -> Dataset:
    """Checks the rows and lays them out. Raises DatasetError."""
    kept, findings = checks.clean(rows, specs, where)
    steps = adjustment.steps(kept)
    names = tuple(spec.instrument_id for spec in specs)
    findings += adjustment.findings(kept, steps, names)
    findings.sort(key=lambda found: (found.instrument_id, found.day, found.kind.value))
    found_days = np.array([found.day for found in findings], dtype=np.int64)
    distinct, place = np.unique(found_days, return_inverse=True)
    days, column = np.unique(kept.day, return_inverse=True)
    open_ns, close_ns = session_times(days, session)
    shape, at = (len(specs), len(days)), (kept.instrument, column)

    def spread(values: NDArray[np.float64]) -> Floats:
        matrix = np.ones(shape)
        matrix[at] = values
        return np.asarray(np.cumprod(matrix, axis=1))

    bars = {}
    for name in EXACT:
        bars[name] = np.zeros(shape, dtype=np.int64)
        bars[name][at] = getattr(kept, name)
    present = np.zeros(shape, dtype=np.bool_)
    present[at] = True
    return Dataset(
        sha256=sha256,
        instruments=specs,
        days=days,
        open_ns=open_ns,
        close_ns=close_ns,
        present=present,
        bars=bars,
        factor=spread(steps.total),
        split=spread(steps.split),
        findings=tuple(findings),
        finding_ns=tuple(session_times(distinct, session)[1][place].tolist()),
    )


@dataclass(frozen=True, kw_only=True)
class Universe:
    """The instruments of a request on their union calendar, ready to be cut. Matrices: instruments x days."""

    instrument_ids: tuple[str, ...]
    close_ns: Ints
    prices: dict[str, Floats]
    volume: Floats
    factor: Floats
    split: Floats
    close_e9: Ints
    last_bar: NDArray[np.int64]
    bars_so_far: Ints


class Universes:
    """Keeps the last few universes: a session asks for the same one at every step."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._index = {spec.instrument_id: row for row, spec in enumerate(dataset.instruments)}
        self._kept: OrderedDict[tuple[str, ...], Universe] = OrderedDict()

    def row(self, instrument_id: str) -> int | None:
        """Row of an instrument; None for an unknown one."""
        return self._index.get(instrument_id)

    def get(self, instrument_ids: tuple[str, ...]) -> Universe:
        """The universe of known instruments, in this order."""
        universe = self._kept.get(instrument_ids)
        if universe is None:
            universe = self._kept[instrument_ids] = self._prepare(instrument_ids)
        self._kept.move_to_end(instrument_ids)
        while len(self._kept) > _UNIVERSES:
            self._kept.popitem(last=False)
        return universe

    def _prepare(self, instrument_ids: tuple[str, ...]) -> Universe:
        data = self._dataset
        rows = np.array([self._index[name] for name in instrument_ids])
        calendar = np.flatnonzero(data.present[rows].any(axis=0))
        at = np.ix_(rows, calendar)
        present = data.present[at]

        def floats(name: str) -> Floats:
            return np.where(present, data.bars[name][at] / 1e9, np.nan)

        last_bar = np.where(present, np.arange(len(calendar)), -1)
        return Universe(
            instrument_ids=instrument_ids,
            close_ns=data.close_ns[calendar],
            prices={name: floats(name) for name in ("open", "high", "low", "close")},
            volume=floats("volume"),
            factor=data.factor[at],
            split=data.split[at],
            close_e9=data.bars["close"][at],
            last_bar=np.maximum.accumulate(last_bar, axis=1),
            bars_so_far=np.cumsum(present.sum(axis=0)),
        )
