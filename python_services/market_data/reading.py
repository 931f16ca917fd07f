"""Files of bars to columns of exact integers. The only module of this service that knows file formats.

Prices and volumes are read as decimals and kept as int64 nano units: no float is ever in between. The
one float column is `adj_close`, a statistic: only its ratio to `close` is used.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from .findings import DatasetError
from .sessions import day_name

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

EXACT = ("open", "high", "low", "close", "volume")
COLUMNS = ("instrument_id", "date", *EXACT, "adj_close")
ALIASES = {"ticker": "instrument_id", "symbol": "instrument_id", "adjusted": "adj_close", "adjusted_close": "adj_close"}
REMEDIES = {
    "instrument_id": "add a column with the instrument's identifier (ticker and symbol are accepted names)",
    "date": "add a column with the trading day as YYYY-MM-DD",
    "adj_close": "add the close adjusted for splits and dividends; if your prices are adjusted already, copy close",
}
_SEE = "see docs/data.md for the schema"
_WIDE, _NANO, _CODED = pa.decimal128(38, 18), pa.decimal128(38, 9), pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Bars as read, one entry per row. `instrument` indexes the names; prices and volume in nano units."""

    file: NDArray[np.int32]
    line: Ints
    instrument: NDArray[np.int32]
    day: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    adj_close: Floats

    def __len__(self) -> int:
        return len(self.day)

    def take(self, index: NDArray[Any]) -> Rows:
        """The rows at `index`, or those where a mask is true."""
        return Rows(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def read_bytes(path: Path) -> bytes:
    """Content of a file. Raises DatasetError (FILE_NOT_FOUND, UNREADABLE_FILE, EMPTY_FILE)."""
    try:
        body = path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetError("FILE_NOT_FOUND", str(path), "does not exist", "correct the path in the topology") from error
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise DatasetError("UNREADABLE_FILE", str(path), problem, "give the path of a readable file") from error
    if not body:
        raise DatasetError("EMPTY_FILE", str(path), "is empty", _SEE)
    return body


def parse(body: bytes, where: str, names: tuple[str, ...], file: int = 0) -> Rows:
    """Rows of one file, in the file's order. `names`: the known instruments.

    Raises DatasetError: CORRUPT_FILE, EMPTY_FILE, MISSING_COLUMN, BAD_VALUE, MISSING_VALUE, UNKNOWN_INSTRUMENT.
    """
    try:
        table = _table(body, where)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, EOFError, UnicodeError, zlib.error) as error:
        if "Rescaling Decimal" in str(error):
            raise _too_fine(where, _first_line(error)) from error
        raise DatasetError("CORRUPT_FILE", where, f"cannot be read ({_first_line(error)})", _SEE) from error
    if table.num_rows == 0:
        raise DatasetError("EMPTY_FILE", where, "holds no rows", "add bars, or leave the file out")
    for name in COLUMNS:
        _refuse_missing_values(table, name, where)
    return Rows(
        file=np.full(table.num_rows, file, dtype=np.int32),
        line=np.arange(1, table.num_rows + 1, dtype=np.int64),
        instrument=_instruments(table, where, names),
        day=_convert(table, "date", pa.date32(), where).to_numpy().astype("datetime64[D]").astype(np.int64),
        adj_close=_adjusted(table, where),
        **{name: _nano(table, name, where) for name in EXACT},
    )


def _table(body: bytes, where: str) -> pa.Table:
    """The file's table with the schema's column names."""
    lower = where.lower()
    if lower.endswith((".csv", ".csv.gz")):
        # gzip's own reader checks length and CRC: a file cut short is not taken for a shorter one.
        text = gzip.decompress(body) if lower.endswith(".gz") else body
        header = pa.csv.read_csv(pa.BufferReader(text.partition(b"\n")[0] + b"\n")).column_names
        renamed = _rename(header, where)
        # Exactly the types that are needed: a cast later would import pyarrow.compute, which takes 80 ms.
        types = {"date": pa.date32(), "instrument_id": _CODED, "adj_close": pa.float64()}
        types |= dict.fromkeys(EXACT, _NANO)
        options = pa.csv.ConvertOptions(
            column_types={header[renamed.index(name)]: kind for name, kind in types.items()},
            include_columns=[header[renamed.index(name)] for name in COLUMNS],
        )
        return pa.csv.read_csv(pa.BufferReader(text), convert_options=options).rename_columns(list(COLUMNS))
    if lower.endswith(".parquet"):
        from pyarrow import parquet  # 40 ms that only users of Parquet pay

        stored = parquet.read_table(pa.BufferReader(body))
        return stored.rename_columns(_rename(stored.column_names, where)).select(list(COLUMNS))
    raise DatasetError("CORRUPT_FILE", where, "is neither .csv, .csv.gz nor .parquet", "convert it to one of them")


