"""The loaded data as dense arrays, instruments x days."""

from __future__ import annotations

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


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All bars that passed the checks. Matrices are instruments x days; prices and volume in nano units.

    `step`, `split_step`: by how much the adjustment factor, and the part of it that is a split, grow at each bar; 1
    where nothing happened and where there is no bar.
    `finding_ns`: close of the day of each finding, which may be a day without any good bar.
    """

    sha256: str
    instruments: tuple[InstrumentSpec, ...]
    session: Session
    days: Ints
    open_ns: Ints
    close_ns: Ints
    present: NDArray[np.bool_]
    bars: dict[str, Ints]
    step: Floats
    split_step: Floats
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
        return matrix

    bars = {}
    for name in EXACT:
        bars[name] = np.zeros(shape, dtype=np.int64)
        bars[name][at] = getattr(kept, name)
    present = np.zeros(shape, dtype=np.bool_)
    present[at] = True
    return Dataset(
        sha256=sha256,
        instruments=specs,
        session=session,
        days=days,
        open_ns=open_ns,
        close_ns=close_ns,
        present=present,
        bars=bars,
        step=spread(steps.total),
        split_step=spread(steps.split),
        findings=tuple(findings),
        finding_ns=tuple(session_times(distinct, session)[1][place].tolist()),
    )
