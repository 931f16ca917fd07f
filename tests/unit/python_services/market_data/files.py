"""Small data sets for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from python_services.market_data import dataset, instruments, reading
from python_services.market_data.dataset import Dataset

HEADER = "instrument_id,date,open,high,low,close,volume,adj_close"
INSTRUMENTS = b"""
instruments:
  - {instrument_id: A, currency_code: USD, price_increment: 0.01, size_increment: 1}
  - {instrument_id: B, currency_code: USD, price_increment: 0.01, size_increment: 1}
  - {instrument_id: C, currency_code: USD, price_increment: 0.01, size_increment: 1}
"""
NAMES = ("A", "B", "C")


def row(
    name: str, day: str, close: float | str = 10, *, adj: float | str | None = None, volume: float | str = 1000
) -> str:
    """A flat bar: open, high and low equal the close."""
    return f"{name},{day},{close},{close},{close},{close},{volume},{close if adj is None else adj}"


def csv(rows: Iterable[str], header: str = HEADER) -> bytes:
    """A CSV file."""
    return "\n".join((header, *rows, "")).encode()


def parse(rows: Iterable[str], where: str = "bars.csv") -> reading.Rows:
    """Rows as read."""
    return reading.parse(csv(rows), where, NAMES)


def load(rows: Iterable[str]) -> Dataset:
    """A checked data set of the instruments A, B and C."""
    specs, session = instruments.parse(INSTRUMENTS, "instruments.yaml")
    return dataset.build(parse(rows), specs, session, sha256="0" * 64, where=("bars.csv",))


def write(folder: Path, rows: Iterable[str]) -> dict[str, object]:
    """Writes a data set and returns the service's configuration for it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bars.csv").write_bytes(csv(rows))
    (folder / "instruments.yaml").write_bytes(INSTRUMENTS)
    return {"datasets": [str(folder / "bars.csv")], "instruments": str(folder / "instruments.yaml")}
