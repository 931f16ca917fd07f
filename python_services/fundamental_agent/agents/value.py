"""Value: what is paid for a company's earnings, book and sales, against its peers.

    earnings yield = net income / market value      Basu 1977
    book to market = equity / market value          Fama and French 1992
    sales to price = revenue / market value         Barbee, Mukherji and Raines 1996
    z              = the mean of the three, each in deviations over the companies of the snapshot, against the peers

Flows are those of the last four quarters. Yields, not multiples: a loss has a yield, and the mean of yields is one.
Market value is the unadjusted mark times the shares outstanding that were filed, which are brought to the terms of the
mark when a share was split since. Enterprise value is not used: what companies owe is tagged in too many ways, and a
company that tags no debt may have none or a name of its own for it.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import Agent, Mask, Reason, Signal

from ..score import HORIZON, MINIMUM_BARS, against_peers, composite, signal
from ..view import Fundamentals

# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.03
NEEDS = ("net_income_year", "revenue_year", "equity", "shares")


def compute(view: Fundamentals, eligible: Mask) -> Signal:
    """See the module."""
    unable = view.accounts.unable(NEEDS, view.window.as_of_ns)
    for i in np.flatnonzero(view["equity"] <= 0.0):
        unable.setdefault(int(i), (Reason.NO_SIGNAL, "its equity is not positive, so book to market says nothing"))
    usable = view.usable(eligible, unable)
    market = view.market_value
    earnings, book, sales = (view[name] / market for name in ("net_income_year", "equity", "revenue_year"))
    z = against_peers(composite((earnings, book, sales), usable), usable, unable)
    return signal(
        view,
        INFORMATION_COEFFICIENT,
        z,
        unable,
        "its price is no further from that of its peers than theirs are from each other",
        {
            "earnings_yield": earnings,
            "book_to_market": book,
            "sales_to_price": sales,
            "market_value_usd": market,
            "peers_z": z,
        },
    )


AGENT = Agent(
    agent_id="fundamental.value",
    version="1.0.0",
    minimum_bars=MINIMUM_BARS,
    horizon_bars=HORIZON,
    description="Expects companies that are cheap for their earnings, book and sales to do better than their peers.",
    compute=compute,
)
