"""Accruals: profit that is not cash yet tends to go away again.

    accruals = (net income - cash from operations) / mean of assets at the beginning and the end of the year
    z        = minus the accruals, against the peers

Of the newest fiscal year. Sloan 1996 ranks companies by it and buys the lowest. He took accruals from changes of the
balance sheet; taken from the cash flow statement they are the same thing without what acquisitions and disposals do to
balance sheets (Hribar and Collins 2002).
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import Agent, Mask, Signal

from ..score import BOUND, HORIZON, MINIMUM_BARS, against_peers, signal
from ..view import Fundamentals

# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.02
NEEDS = ("net_income_fy", "operating_cash_flow_fy", "assets_fy", "assets_fy1")


def compute(view: Fundamentals, eligible: Mask) -> Signal:
    """See the module."""
    unable = view.accounts.unable(NEEDS, view.window.as_of_ns)
    average = (view["assets_fy"] + view["assets_fy1"]) / 2.0
    accruals = np.clip((view["net_income_fy"] - view["operating_cash_flow_fy"]) / average, -BOUND, BOUND)
    z = against_peers(-accruals, view.usable(eligible, unable), unable)
    return signal(
        view,
        INFORMATION_COEFFICIENT,
        z,
        unable,
        "as much of its profit is cash as its peers differ from each other",
        {"accruals": accruals, "peers_z": z},
    )


AGENT = Agent(
    agent_id="fundamental.accruals",
    version="1.0.0",
    minimum_bars=MINIMUM_BARS,
    horizon_bars=HORIZON,
    description="Expects companies whose profit is cash to do better than those whose profit is not.",
    compute=compute,
)
