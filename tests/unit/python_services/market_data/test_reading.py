"""Files to exact columns; every unusable file ends in one message that names file, place and remedy."""

from __future__ import annotations

import gzip
import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from python_services.market_data import loading, reading
from python_services.market_data.config import Config
from python_services.market_data.findings import DatasetError

from .files import HEADER, NAMES, csv, row, write

ROWS = ["A,2009-07-01,10.01,10.5,9.99,10.123456789,1500,5.0617", "B,2009-07-02,0.1,0.3,0.1,0.3,7.5,0.3"]


def as_parquet(price: pa.DataType, volume: pa.DataType, date: pa.DataType) -> bytes:
    columns = dict(zip(HEADER.split(","), zip(*(text.split(",") for text in ROWS), strict=True), strict=True))
    kinds = {"instrument_id": pa.string(), "date": date, "volume": volume, "adj_close": pa.float64()}
    table = {}
    for name, values in columns.items():
        table[name] = pa.array(list(values)).cast(kinds.get(name, price))
    sink = io.BytesIO()
    parquet.write_table(pa.table(table), sink)
    return sink.getvalue()


def check(rows: reading.Rows) -> None:
    assert rows.open.tolist() == [10_010_000_000, 100_000_000]
    assert rows.close.tolist() == [10_123_456_789, 300_000_000]
    assert rows.volume.tolist() == [1_500_000_000_000, 7_500_000_000]
    assert rows.instrument.tolist() == [0, 1]
    assert np.datetime64("1970-01-01") + rows.day.tolist()[1] == np.datetime64("2009-07-02")
    assert rows.adj_close.tolist() == [5.0617, 0.3]


def test_csv_and_its_other_names() -> None:
    check(reading.parse(csv(ROWS), "bars.csv", NAMES))
    check(reading.parse(gzip.compress(csv(ROWS)), "bars.CSV.gz", NAMES))
    check(reading.parse(csv(ROWS, "Ticker,Date,Open,High,Low,Close,Volume,Adj Close"), "bars.csv", NAMES))
    check(reading.parse(b"\xef\xbb\xbf" + csv(ROWS).replace(b"\n", b"\r\n"), "bars.csv", NAMES))


@pytest.mark.parametrize("price", [pa.decimal128(18, 9), pa.decimal128(38, 12), pa.float64(), pa.string()])
@pytest.mark.parametrize("date", [pa.date32(), pa.timestamp("ns"), pa.string()])
def test_parquet_gives_the_same(price: pa.DataType, date: pa.DataType) -> None:
    check(reading.parse(as_parquet(price, pa.float64(), date), "bars.parquet", NAMES))


def test_floats_mean_the_shortest_decimal() -> None:
    body = as_parquet(pa.float64(), pa.float64(), pa.date32())
    assert Fraction(0.1) != Fraction("0.1")
    assert reading.parse(body, "bars.parquet", NAMES).open[1] == 100_000_000


def test_extra_columns_are_ignored_and_order_does_not_matter() -> None:
    header = "note,adj_close,volume,close,low,high,open,date,symbol"
    check(reading.parse(csv((",".join(["x", *reversed(r.split(","))]) for r in ROWS), header), "b.csv", NAMES))


def test_a_file_of_several_blocks() -> None:
    days = [f"{2000 + i // 336:04}-{i // 28 % 12 + 1:02}-{i % 28 + 1:02}" for i in range(10_000)]
    body = csv([row("B", day) for day in days] + [row(name, day) for day in days for name in NAMES])
    assert len(body) > 1 << 20
    rows = reading.parse(body, "bars.csv", NAMES)
    assert np.bincount(rows.instrument).tolist() == [10_000, 20_000, 10_000]


def without(name: str) -> bytes:
    return csv((), HEADER.replace(name, "x"))


