"""Company facts as they were known: what a company had filed by a moment, revisions included.

A fact is a number of a filing: net income of the twelve months to 2009-09-26, say. It is visible from the end of its
filing day (midnight UTC after it, later than any filing of that day is accepted). A later filing may change the number
of an old period; `as_of` gives what stood at that moment, never what came after.

market_data holds them and answers GetFacts; `facts_table` carries them. docs/data.md tells what a file must look like.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from .config import ConfigError

COLUMNS = ("instrument_id", "tag", "months", "end", "filed", "form", "accession", "value")
# What companies call the same thing, in order of preference.
CONCEPTS: dict[str, tuple[str, ...]] = {
    "assets": ("Assets",),
    "assets_current": ("AssetsCurrent",),
    "liabilities": ("Liabilities",),
    "liabilities_current": ("LiabilitiesCurrent",),
    "equity": ("StockholdersEquity", "StockholdersEquityIncludingPortionAttributableToNoncontrollingInterest"),
    "net_income": ("NetIncomeLoss", "ProfitLoss"),
    "operating_income": ("OperatingIncomeLoss",),
    "revenue": ("RevenueFromContractWithCustomerExcludingAssessedTax", "SalesRevenueNet", "Revenues"),
    "gross_profit": ("GrossProfit",),
    "cost_of_revenue": ("CostOfRevenue", "CostOfGoodsAndServicesSold", "CostOfGoodsSold"),
    "operating_cash_flow": (
        "NetCashProvidedByUsedInOperatingActivities",
        "NetCashProvidedByUsedInOperatingActivitiesContinuingOperations",
    ),
    "pretax_income": (
        "IncomeLossFromContinuingOperationsBeforeIncomeTaxesMinorityInterestAndIncomeLossFromEquityMethodInvestments",
        "IncomeLossFromContinuingOperationsBeforeIncomeTaxesExtraordinaryItemsNoncontrollingInterest",
    ),
    "interest_expense": ("InterestExpense",),
    "capital_expenditure": ("PaymentsToAcquirePropertyPlantAndEquipment", "PaymentsToAcquireProductiveAssets"),
    "retained_earnings": ("RetainedEarningsAccumulatedDeficit",),
    "long_term_debt": ("LongTermDebtNoncurrent", "LongTermDebtAndCapitalLeaseObligations", "LongTermDebt"),
    "shares_outstanding": ("CommonStockSharesOutstanding",),
    "shares_issued": ("CommonStockSharesIssued",),
    "treasury_shares": ("TreasuryStockShares", "TreasuryStockCommonShares"),
}
TAGS = tuple(tag for tags in CONCEPTS.values() for tag in tags)
MONTHS = (0, 3, 6, 9, 12)
CURRENCY = "USD"
# Fiscal years of 52 or 53 weeks end on a weekday, so "a year earlier" is a date give or take some days.
TOLERANCE = timedelta(days=10)
YEAR = timedelta(days=365)
_LARGEST = 2**63 - 1
_FAR = 2**31


class FactsError(ConfigError):
    """Facts that cannot be used; the message names file, line and remedy."""


class Fact(NamedTuple):
    """One number of one filing.

    months: 0 for a balance at `end`, else the length of the flow that ends there: 3, 6, 9 or 12.
    value: US dollars, or shares.
    known_at_ns: visible from this moment, Unix nanoseconds UTC.
    """

    instrument_id: str
    tag: str
    months: int
    end: date
    value: int
    known_at_ns: int
    form: str
    accession: str


class Number(NamedTuple):
    """What a view says of a period.

    split_ratio: new shares for one old by splits since the filing, where the view knows of them: a number of shares was
        filed on the terms of its filing day (SEC SAB Topic 4.C), and a price is on those of its own.
    """

    value: int
    split_ratio: float


@lru_cache(maxsize=16_384)
def visible_from_ns(filed: date) -> int:
    """Midnight UTC after the filing day. Kept: a file has hundreds of thousands of numbers, of a few thousand days."""
    return int(datetime(filed.year, filed.month, filed.day, tzinfo=UTC).timestamp() + 86_400) * 10**9


class CompanyFacts:
    """Every fact of some companies, filings in order; ask `as_of` for what was known."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self._versions: dict[str, dict[tuple[str, int], dict[date, list[Fact]]]] = {}
        for fact in sorted(facts, key=lambda each: (each.known_at_ns, each.accession)):
            series = self._versions.setdefault(fact.instrument_id, {}).setdefault((fact.tag, fact.months), {})
            series.setdefault(fact.end, []).append(fact)

    @property
    def instrument_ids(self) -> tuple[str, ...]:
        """Companies with facts, in alphabetical order."""
        return tuple(sorted(self._versions))

    def filing_times(self, instrument_id: str) -> list[int]:
        """The moments at which something of this company became visible, ascending, ns."""
        return sorted(
            {
                fact.known_at_ns
                for series in self._versions.get(instrument_id, {}).values()
                for versions in series.values()
                for fact in versions
            }
        )

    def as_of(self, instrument_id: str, moment_ns: int) -> FactView:
        """What was visible of a company at `moment_ns`. An unknown company has an empty view."""
        series: dict[tuple[str, int], tuple[int, int]] = {}
        ends: list[int] = []
        values: list[int] = []
        for key, by_end in self._versions.get(instrument_id, {}).items():
            first = len(ends)
            for end in sorted(by_end):
                if (newest := _newest(by_end[end], moment_ns)) is not None:
                    ends.append(end.toordinal())
                    values.append(newest.value)
            if len(ends) > first:
                series[key] = first, len(ends)
        return FactView(series, ends, values, [1.0] * len(ends))


