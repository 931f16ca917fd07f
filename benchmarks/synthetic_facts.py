"""Company facts made of random numbers, for as many companies as `synthetic_universe` has instruments.

    python -m benchmarks.synthetic_facts var/universe --instruments 500 --seed 7

writes facts.csv.gz, which `market_data` loads like any other. The same arguments give the same values: every company
files four times a year, from 20 to 45 days after the end of each quarter, all that the fundamental agents read. They
are no accounts to draw conclusions from.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from benchmarks.synthetic_universe import names
from python_services.kit.facts import COLUMNS

YEARS = range(2005, 2012)
QUARTERS = ((3, 31), (6, 30), (9, 30), (12, 31))
# Shares of revenue in a quarter, and multiples of revenue at its end.
FLOWS = {
    "Revenues": 1.0,
    "CostOfRevenue": 0.6,
    "GrossProfit": 0.4,
    "OperatingIncomeLoss": 0.15,
    "NetIncomeLoss": 0.1,
    "NetCashProvidedByUsedInOperatingActivities": 0.14,
    "PaymentsToAcquirePropertyPlantAndEquipment": 0.05,
}
BALANCES = {
    "Assets": 6.0,
    "AssetsCurrent": 2.5,
    "Liabilities": 3.2,
    "LiabilitiesCurrent": 1.6,
    "StockholdersEquity": 2.8,
    "RetainedEarningsAccumulatedDeficit": 1.9,
    "LongTermDebtNoncurrent": 1.1,
}
Row = tuple[str, str, int, str, str, str, str, int]


def rows(instruments: int, seed: int) -> Iterator[Row]:
    """Rows with the columns of `kit.facts.COLUMNS`."""
    random = np.random.default_rng(seed)
    for name in names(instruments):
        revenue = random.lognormal(20.0, 1.0)
        shares = random.lognormal(18.0, 0.8)
        habits = {tag: random.uniform(0.7, 1.3) for tag in (*FLOWS, *BALANCES)}
        drift, lag = random.normal(0.015, 0.02), int(random.integers(20, 46))
        for year in YEARS:
            to_date = dict.fromkeys(FLOWS, 0)
            for quarter, (month, day) in enumerate(QUARTERS, start=1):
                revenue *= np.exp(random.normal(drift, 0.05))
                shares *= random.uniform(0.99, 1.005)
                end = date(year, month, day)
                filed = (end + timedelta(days=lag + (15 if quarter == 4 else 0))).isoformat()
                form, accession = "10-K" if quarter == 4 else "10-Q", f"{name}-{year}-{quarter}"
                filing = end.isoformat(), filed, form, accession
                for tag, part in BALANCES.items():
                    yield name, tag, 0, *filing, int(revenue * part * habits[tag] * random.uniform(0.95, 1.05))
                yield name, "CommonStockSharesOutstanding", 0, *filing, int(shares)
                for tag, part in FLOWS.items():
                    value = int(revenue * part * habits[tag] * random.uniform(0.9, 1.1))
                    to_date[tag] += value
                    yield name, tag, 3, *filing, value
                    if quarter > 1:
                        yield name, tag, 3 * quarter, *filing, to_date[tag]


def write(folder: Path, *, instruments: int, seed: int) -> Path:
    """Writes the file and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows(instruments, seed))
    path = folder / "facts.csv.gz"
    path.write_bytes(gzip.compress(text.getvalue().encode(), 6, mtime=0))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic_facts", description=__doc__)
    parser.add_argument("folder", type=Path, help="where facts.csv.gz is written")
    parser.add_argument("--instruments", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    print(write(options.folder, instruments=options.instruments, seed=options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
