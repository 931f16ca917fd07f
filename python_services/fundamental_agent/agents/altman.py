"""Distress by Altman's Z'', the score for companies whether they manufacture or not.

    Z'' = 6.56 X1 + 3.26 X2 + 6.72 X3 + 1.05 X4
    X1  = (current assets - current liabilities) / assets
    X2  = retained earnings / assets
    X3  = earnings before interest and taxes of the last four quarters / assets
    X4  = equity / liabilities
    zones: distress below 1.1, safe above 2.6, grey between

Coefficients and zones: Altman 1983; Altman 2000. Companies near default have earned less, not more, than others (Dichev
1998; Campbell, Hilscher and Szilagyi 2008): expected is a loss for a company in the distress zone, and nothing for all
others, because to be safe is no merit that pays.

    z = (Z'' - 1.85) / 0.75: -1 at the limit of distress, +1 at that of safety

Not for banks and insurers, to which the score does not apply: they file no current assets, so it abstains.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from python_services.kit.agents import Agent, Floats, Mask, Reason, Signal

from ..score import HORIZON, MINIMUM_BARS, signal
from ..view import Fundamentals

# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.03
DISTRESS, SAFE = 1.1, 2.6
NEEDS = (
    *("assets", "assets_current", "liabilities_current", "retained_earnings", "operating_income_year"),
    *("equity", "liabilities"),
)


def parts(view: Fundamentals) -> dict[str, Floats]:
    """X1 to X4, and the score."""
    assets = view["assets"]
    found = {
        "working_capital_on_assets": (view["assets_current"] - view["liabilities_current"]) / assets,
        "retained_earnings_on_assets": view["retained_earnings"] / assets,
        "operating_income_on_assets": view["operating_income_year"] / assets,
        "equity_on_liabilities": view["equity"] / view["liabilities"],
    }
    weighted = [weight * part for weight, part in zip((6.56, 3.26, 6.72, 1.05), found.values(), strict=True)]
    return {"altman_z": np.sum(weighted, axis=0), **found}


def compute(view: Fundamentals, eligible: Mask) -> Signal:
    """See the module."""
    unable = view.accounts.unable(NEEDS, view.window.as_of_ns)
    evidence = parts(view)
    score = evidence["altman_z"]
    for i in np.flatnonzero(~np.isfinite(score)).tolist():
        unable.setdefault(i, (Reason.NO_SIGNAL, "its assets or liabilities are zero, so it has no Z''"))
    z = (score - (DISTRESS + SAFE) / 2.0) / ((SAFE - DISTRESS) / 2.0)
    unclear = f"Z'' is not below {DISTRESS}: the grey zone or the safe one, not that of distress"
    found = signal(view, INFORMATION_COEFFICIENT, z, unable, unclear, evidence)
    return replace(found, clear=score < DISTRESS)


AGENT = Agent(
    agent_id="fundamental.altman",
    version="1.0.0",
    minimum_bars=MINIMUM_BARS,
    horizon_bars=HORIZON,
    description="Expects a loss on companies that Altman's Z'' sees in distress; silent about all others.",
    compute=compute,
)
