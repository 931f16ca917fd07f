"""Turn of the month: returns were higher on the last trading day of a month and on the first three of the next.

    days       = how many of the next five weekdays lie there (holidays are not known ahead and count as trading days)
    expected   = 0.1% x days: the average of the effect in the Dow Jones from 1897 to 1986
    confidence = 0.2: one effect of many that were looked for, and known for decades

Sources: Ariel 1987; Lakonishok and Smidt 1988. An agent that reads the calendar and no price, but for the volatility.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import SAMPLE, Agent, Mask, Signal, Window

HORIZON, AFTER = 5, 3
A_DAY, CONFIDENCE = 0.001, 0.2
_DAY_NS = 86_400 * 10**9


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    days = turning_days(np.datetime64(window.as_of_ns // _DAY_NS, "D"))
    everyone = np.ones(len(eligible))
    return Signal(
        expected_return=A_DAY * days * everyone,
        volatility=window.daily_volatility * np.sqrt(HORIZON),
        confidence=CONFIDENCE * everyone,
        clear=np.full(len(eligible), days > 0),
        unclear="the turn of the month is not within the next five days",
        evidence={"turning_days": days * everyone},
    )


def turning_days(today: np.datetime64) -> int:
    """How many of the next five weekdays are the last of a month or one of the first three."""
    coming = np.busday_offset(today, np.arange(1, HORIZON + 1), roll="backward")
    month = coming.astype("datetime64[M]")
    first = np.busday_offset(month.astype("datetime64[D]"), AFTER, roll="forward")
    last = np.busday_offset((month + 1).astype("datetime64[D]"), -1, roll="forward")
    return int(((coming < first) | (coming == last)).sum())


AGENT = Agent(
    agent_id="turn_of_month.calendar",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Expects a little more of the days around the turn of a month.",
    compute=compute,
)
