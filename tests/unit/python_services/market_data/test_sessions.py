"""Session times in UTC."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from python_services.market_data.instruments import Session
from python_services.market_data.sessions import day_name, describe, session_times


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        ("2009-03-06", "2009-03-06T14:30:00Z", "2009-03-06T21:00:00Z"),  # winter
        ("2009-03-09", "2009-03-09T13:30:00Z", "2009-03-09T20:00:00Z"),  # the Monday after the change
        ("2009-10-30", "2009-10-30T13:30:00Z", "2009-10-30T20:00:00Z"),
        ("2009-11-02", "2009-11-02T14:30:00Z", "2009-11-02T21:00:00Z"),
        ("2006-04-03", "2006-04-03T13:30:00Z", "2006-04-03T20:00:00Z"),  # before 2007 it began in April
        ("2006-03-20", "2006-03-20T14:30:00Z", "2006-03-20T21:00:00Z"),
    ],
)
def test_new_york(day: str, opens: str, closes: str) -> None:
    number = (date.fromisoformat(day) - date(1970, 1, 1)).days
    found = session_times(np.array([number]), Session())
    assert [describe(int(moment[0])) for moment in found] == [opens, closes]
    assert day_name(number) == day