class FactView:
    """A company's facts at one moment: the newest version of each that was visible then.

    series: of a tag and a number of months the first of its numbers, and the one after its last. ends: last days of the
    periods, ordinals, ascending in a series. values, split_ratios: see Number.
    """

    def __init__(
        self,
        series: Mapping[tuple[str, int], tuple[int, int]],
        ends: Sequence[int],
        values: Sequence[int],
        split_ratios: Sequence[float],
    ) -> None:
        self._series = series
        self._ends = ends
        self._values = values
        self._split_ratios = split_ratios

    def period_ends(self) -> list[date]:
        """Days with a balance sheet, ascending."""
        return [date.fromordinal(end) for end in self._ends[slice(*self._series.get(("Assets", 0), (0, 0)))]]

    def fact(self, tag: str, months: int, end: date) -> Number | None:
        """The number of a tag whose period ends within ten days of `end`, or None."""
        at = self._find(tag, months, end.toordinal())
        return None if at is None else Number(self._values[at], self._split_ratios[at])

    def balance_fact(self, concept: str, end: date) -> Number | None:
        """A balance, under the first name that the company used for it; None when it gave none."""
        return next((fact for tag in CONCEPTS[concept] if (fact := self.fact(tag, 0, end))), None)

    def balance(self, concept: str, end: date) -> int | None:
        """A balance in dollars, under the first name that the company used for it; None when it gave none."""
        return self._first(concept, 0, end.toordinal())

    def fiscal_year(self, concept: str, end: date) -> int | None:
        """A flow over the fiscal year that ends at `end`, in dollars; None when no filing gives it."""
        return self._first(concept, 12, end.toordinal())

    def trailing_year(self, concept: str, end: date) -> int | None:
        """A flow over the four quarters to `end`, in dollars; None when the filings do not give it.

        The year itself if one ends there; else the last fiscal year, plus this year to date, less the same months of
        the year before; else four quarters.
        """
        day = end.toordinal()
        for tag in CONCEPTS[concept]:
            for way in (self._whole_year, self._year_to_date, self._four_quarters):
                if (value := way(tag, day)) is not None:
                    return value
        return None

    def against_year_before(self, concept: str, end: date) -> tuple[int, int, int] | None:
        """(months, flow, same flow a year before) of the longest flow that ends at `end` and has its comparative."""
        day = end.toordinal()
        for months in (12, 9, 6, 3):
            for tag in CONCEPTS[concept]:
                now, before = self._value(tag, months, day), self._value(tag, months, day - YEAR.days)
                if now is not None and before is not None:
                    return months, now, before
        return None

    def _find(self, tag: str, months: int, end: int) -> int | None:
        """Where the number of the period is whose end is nearest, of two the earlier; None beyond TOLERANCE."""
        span = self._series.get((tag, months))
        if span is None:
            return None
        first, last = span
        after = bisect_left(self._ends, end, first, last)
        late = self._ends[after] - end if after < last else _FAR
        early = end - self._ends[after - 1] if after > first else _FAR
        at, off = (after, late) if late < early else (after - 1, early)
        return at if off <= TOLERANCE.days else None

    def _value(self, tag: str, months: int, end: int) -> int | None:
        at = self._find(tag, months, end)
        return None if at is None else self._values[at]

    def _first(self, concept: str, months: int, end: int) -> int | None:
        for tag in CONCEPTS[concept]:
            if (value := self._value(tag, months, end)) is not None:
                return value
        return None

    def _whole_year(self, tag: str, end: int) -> int | None:
        return self._value(tag, 12, end)

    def _year_to_date(self, tag: str, end: int) -> int | None:
        for months in (3, 6, 9):
            now, before = self._value(tag, months, end), self._value(tag, months, end - YEAR.days)
            if now is not None and before is not None:
                year = self._value(tag, 12, end - round(365.25 * months / 12))
                if year is not None:
                    return year + now - before
        return None

    def _four_quarters(self, tag: str, end: int) -> int | None:
        quarters = [self._value(tag, 3, end - round(91.3125 * back)) for back in range(4)]
        known = [value for value in quarters if value is not None]
        return sum(known) if len(known) == len(quarters) else None


