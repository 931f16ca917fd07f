"""A universe made of random numbers, for measuring with more instruments than the bundled data has.

    python -m benchmarks.synthetic_universe var/universe --instruments 500 --days 756 --seed 7

writes bars.parquet and instruments.yaml, which `market_data` loads like any other data set. The same
arguments give the same values: one factor for the market, one per sector, fat-tailed noise with slowly
changing volatility, dividends, splits, prices on the tick. It is no model of a market to draw conclusions from.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FIRST_DAY = np.datetime64("2008-01-02")
SECTORS = (
    "Communication Services",
    "Consumer Discretionary",
    "Consumer Staples",
    "Energy",
    "Financials",
    "Health Care",
    "Industrials",
    "Information Technology",
    "Materials",
    "Utilities",
)
_SPLIT_ABOVE_CENTS = 40_000
_DIVIDEND_EVERY = 63


@dataclass(frozen=True)
class Bars:
    """Matrices of days x instruments. Prices in cents."""

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    adj_close: Floats


def names(instruments: int) -> list[str]:
    """S0000, S0001, ..."""
    return [f"S{number:04d}" for number in range(instruments)]


def trading_days(days: int) -> NDArray[np.datetime64]:
    """Weekdays from the first day on."""
    return np.busday_offset(FIRST_DAY, np.arange(days), roll="forward")


def simulate(instruments: int, days: int, seed: int) -> Bars:
    """Bars of all instruments."""
    random = np.random.default_rng(seed)
    sector = np.arange(instruments) % len(SECTORS)
    beta = random.uniform(0.6, 1.5, instruments)
    level = random.uniform(0.008, 0.022, instruments)
    wave = np.exp(0.3 * np.cumsum(random.normal(0.0, 0.1, days)) / np.sqrt(10.0)).clip(0.5, 3.0)
    market = random.normal(0.0003, 0.009, days) * wave
    sectors = random.normal(0.0, 0.005, (days, len(SECTORS))) * wave[:, None]
    own = random.standard_t(5, (days, instruments)) * level / np.sqrt(5 / 3) * wave[:, None]
    night = 0.3 * own + beta * market[:, None] * 0.3
    day = 0.7 * own + beta * market[:, None] * 0.7 + sectors[:, sector]
    above, below = np.abs(random.normal(0.0, 0.5, (2, days, instruments))) * level * wave[:, None]
    pays = random.random(instruments) < 0.6
    shape = (days, instruments)
    opens, closes = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    steps = np.ones(shape)
    price = random.uniform(2_000, 20_000, instruments)
    for t in range(days):
        split = price > _SPLIT_ABOVE_CENTS
        price = np.where(split, price / 2.0, price)
        first = price * np.exp(night[t])
        price = np.maximum(first * np.exp(day[t]), 100.0)
        opens[t], closes[t] = np.maximum(np.rint(first), 100.0), np.rint(price)
        dividend = pays & ((t + np.arange(instruments)) % _DIVIDEND_EVERY == 0) & (t > 0)
        steps[t] = np.where(split, 2.0, 1.0) * np.where(dividend, 1.005, 1.0)
    top, bottom = np.maximum(opens, closes), np.minimum(opens, closes)
    later = np.ones(shape)
    later[:-1] = np.cumprod(steps[:0:-1], axis=0)[::-1]
    return Bars(
        open=opens,
        high=np.rint(top * np.exp(above)).astype(np.int64),
        low=np.maximum(np.rint(bottom * np.exp(-below)), 1.0).astype(np.int64),
        close=closes,
        volume=np.rint(random.lognormal(14.0, 0.6, shape)).astype(np.int64) * 100,
        adj_close=closes / 100.0 / later,
    )


def write(folder: Path, *, instruments: int, days: int, seed: int) -> tuple[Path, Path]:
    """Writes both files and returns their paths: (bars, instruments)."""
    folder.mkdir(parents=True, exist_ok=True)
    bars, tickers = simulate(instruments, days, seed), names(instruments)

    def money(cents: Ints) -> pa.Array:
        flat = cents.reshape(-1)
        words = np.stack([flat, flat >> 63], axis=1)  # decimal128: low and high word
        return pa.Array.from_buffers(pa.decimal128(18, 2), len(flat), [None, pa.py_buffer(words.tobytes())])

    table = pa.table(
        {
            "instrument_id": pa.array(np.tile(np.array(tickers), days)).dictionary_encode(),
            "date": pa.array(np.repeat(trading_days(days), instruments)),
            "open": money(bars.open),
            "high": money(bars.high),
            "low": money(bars.low),
            "close": money(bars.close),
            "volume": pa.array(bars.volume.reshape(-1)),
            "adj_close": pa.array(bars.adj_close.reshape(-1)),
        }
    )
    data, description = folder / "bars.parquet", folder / "instruments.yaml"
    parquet.write_table(table, data, compression="zstd")
    entries = [
        f"  - {{instrument_id: {name}, currency_code: USD, price_increment: 0.01, size_increment: 1, "
        f"sector: {SECTORS[i % len(SECTORS)]}}}\n"
        for i, name in enumerate(tickers)
    ]
    description.write_text("instruments:\n" + "".join(entries), encoding="utf-8")
    return data, description


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic_universe", description=__doc__)
    parser.add_argument("folder", type=Path, help="where bars.parquet and instruments.yaml are written")
    parser.add_argument("--instruments", type=int, default=500)
    parser.add_argument("--days", type=int, default=756)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    for path in write(options.folder, instruments=options.instruments, days=options.days, seed=options.seed):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
