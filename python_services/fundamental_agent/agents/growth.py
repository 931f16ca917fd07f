"""Growth: revenue and profit against the same months a year before, next to the peers.

    revenue growth = log(revenue of the fiscal year to date / revenue of the same months a year before)
    profit growth  = (net income of these months - that of a year before) / assets
    z              = the mean of both, each in deviations over the companies of the snapshot, against the peers

The comparison with the year before takes out the season, and a filing has both side by side. Prices go on drifting in
the direction of such changes (Bernard and Thomas 1989; Chan, Jegadeesh and Lakonishok 1996; Novy-Marx 2015). What a
company can grow by from what it keeps is in the discounted cash flow, see `dcf`.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import Agent, Mask, Reason, Signal

from ..score import HORIZON, MINIMUM_BARS, against_peers, composite, signal
from ..view import Fundamentals

# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.03
NEEDS = ("revenue_now", "revenue_before", "net_income_now", "net_income_before", "assets")


def compute(view: Fundamentals, eligible: Mask) -> Signal:
    """See the module."""
    unable = view.accounts.unable(NEEDS, view.window.as_of_ns)
    for i in np.flatnonzero((view["revenue_now"] <= 0.0) | (view["revenue_before"] <= 0.0)):
        unable.setdefault(int(i), (Reason.NO_SIGNAL, "its revenue is not positive"))
    usable = view.usable(eligible, unable)
    revenue = np.log(view["revenue_now"] / view["revenue_before"])
    profit = (view["net_income_now"] - view["net_income_before"]) / view["assets"]
    z = against_peers(composite((revenue, profit), usable), usable, unable)
    return signal(
        view,
        INFORMATION_COEFFICIENT,
        z,
        unable,
        "it grows no faster or slower than its peers differ from each other",
        {"revenue_growth": revenue, "profit_growth_on_assets": profit, "peers_z": z},
    )


AGENT = Agent(
    agent_id="fundamental.growth",
    version="1.0.0",
    minimum_bars=MINIMUM_BARS,
    horizon_bars=HORIZON,
    description="Expects companies whose revenue and profit grow faster than their peers' to go on surprising.",
    compute=compute,
)
