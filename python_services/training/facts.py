"""The facts that models are trained on: those that ship with market_data, of the tags that the ratios read."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from python_services.kit.facts import CONCEPTS, CompanyFacts, read

BUNDLED = Path(__file__).parents[1] / "market_data" / "bundled" / "sec_facts.csv.gz"
# A tag that no ratio reads would still add filing days, and with them rows.
READ = (
    "assets",
    "assets_current",
    "liabilities",
    "liabilities_current",
    "equity",
    "net_income",
    "operating_income",
    "revenue",
    "gross_profit",
    "cost_of_revenue",
    "operating_cash_flow",
)


@cache
def bundled() -> CompanyFacts:
    """The facts that ship with the project, as far as the ratios read them."""
    return read(BUNDLED, {tag for concept in READ for tag in CONCEPTS[concept]})
