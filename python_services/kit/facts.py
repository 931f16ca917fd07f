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
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
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

    @property
    def split_ratio(self) -> float:
        """See Number: a file knows of no splits."""
        return 1.0


class Number(NamedTuple):
    """What a table of a snapshot's facts says of a period.

    split_ratio: new shares for one old by splits between filing and snapshot: a number of shares was filed on the terms
        of its filing day (SEC SAB Topic 4.C), and a price is on those of its own.
    """

    value: int
    split_ratio: float


def visible_from_ns(filed: date) -> int:
    """Midnight UTC after the filing day."""
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
        known: dict[tuple[str, int], dict[date, Fact]] = {}
        for key, series in self._versions.get(instrument_id, {}).items():
            visible = {
                end: newest for end, versions in series.items() if (newest := _newest(versions, moment_ns)) is not None
            }
            if visible:
                known[key] = visible
        return FactView(known)


class FactView:
    """A company's facts at one moment: the newest version of each that was visible then."""

    def __init__(self, known: Mapping[tuple[str, int], Mapping[date, Fact | Number]]) -> None:
        self._known = known
        self._ends: dict[tuple[str, int], list[date]] = {}

    def period_ends(self) -> list[date]:
        """Days with a balance sheet, ascending."""
        return sorted(self._known.get(("Assets", 0), {}))

    def fact(self, tag: str, months: int, end: date) -> Fact | Number | None:
        """The fact of a tag whose period ends within ten days of `end`, or None."""
        key = (tag, months)
        series = self._known.get(key)
        if series is None:
            return None
        exact = series.get(end)
        if exact is not None:
            return exact
        if key not in self._ends:
            self._ends[key] = sorted(series)
        ends = self._ends[key]
        first = bisect_left(ends, end - TOLERANCE)
        near = ends[first : bisect_right(ends, end + TOLERANCE, lo=first)]
        return series[min(near, key=lambda each: (abs(each - end), each))] if near else None

    def balance_fact(self, concept: str, end: date) -> Fact | Number | None:
        """A balance, under the first name that the company used for it; None when it gave none."""
        return next((fact for tag in CONCEPTS[concept] if (fact := self.fact(tag, 0, end))), None)

    def balance(self, concept: str, end: date) -> int | None:
        """A balance in dollars, under the first name that the company used for it; None when it gave none."""
        return fact.value if (fact := self.balance_fact(concept, end)) else None

    def fiscal_year(self, concept: str, end: date) -> int | None:
        """A flow over the fiscal year that ends at `end`, in dollars; None when no filing gives it."""
        return next((fact.value for tag in CONCEPTS[concept] if (fact := self.fact(tag, 12, end))), None)

    def trailing_year(self, concept: str, end: date) -> int | None:
        """A flow over the four quarters to `end`, in dollars; None when the filings do not give it.

        The year itself if one ends there; else the last fiscal year, plus this year to date, less the same months of
        the year before; else four quarters.
        """
        for tag in CONCEPTS[concept]:
            for way in (self._whole_year, self._year_to_date, self._four_quarters):
                if (value := way(tag, end)) is not None:
                    return value
        return None

    def against_year_before(self, concept: str, end: date) -> tuple[int, int, int] | None:
        """(months, flow, same flow a year before) of the longest flow that ends at `end` and has its comparative."""
        for months in (12, 9, 6, 3):
            for tag in CONCEPTS[concept]:
                now, before = self.fact(tag, months, end), self.fact(tag, months, end - YEAR)
                if now and before:
                    return months, now.value, before.value
        return None

    def _whole_year(self, tag: str, end: date) -> int | None:
        return fact.value if (fact := self.fact(tag, 12, end)) else None

    def _year_to_date(self, tag: str, end: date) -> int | None:
        for months in (3, 6, 9):
            parts = [
                self.fact(tag, 12, end - timedelta(days=round(365.25 * months / 12))),
                self.fact(tag, months, end),
                self.fact(tag, months, end - YEAR),
            ]
            if all(parts):
                year, now, before = (fact.value for fact in parts if fact)
                return year + now - before
        return None

    def _four_quarters(self, tag: str, end: date) -> int | None:
        quarters = [self.fact(tag, 3, end - timedelta(days=round(91.3125 * back))) for back in range(4)]
        return sum(fact.value for fact in quarters if fact) if all(quarters) else None


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
