"""Accounts made from those of the snapshot before are those that are made of nothing."""

from __future__ import annotations

from datetime import date

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from python_services.fundamental_agent.accounts import FIGURES, Company, company
from python_services.fundamental_agent.view import DAY_NS, Accounts
from python_services.kit.facts import visible_from_ns

from .companies import FACTS

NAMES = (*FACTS.instrument_ids, "NOBODY")
MOMENTS = [visible_from_ns(date(year, month, 15)) for year in (2009, 2010, 2011) for month in range(1, 13, 2)]
HELD: list[list[Company | None]] = []
for moment_ns in MOMENTS:
    now = [company(FACTS.as_of(name, moment_ns)) for name in NAMES]
    # As a reader of tables has them: whoever has filed nothing since is the same object.
    HELD.append([old if old == new else new for old, new in zip(HELD[-1], now, strict=True)] if HELD else now)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(MOMENTS) - 1), min_size=1, max_size=6))
def test_whatever_was_known_before(cuts: list[int]) -> None:
    accounts = Accounts((None,))
    for cut in cuts:
        accounts, fresh = Accounts(tuple(HELD[cut]), accounts), Accounts(tuple(HELD[cut]))
        for figure in FIGURES:
            np.testing.assert_array_equal(accounts.column(figure), fresh.column(figure))
        for moment in (MOMENTS[cut], MOMENTS[cut] + 300 * DAY_NS):
            np.testing.assert_array_equal(accounts.age_days(moment), fresh.age_days(moment))
            for needed in (("assets",), ("shares", "revenue_year"), ("assets_fy2", "long_term_debt_fy")):
                assert accounts.unable(needed, moment) == fresh.unable(needed, moment)


def test_every_figure_is_a_column() -> None:
    """None is lost, and each is that of its company."""
    accounts = Accounts(tuple(HELD[-1]))
    found = [each for each in HELD[-1] if each is not None]
    assert {name for each in found for name in each.figures} == set(FIGURES)
    for i, each in enumerate(HELD[-1]):
        for figure in FIGURES:
            value = accounts.column(figure)[i]
            expected = np.nan if each is None else each.figures.get(figure, np.nan)
            np.testing.assert_equal(value, expected)
