"""Discounted cash flow in two stages, against the price.

    cash  = cash from operations - capital expenditure, of the last four quarters: after interest, so it is the owners'
    value = cash x (sum of a^k, k = 1 to 5, + a^5 (1 + T) / (R - T)),  a = (1 + g) / (1 + R)
    R     = the discount rate, T = the growth of the second stage, for ever: the configuration
    g     = the growth of the first stage: the lower of revenue growth (year to date against the year before) and what
            the company kept of its profit in the last fiscal year (the change of retained earnings on the equity it
            began with: sustainable growth), but between -5 and 15 %
    low, high = the value with R a point higher, T half a point and g five points lower, and the other way round
    z     = log(value / market value) / (log(high / low) / 2)

So the range of assumptions that nobody could argue about is one deviation: inside it there is no signal. The default
R of 9 % is a beta of 1 on a premium of 5 % over long government bonds at 4 %; T of 2.5 % is about the growth of an
economy without inflation, below that with it. Growth beyond what is earned and kept does not last (Chan, Karceski and
Lakonishok 2003), hence the lower of the two. Prices below such values have risen towards them over one to three years
(Frankel and Lee 1998). A company that takes in less than it spends has no value by this model, so none is stated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from python_services.kit.agents import Agent, Floats, Mask, Reason, Signal

from ..score import HORIZON, MINIMUM_BARS, signal
from ..view import Fundamentals

# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.03
YEARS = 5
GROWTH_BOUNDS = (-0.05, 0.15)
RATE_STEP, TERMINAL_STEP, GROWTH_STEP = 0.01, 0.005, 0.05
NARROWEST = RATE_STEP + TERMINAL_STEP + 0.01
NEEDS = (
    *("operating_cash_flow_year", "capital_expenditure_year", "shares", "revenue_now", "revenue_before"),
    *("retained_earnings_fy", "retained_earnings_fy1", "equity_fy1"),
)


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """Shares of one a year. Raises ValueError when the second stage would be worth too much to be computed."""

    discount_rate: float = 0.09
    terminal_growth: float = 0.025

    def __post_init__(self) -> None:
        if not self.discount_rate - self.terminal_growth >= NARROWEST:
            raise ValueError(
                f"discount_rate {self.discount_rate} must be at least {NARROWEST} above terminal_growth "
                f"{self.terminal_growth}; raise it"
            )


def multiple(growth: Floats, rate: float, terminal: float) -> Floats:
    """Value per dollar of the last four quarters' cash."""
    return np.frombuffer(_multiple(growth.tobytes(), rate, terminal))


@lru_cache(maxsize=6)
def _multiple(growth: bytes, rate: float, terminal: float) -> bytes:
    """Kept, because growth stays the same until somebody files."""
    ratio = (1.0 + np.frombuffer(growth)) / (1.0 + rate)
    first = np.sum([ratio**year for year in range(1, YEARS + 1)], axis=0)
    return np.asarray(first + ratio**YEARS * (1.0 + terminal) / (rate - terminal)).tobytes()


def agent(assumptions: Assumptions) -> Agent[Fundamentals]:
    """The agent under these assumptions."""
    rate, terminal = assumptions.discount_rate, assumptions.terminal_growth

    def compute(view: Fundamentals, eligible: Mask) -> Signal:
        unable = view.accounts.unable(NEEDS, view.window.as_of_ns)
        cash = view["operating_cash_flow_year"] - view["capital_expenditure_year"]
        for i in np.flatnonzero(~((cash > 0.0) & (view["equity_fy1"] > 0.0) & (view["revenue_before"] > 0.0))):
            unable.setdefault(
                int(i),
                (Reason.NO_SIGNAL, "its free cash flow, equity or revenue is not positive: no value by this model"),
            )
        revenue = view["revenue_now"] / view["revenue_before"] - 1.0
        kept = (view["retained_earnings_fy"] - view["retained_earnings_fy1"]) / view["equity_fy1"]
        growth = np.clip(np.minimum(revenue, kept), *GROWTH_BOUNDS)
        value = cash * multiple(growth, rate, terminal)
        low = cash * multiple(growth - GROWTH_STEP, rate + RATE_STEP, terminal - TERMINAL_STEP)
        high = cash * multiple(growth + GROWTH_STEP, rate - RATE_STEP, terminal + TERMINAL_STEP)
        market = view.market_value
        z = np.log(value / market) / (np.log(high / low) / 2.0)
        return signal(
            view,
            INFORMATION_COEFFICIENT,
            z,
            unable,
            "the price lies inside the range of values that reasonable assumptions give",
            {
                "value_to_price": value / market,
                "value_usd": value,
                "value_low_usd": low,
                "value_high_usd": high,
                "market_value_usd": market,
                "free_cash_flow_usd": cash,
                "discount_rate_assumed": np.full(len(cash), rate),
                "terminal_growth_assumed": np.full(len(cash), terminal),
                "growth_used": growth,
                "growth_of_revenue": revenue,
                "growth_sustainable": kept,
            },
        )

    return Agent(
        agent_id="fundamental.dcf",
        version="1.0.0",
        minimum_bars=MINIMUM_BARS,
        horizon_bars=HORIZON,
        description="Expects prices to move towards a discounted cash flow when they are outside its range.",
        compute=compute,
    )
