"""The figures that agents read, of one company, from the facts that were visible. What no filing gives is absent.

A figure's ending says of when it is:

    (none)         the balance at the newest balance sheet
    _year          the flow of the four quarters up to it
    _now, _before  the flow of the fiscal year to date, and of the same months a year earlier
    _fy            of the newest fiscal year with an annual report, or the balance at its end
    _fy1, _fy2     the same one and two years earlier
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from python_services.kit.facts import CONCEPTS, YEAR, FactView

_ENDINGS = {
    "_year": " of the four quarters to {end}",
    "_now": " of the fiscal year to {end} with its comparative",
    "_before": " of the fiscal year to {end} with its comparative",
    "_fy": " of the fiscal year to {year}",
    "_fy1": " of the fiscal year before {year}",
    "_fy2": " two fiscal years before {year}",
}


_YEARS = ("revenue", "net_income", "operating_cash_flow", "capital_expenditure", "gross_profit", "operating_income")
_BALANCES = ("assets", "equity", "retained_earnings")
_STATEMENTS = (
    *(*_BALANCES, "assets_current", "liabilities_current", "net_income", "revenue", "operating_cash_flow"),
    *("shares", "gross_profit", "long_term_debt"),
)
FIGURES = (
    *(*_BALANCES, "assets_current", "liabilities_current", "liabilities", "shares"),
    *(f"{name}_year" for name in _YEARS),
    *(f"{name}{ending}" for name in ("net_income", "revenue") for ending in ("_now", "_before")),
    *(f"{name}{ending}" for name in _STATEMENTS for ending in ("_fy", "_fy1")),
    *(f"{name}_fy2" for name in _BALANCES),
)


@dataclass(frozen=True, kw_only=True)
class Company:
    """end: day of the newest balance sheet. fiscal_year: end of the newest fiscal year.

    figures: dollars, or shares, by a name of FIGURES.
    """

    end: date
    fiscal_year: date | None
    figures: Mapping[str, float]

    def missing(self, needed: Iterable[str]) -> list[str]:
        """Those of the figures that no filing gives, in words."""
        found: dict[str, None] = {}
        for figure in needed:
            if figure not in self.figures:
                found.setdefault(self._describe(figure))
        return list(found)

    def _describe(self, figure: str) -> str:
        for ending, words in _ENDINGS.items():
            if figure.endswith(ending):
                if "{year}" in words and self.fiscal_year is None:
                    return f"the figures of a fiscal year that ended by {self.end}"
                text = figure.removesuffix(ending).replace("_", " ")
                return text + words.format(end=self.end, year=self.fiscal_year)
        return f"{figure.replace('_', ' ')} at {self.end}"


def company(view: FactView) -> Company | None:
    """What is known of a company; None before its first balance sheet."""
    ends = view.period_ends()
    if not ends:
        return None
    end = ends[-1]
    year = next((each for each in reversed(ends) if view.fiscal_year("net_income", each) is not None), None)
    found: dict[str, float | None] = {
        **_balance_sheet(view, end),
        **{f"{name}_year": view.trailing_year(name, end) for name in ("revenue", "net_income", "operating_cash_flow")},
        "capital_expenditure_year": view.trailing_year("capital_expenditure", end),
        "gross_profit_year": _gross_profit(view, end),
        "operating_income_year": _operating_income(view, end),
        **_comparatives(view, end),
    }
    if year is not None:
        found |= _fiscal_years(view, year)
    figures = {name: float(value) for name, value in found.items() if value is not None}
    return Company(end=end, fiscal_year=year, figures=figures)


def _balance_sheet(view: FactView, end: date) -> dict[str, float | None]:
    names = (*_BALANCES, "assets_current", "liabilities_current")
    found: dict[str, float | None] = {name: view.balance(name, end) for name in names}
    assets, equity, liabilities = found["assets"], found["equity"], view.balance("liabilities", end)
    if liabilities is None and assets is not None and equity is not None:
        found["liabilities"] = assets - equity
    else:
        found["liabilities"] = liabilities
    return {**found, "shares": shares(view, end)}


def shares(view: FactView, end: date) -> float | None:
    """Shares outstanding, on the terms of the snapshot's mark: as filed, times the splits since the filing."""
    outstanding = view.balance_fact("shares_outstanding", end)
    if outstanding is not None:
        return outstanding.value * outstanding.split_ratio
    issued, held = view.balance_fact("shares_issued", end), view.balance_fact("treasury_shares", end)
    if issued is None or held is None:
        return None
    return issued.value * issued.split_ratio - abs(held.value) * held.split_ratio


def _gross_profit(view: FactView, end: date) -> float | None:
    gross = view.trailing_year("gross_profit", end)
    if gross is None:
        revenue, cost = view.trailing_year("revenue", end), view.trailing_year("cost_of_revenue", end)
        return None if revenue is None or cost is None else revenue - cost
    return gross


def _operating_income(view: FactView, end: date) -> float | None:
    """Earnings before interest and taxes."""
    income = view.trailing_year("operating_income", end)
    if income is None:
        before_tax, interest = view.trailing_year("pretax_income", end), view.trailing_year("interest_expense", end)
        return None if before_tax is None or interest is None else before_tax + interest
    return income


def _comparatives(view: FactView, end: date) -> dict[str, float | None]:
    income, revenue = view.against_year_before("net_income", end), view.against_year_before("revenue", end)
    if not income or not revenue or income[0] != revenue[0]:
        return {}
    return {
        "net_income_now": income[1],
        "net_income_before": income[2],
        "revenue_now": revenue[1],
        "revenue_before": revenue[2],
    }


def _fiscal_years(view: FactView, year: date) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for back, ending in enumerate(("_fy", "_fy1", "_fy2")):
        end = year - back * YEAR
        found |= {f"{name}{ending}": view.balance(name, end) for name in _BALANCES}
        if back == 2:
            break
        for name in ("assets_current", "liabilities_current"):
            found[name + ending] = view.balance(name, end)
        for name in ("net_income", "revenue", "operating_cash_flow"):
            found[name + ending] = view.fiscal_year(name, end)
        found[f"shares{ending}"] = shares(view, end)
        gross, cost = view.fiscal_year("gross_profit", end), view.fiscal_year("cost_of_revenue", end)
        sales = found[f"revenue{ending}"]
        if gross is None and cost is not None and sales is not None:
            gross = int(sales) - cost
        found[f"gross_profit{ending}"] = gross
    # A change of debt is one only between numbers of the same name.
    for tag in CONCEPTS["long_term_debt"]:
        now, before = view.fact(tag, 0, year), view.fact(tag, 0, year - YEAR)
        if now and before:
            found |= {"long_term_debt_fy": now.value, "long_term_debt_fy1": before.value}
            break
    return found
