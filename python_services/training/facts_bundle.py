"""Cuts the slice of company facts that ships with the project out of the files that the SEC publishes.

    python -m python_services.training.facts_bundle --source FOLDER

FOLDER holds `companyfacts_<SYMBOL>_<CIK>.json.gz` (the SEC's company facts, one JSON a company) and `sec_fsds_*.csv.gz`
(rows of its financial statement data sets, with symbol, tag, ddate, qtrs, filed). Kept are the tags of `kit.facts`, in
US dollars or shares, for the whole company. A number filed again without a change is kept once, at its first filing; a
changed number is kept as the revision that it is.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from python_services.kit.facts import COLUMNS, TAGS
from python_services.training.facts import BUNDLED

UNITS = ("USD", "shares")
QUARTER_DAYS, TOLERANCE_DAYS = 91.3125, 10
# Alphabet's filings go on where Google Inc.'s end; the demo's market data calls both GOOG.
INSTRUMENTS = {"GOOGL": "GOOG"}
Row = tuple[str, str, int, str, str, str, str, str]


def months_between(start: str | None, end: str) -> int | None:
    """0 for a moment, 3, 6, 9 or 12 for a flow over whole quarters; None for any other span."""
    if start is None:
        return 0
    days = (date.fromisoformat(end) - date.fromisoformat(start)).days + 1
    quarters = round(days / QUARTER_DAYS)
    return 3 * quarters if 1 <= quarters <= 4 and abs(days - quarters * QUARTER_DAYS) <= TOLERANCE_DAYS else None


def company_facts(path: Path) -> Iterator[Row]:
    """Rows of one company's JSON."""
    symbol = path.name.split("_")[1]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        tags = json.load(file)["facts"]["us-gaap"]
    for tag in TAGS:
        units = tags.get(tag, {}).get("units", {})
        for fact in (fact for unit in UNITS for fact in units.get(unit, ())):
            months = months_between(fact.get("start"), fact["end"])
            if months is not None:
                name = INSTRUMENTS.get(symbol, symbol)
                yield name, tag, months, fact["end"], fact["filed"], fact["form"], fact["accn"], str(int(fact["val"]))


def statement_rows(path: Path, known: set[str]) -> Iterator[Row]:
    """Rows of the financial statement data sets, for companies whose own JSON is not there."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            whole = not row["segments"] and not row["coreg"]
            if row["symbol"] in known or row["tag"] not in TAGS or row["uom"] not in UNITS or not whole:
                continue
            if not row["value"]:
                continue
            quarters = int(row["qtrs"])
            if quarters <= 4:
                end, filed = (f"{each[:4]}-{each[4:6]}-{each[6:]}" for each in (row["ddate"], row["filed"]))
                value = str(int(float(row["value"])))
                yield row["symbol"], row["tag"], 3 * quarters, end, filed, row["form"], row["adsh"], value


def first_and_revised(rows: list[Row]) -> list[Row]:
    """Each number at its first filing, and again wherever a later filing changed it."""
    kept: list[Row] = []
    last: dict[tuple[str, str, int, str], str] = {}
    for row in sorted(set(rows), key=lambda row: (row[:4], row[4], row[6])):
        if last.get(row[:4]) != row[7]:
            last[row[:4]] = row[7]
            kept.append(row)
    return kept


def bundle(source: Path) -> bytes:
    """The bundled file's content; the same sources give the same bytes."""
    jsons = sorted(source.glob("companyfacts_*.json.gz"))
    rows = [row for path in jsons for row in company_facts(path)]
    known = {path.name.split("_")[1] for path in jsons} - set(INSTRUMENTS)
    rows += [row for path in sorted(source.glob("sec_fsds_*.csv.gz")) for row in statement_rows(path, known)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(first_and_revised(rows))
    return gzip.compress(text.getvalue().encode(), 9, mtime=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="folder with the SEC's files")
    content = bundle(parser.parse_args().source)
    BUNDLED.write_bytes(content)
    print(f"{BUNDLED}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
