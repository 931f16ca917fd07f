"""Quality: what a company earns on what it has, against its peers.

    gross profitability = (revenue - cost of revenue) / assets      Novy-Marx 2013
    return on assets    = net income / assets
    return on equity    = net income / equity
    margin change       = |net margin of the year to date - that of the same months a year before|
    z                   = the mean of the four, each in deviations over the companies of the snapshot, the last one
                          turned round, against that of the peers

Flows are those of the last four quarters. Profitable companies have earned more than their price let expect (Novy-Marx
2013; Fama and French 2015, RMW); steady ones too (Asness, Frazzini and Pedersen 2019, quality minus junk).
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import Agent, Mask, Reason, Signal

from ..score import HORIZON, MINIMUM_BARS, against_peers, composite, signal
from ..view import Fundamentals

# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.02
NEEDS = (
    *("gross_profit_year", "net_income_year", "assets", "equity"),
    *("net_income_now", "net_income_before", "revenue_now", "revenue_before"),
)


def compute(view: Fundamentals, eligible: Mask) -> Signal:
    """See the module."""
    unable = view.accounts.unable(NEEDS, view.window.as_of_ns)
    for i in np.flatnonzero((view["equity"] <= 0.0) | (view["revenue_now"] <= 0.0) | (view["revenue_before"] <= 0.0)):
        unable.setdefault(int(i), (Reason.NO_SIGNAL, "its equity or its revenue is not positive"))
    usable = view.usable(eligible, unable)
    gross, on_assets = view["gross_profit_year"] / view["assets"], view["net_income_year"] / view["assets"]
    on_equity = view["net_income_year"] / view["equity"]
    change = view["net_income_now"] / view["revenue_now"] - view["net_income_before"] / view["revenue_before"]
    z = against_peers(composite((gross, on_assets, on_equity, -np.abs(change)), usable), usable, unable)
    return signal(
        view,
        INFORMATION_COEFFICIENT,
        z,
        unable,
        "its profitability is no further from that of its peers than theirs are from each other",
        {
            "gross_profitability": gross,
            "return_on_assets": on_assets,
            "return_on_equity": on_equity,
            "margin_change": change,
            "peers_z": z,
        },
    )


AGENT = Agent(
    agent_id="fundamental.quality",
    version="1.0.0",
    minimum_bars=MINIMUM_BARS,
    horizon_bars=HORIZON,
    description="Expects companies that earn more on their assets, and steadily, to do better than their peers.",
    compute=compute,
)
