"""What the agents look at: the figures of all companies as columns, the price, and who cannot be spoken about."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property

import numpy as np

from python_services.kit.agents import Floats, Mask, Reason, Window
from python_services.kit.facts import visible_from_ns
from python_services.kit.facts_table import FactsTable

from .accounts import Company, company

DAY_NS = 86_400 * 10**9
# A company files every quarter, the annual report within 90 days: an older balance sheet means a filing is missing.
OLDEST_DAYS = 200
KEPT_COMPANIES, KEPT_ACCOUNTS = 8_192, 4
Unable = dict[int, tuple[Reason, str]]


@dataclass(frozen=True)
class Accounts:
    """Of the instruments of a snapshot, in its order; None for one that has filed no balance sheet."""

    companies: tuple[Company | None, ...]
    _columns: dict[str, Floats] = field(default_factory=dict, init=False, repr=False, compare=False)
    _missing: dict[tuple[str, ...], Unable] = field(default_factory=dict, init=False, repr=False, compare=False)

    def column(self, name: str) -> Floats:
        """A figure of every company, NaN where it is absent."""
        if name not in self._columns:
            values = (np.nan if each is None else each.figures.get(name, np.nan) for each in self.companies)
            self._columns[name] = np.fromiter(values, dtype=np.float64, count=len(self.companies))
        return self._columns[name]

    def age_days(self, as_of_ns: int) -> Floats:
        """Days since the newest balance sheet's day, NaN where there is none."""
        return as_of_ns / DAY_NS - self._end_days

    def unable(self, needed: tuple[str, ...], as_of_ns: int) -> Unable:
        """Instruments without one of the figures, or whose newest balance sheet is old, and why."""
        if needed not in self._missing:
            self._missing[needed] = dict(self._without(needed))
        found = dict(self._missing[needed])
        day = datetime.fromtimestamp(as_of_ns // 10**9, UTC).date()
        for i in np.flatnonzero(self.age_days(as_of_ns) > OLDEST_DAYS).tolist():
            found[i] = Reason.STALE_DATA, f"its newest balance sheet is of {self._ends[i]}, as_of is {day}"
        return found

    @cached_property
    def _ends(self) -> tuple[date | None, ...]:
        return tuple(None if each is None else each.end for each in self.companies)

    @cached_property
    def _end_days(self) -> Floats:
        days = [np.nan if end is None else visible_from_ns(end) / DAY_NS for end in self._ends]
        return np.array(days, dtype=np.float64)

    def _without(self, needed: tuple[str, ...]) -> Iterable[tuple[int, tuple[Reason, str]]]:
        for i, each in enumerate(self.companies):
            if each is None:
                yield i, (Reason.MISSING_DATA, "no balance sheet of it was filed, or none is held")
                continue
            absent = each.missing(needed)
            if absent:
                yield i, (Reason.MISSING_DATA, f"not in its filings: {', '.join(absent)}")


@dataclass(frozen=True)
class Fundamentals:
    """V of the agents. price: the last unadjusted close of each instrument, US dollars."""

    window: Window
    accounts: Accounts
    price: Floats

    def __getitem__(self, figure: str) -> Floats:
        """A figure of every company, see `accounts`; NaN where it is absent."""
        return self.accounts.column(figure)

    @property
    def market_value(self) -> Floats:
        """Price times shares outstanding, both on the terms of the price's day."""
        return self.price * self["shares"]

    def usable(self, eligible: Mask, unable: Mapping[int, object]) -> Mask:
        """Eligible instruments of which everything is known: who is compared with whom."""
        mask = eligible.copy()
        mask[list(unable)] = False
        return mask


class Keeper:
    """Makes accounts of facts: only of companies whose facts have changed, and only when something was filed."""

    def __init__(self) -> None:
        self._companies: OrderedDict[bytes, Company | None] = OrderedDict()
        self._accounts: OrderedDict[tuple[str, tuple[str, ...]], Accounts] = OrderedDict()

    def accounts(self, table: FactsTable | None, instrument_ids: tuple[str, ...]) -> Accounts:
        """The accounts of the instruments of a snapshot."""
        key = "" if table is None else table.sha256, instrument_ids
        found = self._accounts.get(key)
        if found is None:
            companies = (None if table is None else self._company(table, i) for i in range(len(instrument_ids)))
            found = self._accounts[key] = Accounts(tuple(companies))
        self._accounts.move_to_end(key)
        while len(self._accounts) > KEPT_ACCOUNTS:
            self._accounts.popitem(last=False)
        return found

    def _company(self, table: FactsTable, index: int) -> Company | None:
        rows = table.rows(index)
        if rows.start == rows.stop:
            return None
        print_ = table.fingerprint(index)
        if print_ not in self._companies:
            self._companies[print_] = company(table.view(index))
        self._companies.move_to_end(print_)
        while len(self._companies) > KEPT_COMPANIES:
            self._companies.popitem(last=False)
        return self._companies[print_]
