"""What GetFacts answers: the newest version filed, nothing later, and shares on the terms of the day."""

from __future__ import annotations

from datetime import date

import numpy as np

from python_services.kit.facts import Fact, FactView, visible_from_ns
from python_services.kit.facts_table import FactsTable, decode
from python_services.market_data.facts import REACH_DAYS, CompanyFacts, FactsCut
from python_services.market_data.universe import Splits

NAMES = ("B", "A")
DAY_NS = 86_400 * 10**9


def fact(name: str, tag: str, end: date, filed: date, value: int, accession: str = "x") -> Fact:
    return Fact(name, tag, 0, end, value, visible_from_ns(filed), "10-K", accession)


def splits(*found: tuple[date, int, float]) -> Splits:
    days, rows, ratios = zip(*found, strict=True) if found else ((), (), ())
    return Splits(
        close_ns=np.array([visible_from_ns(day) - 4 * 3600 * 10**9 for day in days], dtype=np.int64),
        row=np.array(rows, dtype=np.int64),
        ratio=np.array(ratios, dtype=np.float64),
    )


def cut(facts: list[Fact], moment_ns: int, found: Splits | None = None) -> FactsCut | None:
    return CompanyFacts(facts).cut(NAMES, moment_ns, splits() if found is None else found)


def view(answer: FactsCut | None, name: str) -> FactView:
    assert answer is not None
    table: FactsTable = decode(answer.content, answer.sha256, NAMES)
    return table.view(NAMES.index(name))


END, FIRST, REVISED = date(2009, 12, 31), date(2010, 2, 1), date(2010, 5, 3)
FACTS = [
    fact("A", "Assets", END, FIRST, 5, "first"),
    fact("A", "Assets", END, REVISED, 6, "second"),
    fact("B", "Assets", END, REVISED, 7, "third"),
]


def test_the_newest_version_that_was_filed() -> None:
    assert cut(FACTS, visible_from_ns(FIRST) - 1) is None
    before = cut(FACTS, visible_from_ns(REVISED) - 1)
    assert view(before, "A").balance("assets", END) == 5
    assert view(before, "B").balance("assets", END) is None
    after = cut(FACTS, visible_from_ns(REVISED))
    assert (view(after, "A").balance("assets", END), view(after, "B").balance("assets", END)) == (6, 7)


def test_nothing_of_later_filings_is_inside() -> None:
    """Not even the names of filings, and whatever order the file has."""
    before = cut(FACTS, visible_from_ns(REVISED) - 1)
    assert before is not None
    assert b"third" not in before.content
    assert before == cut(FACTS[:1], visible_from_ns(REVISED) - 1)
    assert cut(FACTS[::-1], visible_from_ns(REVISED)) == cut(FACTS, visible_from_ns(REVISED))


def test_the_hash_stays_until_something_is_filed() -> None:
    held = CompanyFacts(FACTS)
    found = [held.cut(NAMES, visible_from_ns(FIRST) + day * DAY_NS, splits()) for day in range(120)]
    filed = (REVISED - FIRST).days
    assert [each is not None and each.sha256 for each in found[:filed]] == [found[0] and found[0].sha256] * filed
    assert found[0] != found[filed] == found[-1]


def test_periods_of_long_ago_are_left_out() -> None:
    long_ago, still = date(2006, 9, 27), date(2006, 9, 28)
    assert [(END - day).days - REACH_DAYS for day in (long_ago, still)] == [1, 0]
    old = [fact("A", "Assets", day, FIRST, 1) for day in (long_ago, still)]
    assert view(cut([*FACTS, *old], visible_from_ns(FIRST)), "A").period_ends() == [still, END]
    assert view(cut(old, visible_from_ns(FIRST)), "A").period_ends() == [long_ago, still]


def test_shares_are_brought_to_the_terms_of_the_day() -> None:
    """By splits after the filing; of splits before it the filing knows."""
    tag = "CommonStockSharesOutstanding"
    facts = [fact("A", tag, END, FIRST, 100), fact("A", "Assets", END, FIRST, 5), fact("B", tag, END, REVISED, 30)]
    found = splits((date(2010, 1, 15), 1, 7.0), (date(2010, 3, 1), 1, 2.0), (date(2010, 4, 1), 0, 3.0))
    moment = visible_from_ns(REVISED)
    ratios = {
        name: (known.split_ratio if (known := view(cut(facts, moment, found), name).fact(tag, 0, END)) else None)
        for name in NAMES
    }
    assert ratios == {"A": 2.0, "B": 1.0}
    later = splits((date(2010, 1, 15), 1, 7.0), (date(2010, 3, 1), 1, 2.0), (date(2010, 6, 1), 1, 5.0))
    again = view(cut(facts, moment, later), "A").fact(tag, 0, END)
    assert again is not None
    assert again.split_ratio == 10.0
