"""Accounting ratios of a company at one moment, from the facts visible then, and the profitability that followed.

Everything is per dollar of assets at the balance sheet's day, so that one filing with last year's comparatives is
enough; flows cover the four quarters to that day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import date
from math import log

from python_services.kit.facts import YEAR, CompanyFacts, FactView, visible_from_ns

# Ratios further out than this say that something is odd with the filing rather than how good the company is.
BOUNDS = (-3.0, 3.0)
# A company files every quarter, the annual report within 90 days: an older balance sheet means a filing is missing.
OLDEST_NS = 200 * 86_400 * 10**9


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What the ratios read, dollars: four quarters to `end`, or the balance at `end`.

    now, before: the fiscal year to date and the same months a year earlier, which every filing has side by side.
    """

    end: date
    net_income: int
    revenue: int
    gross_profit: int
    operating_cash_flow: int
    assets: int
    liabilities: int
    assets_current: int
    liabilities_current: int
    income_now: int
    income_before: int
    revenue_now: int
    revenue_before: int


def statement(view: FactView, end: date) -> Statement | None:
    """The figures of the year to `end`, or None when the filings do not give one of them (banks, for example)."""
    assets, equity = view.balance("assets", end), view.balance("equity", end)
    liabilities = view.balance("liabilities", end)
    if liabilities is None and assets is not None and equity is not None:
        liabilities = assets - equity
    revenue, cost = view.trailing_year("revenue", end), view.trailing_year("cost_of_revenue", end)
    gross = view.trailing_year("gross_profit", end)
    if gross is None and revenue is not None and cost is not None:
        gross = revenue - cost
    figures = {
        "net_income": view.trailing_year("net_income", end),
        "revenue": revenue,
        "gross_profit": gross,
        "operating_cash_flow": view.trailing_year("operating_cash_flow", end),
        "assets": assets,
        "liabilities": liabilities,
        "assets_current": view.balance("assets_current", end),
        "liabilities_current": view.balance("liabilities_current", end),
    }
    income, sales = view.against_year_before("net_income", end), view.against_year_before("revenue", end)
    if income and sales and income[0] == sales[0]:
        figures |= {"income_now": income[1], "income_before": income[2]}
        figures |= {"revenue_now": sales[1], "revenue_before": sales[2]}
    known = {name: value for name, value in figures.items() if value is not None}
    positive = ("assets", "revenue", "revenue_now", "revenue_before", "assets_current", "liabilities_current")
    if len(known) < len(fields(Statement)) - 1 or any(known[name] <= 0 for name in positive):
        return None
    return Statement(end=end, **known)


RATIOS: dict[str, Callable[[Statement], float]] = {
    # Profit of the year on the assets that made it.
    "return_on_assets": lambda s: s.net_income / s.assets,
    # Novy-Marx 2013: profit before what accounting decides.
    "gross_profitability": lambda s: s.gross_profit / s.assets,
    # Sloan 1996: profit that is not yet cash tends to go away again.
    "accruals": lambda s: (s.net_income - s.operating_cash_flow) / s.assets,
    "net_margin": lambda s: s.net_income / s.revenue,
    "margin_change": lambda s: s.income_now / s.revenue_now - s.income_before / s.revenue_before,
    "revenue_growth": lambda s: log(s.revenue_now / s.revenue_before),
    "asset_turnover": lambda s: s.revenue / s.assets,
    "leverage": lambda s: s.liabilities / s.assets,
    "liquidity": lambda s: log(s.assets_current / s.liabilities_current),
}
FEATURES = tuple(RATIOS)


@dataclass(frozen=True, kw_only=True)
class RatioRow:
    """Ratios of one company in the order of FEATURES; `end` is the day of the balance sheet."""

    instrument_id: str
    end: date
    values: tuple[float, ...]


def ratios(instrument_id: str, view: FactView, end: date) -> RatioRow | None:
    """The ratios of the year to `end`, cut to BOUNDS; None when a figure is missing."""
    figures = statement(view, end)
    if figures is None:
        return None
    low, high = BOUNDS
    values = tuple(min(max(ratio(figures), low), high) for ratio in RATIOS.values())
    return RatioRow(instrument_id=instrument_id, end=end, values=values)


def newest_ratios(facts: CompanyFacts, instrument_id: str, moment_ns: int) -> RatioRow | None:
    """The ratios of the newest balance sheet visible at `moment_ns`; None when it is old or lacks a figure.

    Never those of an older balance sheet: an answer about last year would look like one about now.
    """
    view = facts.as_of(instrument_id, moment_ns)
    ends = view.period_ends()
    if not ends or visible_from_ns(ends[-1]) < moment_ns - OLDEST_NS:
        return None
    return ratios(instrument_id, view, ends[-1])


def following_return(view: FactView, end: date) -> float | None:
    """Net income of the four quarters after `end` on the assets of `end`; None while it is not known."""
    assets, income = view.balance("assets", end), view.trailing_year("net_income", end + YEAR)
    return income / assets if assets and income is not None else None
