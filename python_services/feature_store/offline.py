"""Past rows on disk: Parquet (zstd), a file for each feature set, instrument and year of event time.

A file says of which versions of bars it was computed. When a correction reaches into that past, the file no longer
counts: its rows are computed again wherever they are asked for, until the next backfill writes them.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from python_services.kit import telemetry
from python_services.kit.files import replace_file

from .bars import Bars, Ints
from .definitions import Floats
from .historical import Rows, at_moments
from .logic import Computable

MOMENT, EVENT, KNOWN = "moment_ns", "event_time_ns", "known_time_ns"
FINGERPRINT = b"bars_sha256"
KEPT = 512  # files in memory


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Rows of one year: ascending moments, and what they were computed from."""

    moments: Ints
    rows: Rows
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """Moments of one instrument in one year that a backfill computes."""

    instrument_id: str
    year: int
    moments: Ints


class Offline:
    """The folder of past rows. Reads keep the newest files in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: OrderedDict[Path, Partition | None] = OrderedDict()
        self._turn = threading.Lock()  # a backfill writes from its own thread

    def stored(
        self, set_version: str, features: Sequence[Computable], instrument_id: str, bars: Bars, moments: Ints
    ) -> tuple[Ints, Floats]:
        """(positions in `moments` that are on disk and still hold, their values)."""
        places: list[Ints] = []
        values: list[Floats] = []
        folder = self._folder / set_version / instrument_id
        if not folder.is_dir():
            return np.empty(0, dtype=np.int64), np.empty((0, len(features)))
        years = years_of(bars, moments)
        for year in np.unique(years).tolist():
            path = folder / f"{year}.parquet"
            part = self._read(path, features)
            if part is None or part.fingerprint != bars.fingerprint(int(part.moments[-1])):
                continue
            asked = np.flatnonzero(years == year)
            at = np.searchsorted(part.moments, moments[asked])
            at[at == len(part.moments)] = 0
            hit = part.moments[at] == moments[asked]
            places.append(asked[hit])
            values.append(part.rows.values[at[hit]])
        if not places:
            return np.empty(0, dtype=np.int64), np.empty((0, len(features)))
        return np.concatenate(places), np.concatenate(values)

    def write(self, set_version: str, features: Sequence[Computable], task: Task, bars: Bars) -> bytes:
        """Computes and writes one task's rows, unless they are there; returns the sha256 of their content."""
        path = self._folder / set_version / task.instrument_id / f"{task.year}.parquet"
        before = self._read(path, features)
        if before is not None and before.fingerprint != bars.fingerprint(int(before.moments[-1])):
            before = None
        moments = task.moments if before is None else np.union1d(before.moments, task.moments)
        if before is not None and len(moments) == len(before.moments):
            rows = before.rows
        else:
            rows = at_moments(features, bars, moments)
            self._write(path, features, moments, rows, bars.fingerprint(int(moments[-1])))
        inside = np.searchsorted(moments, task.moments)
        digest = hashlib.sha256(f"{task.instrument_id} {task.year}".encode())
        for column in (task.moments, rows.event_ns[inside], rows.known_ns[inside], rows.values[inside]):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.digest()

    def _write(self, path: Path, features: Sequence[Computable], moments: Ints, rows: Rows, fingerprint: str) -> None:
        columns = {MOMENT: moments, EVENT: rows.event_ns, KNOWN: rows.known_ns}
        arrays = [pa.array(values, type=pa.int64()) for values in columns.values()]
        names = [*columns, *(feature.feature_id for feature in features)]
        for i in range(len(features)):
            column = np.ascontiguousarray(rows.values[:, i])
            arrays.append(pa.array(column, mask=np.isnan(column)))
        table = pa.table(arrays, names=names).replace_schema_metadata({FINGERPRINT: fingerprint.encode()})
        sink = pa.BufferOutputStream()
        parquet.write_table(table, sink, compression="zstd")
        replace_file(path, bytes(sink.getvalue()))
        with self._turn:
            self._kept.pop(path, None)

    def _read(self, path: Path, features: Sequence[Computable]) -> Partition | None:
        with self._turn:
            if path not in self._kept:
                self._kept[path] = _read(path, features)
            self._kept.move_to_end(path)
            found = self._kept[path]
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return found


def years_of(bars: Bars, moments: Ints) -> Ints:
    """Year (UTC) of the newest bar at each moment."""
    event_ns = bars.event_times()[np.searchsorted(bars.moments, moments)]
    years = event_ns.astype("datetime64[ns]").astype("datetime64[Y]").astype(np.int64) + 1970
    return np.asarray(years)


def tasks(instrument_id: str, bars: Bars, start_ns: int, end_ns: int) -> Iterator[Task]:
    """What a backfill of start <= event time < end computes of one instrument."""
    event_ns = bars.event_times()
    moments = bars.moments[(event_ns >= start_ns) & (event_ns < end_ns)]
    years = years_of(bars, moments)
    for year in np.unique(years).tolist():
        yield Task(instrument_id=instrument_id, year=year, moments=moments[years == year])


def _read(path: Path, features: Sequence[Computable]) -> Partition | None:
    try:
        table = parquet.read_table(path)
        fingerprint = (table.schema.metadata or {})[FINGERPRINT].decode()
        times = {name: table.column(name).to_numpy() for name in (MOMENT, EVENT, KNOWN)}
        columns = [table.column(feature.feature_id).to_numpy() for feature in features]
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, KeyError) as error:
        telemetry.logger().warning("past rows refused; they are computed again", path=str(path), error=str(error))
        return None
    values = np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.float64)
    rows = Rows(values=values, event_ns=times[EVENT], known_ns=times[KNOWN])
    return Partition(moments=times[MOMENT], rows=rows, fingerprint=fingerprint)
