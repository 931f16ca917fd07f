"""Company facts as they were known: what a company had filed by a moment, revisions included.

A fact is a number of a filing: net income of the twelve months to 2009-09-26, say. It is visible from the end of its
filing day (midnight UTC after it, later than any filing of that day is accepted). A later filing may change the number
of an old period; `as_of` gives what stood at that moment, never what came after.

Source: the SEC's company facts and financial statement data sets, public domain; see bundled/DATA.md.
"""

from __future__ import annotations

import csv
import gzip
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled" / "sec_facts.csv.gz"
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
}
TAGS = tuple(tag for tags in CONCEPTS.values() for tag in tags)
# Fiscal years of 52 or 53 weeks end on a weekday, so "a year earlier" is a date give or take some days.
TOLERANCE = timedelta(days=10)
YEAR = timedelta(days=365)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One number of one filing.

    months: 0 for a balance at `end`, else the length of the flow that ends there: 3, 6, 9 or 12.
    value: US dollars.
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

    def __init__(self, known: dict[tuple[str, int], dict[date, Fact]]) -> None:
        self._known = known
        self._ends: dict[tuple[str, int], list[date]] = {}

    def period_ends(self) -> list[date]:
        """Days with a balance sheet, ascending."""
        return sorted(self._known.get(("Assets", 0), {}))

    def fact(self, tag: str, months: int, end: date) -> Fact | None:
        """The fact of a tag whose period ends within ten days of `end`, or None."""
        key = (tag, months)
        series = self._known.get(key)
        if series is None:
            return None
        if key not in self._ends:
            self._ends[key] = sorted(series)
        ends = self._ends[key]
        first = bisect_left(ends, end - TOLERANCE)
        near = ends[first : bisect_right(ends, end + TOLERANCE, lo=first)]
        return series[min(near, key=lambda each: (abs(each - end), each))] if near else None

    def balance(self, concept: str, end: date) -> int | None:
        """A balance in dollars, under the first name that the company used for it; None when it gave none."""
        return next((fact.value for tag in CONCEPTS[concept] if (fact := self.fact(tag, 0, end))), None)

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


def read(path: Path) -> CompanyFacts:
    """Facts of a file with the columns that `facts_bundle` writes. Raises ValueError naming a row that is wrong."""
    facts = []
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                facts.append(_fact(row))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: {error}; columns are those of bundled/DATA.md") from None
    return CompanyFacts(facts)


@cache
def bundled() -> CompanyFacts:
    """The facts that ship with the project."""
    return read(BUNDLED)


def _newest(versions: list[Fact], moment_ns: int) -> Fact | None:
    """The last of some versions, in the order of their filing, that was visible; mostly there is one."""
    return next((fact for fact in reversed(versions) if fact.known_at_ns <= moment_ns), None)


def _fact(row: dict[str, str]) -> Fact:
    return Fact(
        instrument_id=row["instrument_id"],
        tag=row["tag"],
        months=int(row["months"]),
        end=date.fromisoformat(row["end"]),
        value=int(row["value"]),
        known_at_ns=visible_from_ns(date.fromisoformat(row["filed"])),
        form=row["form"],
        accession=row["accession"],
    )