def _rename(header: list[str], where: str) -> list[str]:
    names = [name.strip().lower().replace(" ", "_") for name in header]
    names = [ALIASES.get(name, name) for name in names]
    for column in COLUMNS:
        if names.count(column) != 1:
            problem = f"has no column {column!r}" if column not in names else f"has column {column!r} twice"
            remedy = REMEDIES.get(column, f"add a column {column!r}") if column not in names else "keep one of them"
            raise DatasetError("MISSING_COLUMN", where, f"{problem} (found {', '.join(header)})", remedy)
    return names


def _refuse_missing_values(table: pa.Table, name: str, where: str) -> None:
    column = table.column(name)
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
        raise DatasetError(
            "MISSING_VALUE", where, f"row {row}: {name} is empty or NaN", "fill in the true value or remove the row"
        )


def _convert(table: pa.Table, name: str, kind: pa.DataType, where: str) -> pa.ChunkedArray:
    column = table.column(name)
    try:
        return column if column.type == kind else column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DatasetError(
            "BAD_VALUE", where, f"column {name!r} does not hold {kind} ({_first_line(error)})", _SEE
        ) from error


def _nano(table: pa.Table, name: str, where: str) -> Ints:
    """A decimal column as int64 nano units, exactly."""
    kind = table.column(name).type
    if pa.types.is_floating(kind):
        # The shortest decimal that reads back as the same float is the number that was meant.
        table = table.set_column(table.column_names.index(name), name, _convert(table, name, pa.string(), where))
    if not pa.types.is_decimal(kind):
        table = table.set_column(table.column_names.index(name), name, _convert(table, name, _WIDE, where))
    try:
        column = table.column(name)
        values = (column if column.type == _NANO else column.cast(_NANO)).combine_chunks()
    except pa.ArrowInvalid as error:
        raise _too_fine(where, f"column {name!r}") from error
    words = np.frombuffer(values.buffers()[1], dtype="<i8")[2 * values.offset : 2 * (values.offset + len(values))]
    low, high = words[0::2], words[1::2]
    beyond = np.flatnonzero(high != low >> 63)
    if beyond.size:
        row = int(beyond[0])
        raise DatasetError(
            "BAD_VALUE",
            where,
            f"row {row + 1}: {name} {values[row]} is beyond ±9.2 billion",
            "use a larger unit",
        )
    return np.ascontiguousarray(low)


def _adjusted(table: pa.Table, where: str) -> Floats:
    values = np.asarray(_convert(table, "adj_close", pa.float64(), where).to_numpy(), dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        row = int(bad[0]) + 1
        raise DatasetError("MISSING_VALUE", where, f"row {row}: adj_close is {values[row - 1]}", "fill in the value")
    return values


def _instruments(table: pa.Table, where: str, names: tuple[str, ...]) -> NDArray[np.int32]:
    column = table.column("instrument_id")
    if column.type != _CODED:
        column = _convert(table, "instrument_id", pa.string(), where).dictionary_encode()
    coded = column.combine_chunks()
    codes = {name: code for code, name in enumerate(names)}
    found: list[str] = coded.dictionary.to_pylist()
    unknown = sorted(set(found) - set(codes))
    if unknown:
        listed = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise DatasetError(
            "UNKNOWN_INSTRUMENT",
            where,
            f"holds bars of {listed}, which the instruments file does not list",
            "add them there with tick, lot and currency, or remove their rows",
        )
    known = np.array([codes[name] for name in found], dtype=np.int32)
    return np.asarray(known[coded.indices.to_numpy()])


def _too_fine(where: str, what: str) -> DatasetError:
    return DatasetError(
        "BAD_VALUE",
        where,
        f"{what}: a price or volume has more than nine decimals",
        "write prices as they were quoted; nothing is rounded here",
    )


def place(rows: Rows, index: int, names: tuple[str, ...]) -> str:
    """Names one row for a person: "row 12 (AAPL 2009-07-01)"."""
    return f"row {rows.line[index]} ({names[rows.instrument[index]]} {day_name(rows.day[index])})"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