@pytest.mark.parametrize(
    ("name", "body", "reason", "named"),
    [
        ("b.csv", csv(()), "EMPTY_FILE", "no rows"),
        ("b.csv", without("adj_close"), "MISSING_COLUMN", "'adj_close'"),
        ("b.csv", without("high"), "MISSING_COLUMN", "'high'"),
        ("b.csv", without("instrument_id"), "MISSING_COLUMN", "ticker"),
        ("b.csv", csv(ROWS, HEADER + ",Close"), "MISSING_COLUMN", "twice"),
        ("b.csv", csv([row("Z", "2009-07-01")]), "UNKNOWN_INSTRUMENT", "'Z'"),
        ("b.csv", csv([row("A", "2009-07-01"), row("A", "2009-07-02", "NaN")]), "MISSING_VALUE", "row 2: open"),
        ("b.csv", csv([row("A", "2009-07-01", "")]), "MISSING_VALUE", "row 1: open"),
        ("b.csv", csv([row("A", "2009-07-01", adj="nan")]), "MISSING_VALUE", "row 1: adj_close"),
        ("b.csv", csv([row("A", "2009-07-01", adj="inf")]), "MISSING_VALUE", "row 1: adj_close"),
        ("b.csv", csv([row("A", "2009-07-01", "inf")]), "CORRUPT_FILE", "'inf'"),
        ("b.csv", csv([row("A", "2009-07-01", "ten")]), "CORRUPT_FILE", "'ten'"),
        ("b.csv", csv([row("A", "01/07/2009")]), "CORRUPT_FILE", "01/07/2009"),
        ("b.csv", csv([row("A", "2009-07-01", "1.0000000001")]), "BAD_VALUE", "nine decimals"),
        ("b.csv", csv([row("A", "2009-07-01", volume="10000000000")]), "BAD_VALUE", "row 1: volume"),
        ("b.csv", csv(["A,2009-07-01,1"]), "CORRUPT_FILE", "columns"),
        ("b.csv", b"\x00\xff\x10" * 100, "CORRUPT_FILE", "utf-8"),
        ("b.csv.gz", b"no gzip", "CORRUPT_FILE", "gzip"),
        ("b.csv.gz", gzip.compress(csv(ROWS))[:-12], "CORRUPT_FILE", "b.csv.gz"),
        ("b.parquet", b"PAR1 no parquet", "CORRUPT_FILE", "b.parquet"),
        ("b.parquet", as_parquet(pa.decimal128(18, 9), pa.float64(), pa.date32())[:-40], "CORRUPT_FILE", "b.parquet"),
        ("b.xlsx", b"anything", "CORRUPT_FILE", "neither"),
    ],
)
def test_unusable_files(name: str, body: bytes, reason: str, named: str) -> None:
    with pytest.raises(DatasetError) as caught:
        reading.parse(body, name, NAMES)
    assert caught.value.reason == reason
    assert named in str(caught.value)
    assert str(caught.value).startswith(name)
    assert caught.value.remedy


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.csv", "FILE_NOT_FOUND"), (tmp_path, "UNREADABLE_FILE")):
        with pytest.raises(DatasetError, match=str(path)) as caught:
            reading.read_bytes(path)
        assert caught.value.reason == reason
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DatasetError, match="is empty"):
        reading.read_bytes(tmp_path / "empty.csv")


def test_several_files_are_one_data_set(tmp_path: Path) -> None:
    first = write(tmp_path / "1", [row("A", "2009-07-01"), row("B", "2009-07-01")])
    second = write(tmp_path / "2", [row("A", "2009-06-30"), row("B", "2009-07-01")])
    both = Config(datasets=(*first["datasets"], *second["datasets"]), instruments=str(first["instruments"]))  # type: ignore[misc]
    data = loading.load(both)
    assert data.bar_count == 3
    assert [finding.kind for finding in data.findings] == ["DUPLICATE"]  # one bar was in both files
    other = Config(datasets=both.datasets[:1], instruments=both.instruments)
    assert loading.load(other).sha256 != data.sha256


def test_a_configuration_without_data() -> None:
    with pytest.raises(ValueError, match="datasets is empty"):
        Config(datasets=(), instruments="x")
