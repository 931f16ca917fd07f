"""Balance sheet strength by the nine signals of Piotroski 2000. Each is 1 or 0, the F-score is their sum.

    profitability   return on assets ROA = net income / assets at the beginning of the year is positive
                    cash from operations CFO, on the same assets, is positive
                    ROA rose
                    CFO > net income
    leverage        long-term debt / mean of the year's assets fell
    liquidity       current assets / current liabilities rose
    source of funds no shares were issued: no more are outstanding than a year before, splits apart
    efficiency      gross margin rose
                    asset turnover, revenue / assets at the beginning of the year, rose

    z = (F - 4.5) / 1.5: mean and deviation of nine tosses of a coin

So |z| >= 1 means six and more, or three and less; Piotroski's strong (8, 9) and weak (0, 1) companies are those beyond
two deviations. The newest fiscal year is compared with the one before, whose ratios need the assets of three year ends:
a company's first annual report in machine-readable form has two. Piotroski asks whether the company raised equity; with
shares outstanding, what was issued to employees and bought back in the same year counts as not issued.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import Agent, Floats, Mask, Reason, Signal

from ..score import HORIZON, MINIMUM_BARS, signal
from ..view import Fundamentals

# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.03
NEEDS = (
    *("net_income_fy", "net_income_fy1", "operating_cash_flow_fy", "assets_fy", "assets_fy1", "assets_fy2"),
    *("long_term_debt_fy", "long_term_debt_fy1", "assets_current_fy", "assets_current_fy1"),
    *("liabilities_current_fy", "liabilities_current_fy1", "shares_fy", "shares_fy1"),
    *("gross_profit_fy", "gross_profit_fy1", "revenue_fy", "revenue_fy1"),
)
_POSITIVE = ("assets_fy", "assets_fy1", "assets_fy2", "liabilities_current_fy", "liabilities_current_fy1")


def signals(view: Fundamentals) -> dict[str, Floats]:
    """The nine, as 1.0 and 0.0; only where all figures are known do they mean anything."""
    assets, opening, before = view["assets_fy"], view["assets_fy1"], view["assets_fy2"]
    income, cash = view["net_income_fy"], view["operating_cash_flow_fy"]
    debt = view["long_term_debt_fy"] / ((assets + opening) / 2.0)
    debt_before = view["long_term_debt_fy1"] / ((opening + before) / 2.0)
    liquidity = view["assets_current_fy"] / view["liabilities_current_fy"]
    liquidity_before = view["assets_current_fy1"] / view["liabilities_current_fy1"]
    margin = view["gross_profit_fy"] / view["revenue_fy"]
    margin_before = view["gross_profit_fy1"] / view["revenue_fy1"]
    tests = {
        "profit_positive": income > 0.0,
        "cash_flow_positive": cash > 0.0,
        "return_on_assets_rose": income / opening > view["net_income_fy1"] / before,
        "cash_flow_above_profit": cash > income,
        "leverage_fell": debt < debt_before,
        "liquidity_rose": liquidity > liquidity_before,
        "no_shares_issued": view["shares_fy"] <= view["shares_fy1"],
        "gross_margin_rose": margin > margin_before,
        "asset_turnover_rose": view["revenue_fy"] / opening > view["revenue_fy1"] / before,
    }
    return {name: passed.astype(np.float64) for name, passed in tests.items()}


def compute(view: Fundamentals, eligible: Mask) -> Signal:
    """See the module."""
    unable = view.accounts.unable(NEEDS, view.window.as_of_ns)
    positive = np.logical_and.reduce([view[name] > 0.0 for name in (*_POSITIVE, "revenue_fy", "revenue_fy1")])
    for i in np.flatnonzero(~positive).tolist():
        unable.setdefault(i, (Reason.NO_SIGNAL, "its revenue, assets or current liabilities are not positive"))
    found = signals(view)
    score = np.sum(list(found.values()), axis=0)
    unclear = "between four and five of the nine signals, as chance has it"
    return signal(view, INFORMATION_COEFFICIENT, (score - 4.5) / 1.5, unable, unclear, {"f_score": score, **found})


AGENT = Agent(
    agent_id="fundamental.piotroski",
    version="1.0.0",
    minimum_bars=MINIMUM_BARS,
    horizon_bars=HORIZON,
    description="Expects companies whose accounts got better in most of Piotroski's nine ways to do better.",
    compute=compute,
)
