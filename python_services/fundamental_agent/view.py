"""What the agents look at: the figures of all companies as columns, the price, and who cannot be spoken about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from python_services.kit.agents import Floats, Mask, Reason, Window
from python_services.kit.facts import visible_from_ns
from python_services.kit.facts_table import Companies

from .accounts import FIGURES, Company

DAY_NS = 86_400 * 10**9
# A company files every quarter, the annual report within 90 days: an older balance sheet means a filing is missing.
OLDEST_DAYS = 200
Unable = dict[int, tuple[Reason, str]]
_UNKNOWN = Reason.MISSING_DATA, "no balance sheet of it was filed, or none is held"
_ROWS = {name: row for row, name in enumerate(FIGURES)}


class Accounts:
    """Of the instruments of a snapshot, in its order; None for one that has filed no balance sheet.

    `like`: other accounts of as many instruments, mostly of the same companies; only what differs is read.
    """

    def __init__(self, companies: tuple[Company | None, ...], like: Accounts | None = None) -> None:
        self.companies = companies
        self._missing: dict[tuple[str, ...], Unable] = {}
        if like is None or len(like.companies) != len(companies):
            like, other = None, list(range(len(companies)))
            self._figures = np.empty((len(FIGURES), len(companies)))
            self._end_days = np.empty(len(companies))
        else:
            pairs = zip(companies, like.companies, strict=True)
            other = [i for i, (now, before) in enumerate(pairs) if now is not before]
            self._figures, self._end_days = like._figures.copy(), like._end_days.copy()
        self._figures[:, other] = np.nan
        self._end_days[other] = np.nan
        for i in other:
            company = companies[i]
            if company is not None:
                self._figures[[_ROWS[name] for name in company.figures], i] = list(company.figures.values())
                self._end_days[i] = visible_from_ns(company.end) / DAY_NS

    def column(self, name: str) -> Floats:
        """A figure of every company, NaN where it is absent."""
        return self._figures[_ROWS[name]]

    def age_days(self, as_of_ns: int) -> Floats:
        """Days since the newest balance sheet's day, NaN where there is none."""
        return as_of_ns / DAY_NS - self._end_days

    def unable(self, needed: tuple[str, ...], as_of_ns: int) -> Unable:
        """Instruments without one of the figures, or whose newest balance sheet is old, and why."""
        if needed not in self._missing:
            self._missing[needed] = self._without(needed)
        found = dict(self._missing[needed])
        old = np.flatnonzero(self.age_days(as_of_ns) > OLDEST_DAYS).tolist()
        for i in old:
            day = datetime.fromtimestamp(as_of_ns // 10**9, UTC).date()
            company = self.companies[i]
            assert company is not None  # it has an age
            found[i] = Reason.STALE_DATA, f"its newest balance sheet is of {company.end}, as_of is {day}"
        return found

    def _without(self, needed: tuple[str, ...]) -> Unable:
        incomplete = np.isnan(self._figures[[_ROWS[name] for name in needed]]).any(axis=0)
        found: Unable = {}
        for i in np.flatnonzero(incomplete).tolist():
            company = self.companies[i]
            if company is None:
                found[i] = _UNKNOWN
            else:
                found[i] = Reason.MISSING_DATA, f"not in its filings: {', '.join(company.missing(needed))}"
        return found


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
    """Accounts of the last snapshot, from which those of the next are made: mostly a few companies have filed."""

    def __init__(self) -> None:
        self._newest = "", Accounts(())

    def accounts(self, found: Companies[Company | None] | None, instruments: int) -> Accounts:
        """The accounts of the instruments of a snapshot."""
        sha256, accounts = self._newest
        if found is None:
            return Accounts((None,) * instruments)
        if sha256 != found.sha256:
            accounts = Accounts(found.read, accounts)
            self._newest = found.sha256, accounts
        return accounts
