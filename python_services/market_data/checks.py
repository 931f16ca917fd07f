"""The checks on bars as read: what is wrong, and what is done about it. Pure: rows in, rows and findings out.

Nothing is repaired by invention. A bad bar is left out, an exact repetition is dropped, rows are put in
time order; two different bars for one day are refused. Each of these is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from python_services.kit.convert import decimal

from .findings import DatasetError, Finding, Kind
from .instruments import InstrumentSpec
from .reading import EXACT, Rows, place
from .sessions import day_name

Mask = NDArray[np.bool_]
_PRICES = ("open", "high", "low", "close")


def clean(rows: Rows, specs: tuple[InstrumentSpec, ...], where: tuple[str, ...]) -> tuple[Rows, list[Finding]]:
    """Rows that can be used, by instrument and day, and what was found on the way.

    Raises DatasetError: CONFLICTING_DUPLICATE, NO_GOOD_BARS.
    """
    names = tuple(spec.instrument_id for spec in specs)
    findings = list(_order(rows, names))
    rows = rows.take(np.lexsort((rows.line, rows.file, rows.day, rows.instrument)))
    repeated = _repeated(rows, names, where)
    findings += [
        _finding(
            rows, i, names, Kind.DUPLICATE, "The repetition was dropped; one bar is kept.", "all columns are equal"
        )
        for i in np.flatnonzero(repeated).tolist()
    ]
    rows = rows.take(~repeated)
    findings += _gaps(rows, names)
    bad, reasons = _bad(rows)
    findings += [
        _finding(rows, i, names, Kind.BAD_BAR, "The bar was left out of everything.", reason)
        for i, reason in zip(np.flatnonzero(bad).tolist(), reasons, strict=True)
    ]
    rows = rows.take(~bad)
    if not len(rows):
        raise DatasetError("NO_GOOD_BARS", ", ".join(where), "every bar is bad", "correct the prices")
    findings += _off_tick(rows, specs)
    findings += [
        _finding(
            rows, i, names, Kind.ZERO_VOLUME, "The bar was kept.", f"close {decimal(int(rows.close[i]))}, volume 0"
        )
        for i in np.flatnonzero(rows.volume == 0).tolist()
    ]
    return rows, findings


def _finding(rows: Rows, i: int, names: tuple[str, ...], kind: Kind, action: str, detail: str) -> Finding:
    return Finding(
        instrument_id=names[rows.instrument[i]], day=int(rows.day[i]), kind=kind, action=action, detail=detail
    )


def _order(rows: Rows, names: tuple[str, ...]) -> Iterator[Finding]:
    """Rows that come after a later day of the same instrument in the same file."""
    grouped = rows.take(np.lexsort((rows.line, rows.instrument, rows.file)))
    same = (np.diff(grouped.instrument) == 0) & (np.diff(grouped.file) == 0)
    late = np.flatnonzero(same & (np.diff(grouped.day) < 0)) + 1
    series = list(zip(grouped.file[late].tolist(), grouped.instrument[late].tolist(), strict=True))
    for key in dict.fromkeys(series):
        first = int(late[series.index(key)])
        detail = f"{series.count(key)} rows step back in time, the first at row {grouped.line[first]} of its file"
        yield _finding(grouped, first, names, Kind.OUT_OF_ORDER, "The rows were put in time order.", detail)


def _repeated(rows: Rows, names: tuple[str, ...], where: tuple[str, ...]) -> Mask:
    """Rows that say the same as the row before. `rows` by instrument and day."""
    repeated = np.zeros(len(rows), dtype=np.bool_)
    repeated[1:] = (np.diff(rows.instrument) == 0) & (np.diff(rows.day) == 0)
    for i in np.flatnonzero(repeated).tolist():
        differing = [name for name in (*EXACT, "adj_close") if getattr(rows, name)[i] != getattr(rows, name)[i - 1]]
        if differing:
            raise DatasetError(
                "CONFLICTING_DUPLICATE",
                where[rows.file[i]],
                f"{place(rows, i, names)} contradicts row {rows.line[i - 1]} of {where[rows.file[i - 1]]} "
                f"in {', '.join(differing)}",
                "keep the one that is right",
            )
    return repeated


def _gaps(rows: Rows, names: tuple[str, ...]) -> Iterator[Finding]:
    """Runs of days on which others have a bar, between the first and the last bar of an instrument."""
    calendar = np.unique(rows.day)
    position = np.searchsorted(calendar, rows.day)
    missed = np.zeros(len(rows), dtype=np.int64)
    missed[1:] = np.where(np.diff(rows.instrument) == 0, np.diff(position) - 1, 0)
    for i in np.flatnonzero(missed > 0).tolist():
        first, last = calendar[position[i] - missed[i]], calendar[position[i] - 1]
        days = f"{missed[i]} trading day{'s' if missed[i] > 1 else ''}"
        yield Finding(
            instrument_id=names[rows.instrument[i]],
            day=int(first),
            kind=Kind.GAP,
            action="Nothing was filled in; snapshots have no value there.",
            detail=f"{days} without a bar, {day_name(first)} to {day_name(last)}",
        )


def _bad(rows: Rows) -> tuple[Mask, list[str]]:
    prices = np.stack([getattr(rows, name) for name in _PRICES])
    tests: dict[str, Mask] = {
        "a price is not positive": np.asarray((prices <= 0).any(axis=0)),
        "high is below low": rows.high < rows.low,
        "open is outside low and high": (rows.open < rows.low) | (rows.open > rows.high),
        "close is outside low and high": (rows.close < rows.low) | (rows.close > rows.high),
        "volume is negative": rows.volume < 0,
        "adj_close is not positive": rows.adj_close <= 0.0,
    }
    bad: Mask = np.asarray(np.logical_or.reduce(list(tests.values())))
    reasons = []
    for i in np.flatnonzero(bad).tolist():
        values = " ".join(f"{name} {decimal(int(getattr(rows, name)[i]))}" for name in EXACT)
        failed = ", ".join(text for text, mask in tests.items() if mask[i])
        reasons.append(f"{failed}: {values} adj_close {rows.adj_close[i]}")
    return bad, reasons


def _off_tick(rows: Rows, specs: tuple[InstrumentSpec, ...]) -> Iterator[Finding]:
    names = tuple(spec.instrument_id for spec in specs)
    tick = np.array([spec.price_increment_e9 for spec in specs], dtype=np.int64)[rows.instrument]
    off = np.stack([getattr(rows, name) % tick != 0 for name in _PRICES])
    for i in np.flatnonzero(off.any(axis=0)).tolist():
        values = ", ".join(
            f"{name} {decimal(int(getattr(rows, name)[i]))}" for k, name in enumerate(_PRICES) if off[k, i]
        )
        yield _finding(
            rows,
            i,
            names,
            Kind.OFF_TICK,
            "The price was kept as it is; orders are held to the tick.",
            f"{values} off the tick of {decimal(int(tick[i]))}",
        )