def read(path: Path, tags: Container[str] | None = None) -> CompanyFacts:
    """Facts of a file with COLUMNS, only of some tags when they are named. Raises FactsError."""
    return CompanyFacts(fact for fact in parse(read_bytes(path), str(path)) if tags is None or fact.tag in tags)


def read_bytes(path: Path) -> bytes:
    """Content of a .csv or .csv.gz file, unpacked. Raises FactsError."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise FactsError(f"{path}: cannot be read: {error}; give a .csv or .csv.gz file of facts") from error


def parse(content: bytes, where: str) -> list[Fact]:
    """Facts of a CSV file with COLUMNS. Raises FactsError naming file, line and remedy."""
    try:
        rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
    except UnicodeDecodeError as error:
        raise FactsError(f"{where}: not UTF-8: {error.reason}; store it as UTF-8") from error
    header = next(rows, [])
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise FactsError(f"{where}, line 1: no column {missing[0]}; the columns are {', '.join(COLUMNS)}")
    place = [header.index(name) for name in COLUMNS]
    found: list[Fact] = []
    seen: dict[tuple[object, ...], int] = {}
    for row in rows:
        line = rows.line_num
        try:
            fact = _fact([row[i] for i in place])
        except (IndexError, ValueError) as error:
            problem = "too few columns" if isinstance(error, IndexError) else str(error)
            raise FactsError(f"{where}, line {line}: {problem}; docs/data.md says what each column holds") from error
        key = (fact.instrument_id, fact.tag, fact.months, fact.end, fact.known_at_ns, fact.accession)
        if key in seen:
            raise FactsError(f"{where}, line {line}: the number of line {seen[key]} once more; keep one of them")
        seen[key] = line
        found.append(fact)
    if not found:
        raise FactsError(f"{where}: no facts; add rows, or leave the file out of the configuration")
    return found


def _newest(versions: list[Fact], moment_ns: int) -> Fact | None:
    """The last of some versions, in the order of their filing, that was visible; mostly there is one."""
    return next((fact for fact in reversed(versions) if fact.known_at_ns <= moment_ns), None)


def _fact(columns: list[str]) -> Fact:
    instrument_id, tag, months, end, filed, form, accession, value = columns
    if not instrument_id or not tag:
        raise ValueError("instrument_id and tag cannot be empty")
    if int(months) not in MONTHS:
        raise ValueError(f"months is {months}, not 0, 3, 6, 9 or 12")
    number = int(value)
    if abs(number) > _LARGEST:
        raise ValueError(f"value {value} is beyond 64 bits")
    last, day = date.fromisoformat(end), date.fromisoformat(filed)
    if day < last:
        raise ValueError(f"filed {filed}, before the period ends, {end}")
    return Fact(
        instrument_id=instrument_id,
        tag=tag,
        months=int(months),
        end=last,
        value=number,
        known_at_ns=visible_from_ns(day),
        form=form,
        accession=accession,
    )
