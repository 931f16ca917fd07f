"""What GetFacts answers: the newest version filed, nothing later, shares on the terms of the day, and only changes."""

from __future__ import annotations

from datetime import date, timedelta
from operator import attrgetter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_services.kit import facts_table
from python_services.kit.facts import Fact, FactView, visible_from_ns
from python_services.market_data import facts as served
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
    return facts_table.view(answer.tables[NAMES.index(name)])


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
    assert not any(b"third" in table for table in before.tables)
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


def test_only_tables_that_are_not_held_are_sent() -> None:
    before, after = cut(FACTS, visible_from_ns(FIRST)), cut(FACTS, visible_from_ns(REVISED))
    assert before is not None
    assert after is not None
    assert before.lacking(b"") == [before.tables[1]]  # B has filed nothing
    assert before.lacking(before.company_sha256) == []
    assert after.lacking(before.company_sha256) == list(after.tables)
    assert after.lacking(after.hashes[1] + bytes(32)) == [after.tables[0]]


def test_a_large_answer_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a part is, whoever asks for the rest gets everything."""
    monkeypatch.setattr(served, "ANSWER_BYTES", 1)
    after = cut(FACTS, visible_from_ns(REVISED))
    assert after is not None
    assert after.lacking(b"") == [after.tables[0]]
    assert after.lacking(after.hashes[0]) == [after.tables[1]]
    assert after.lacking(after.company_sha256) == []


NUMBERS = st.builds(
    Fact,
    instrument_id=st.sampled_from(NAMES),
    tag=st.sampled_from(("Assets", "NetIncomeLoss", "CommonStockSharesOutstanding")),
    months=st.sampled_from((0, 3, 12)),
    end=st.dates(date(2005, 1, 1), date(2009, 12, 31)),
    value=st.integers(-(2**63), 2**63 - 1),
    known_at_ns=st.integers(0, 20).map(lambda day: visible_from_ns(FIRST) + day * DAY_NS),
    form=st.sampled_from(("10-K", "10-Q")),
    accession=st.text(max_size=3),
)
LINE = attrgetter("instrument_id", "tag", "months", "end", "known_at_ns", "accession")  # once in a file
SPLITS = st.lists(
    st.tuples(st.integers(0, 20).map(lambda day: FIRST + timedelta(days=day)), st.integers(0, 1), st.floats(0.1, 9.0)),
    max_size=4,
    unique_by=lambda split: split[:2],
)


@settings(deadline=None)
@given(
    st.lists(NUMBERS, min_size=1, max_size=30, unique_by=LINE),
    SPLITS,
    st.lists(st.integers(-1, 22), min_size=1, max_size=12),
)
def test_cuts_in_any_order_are_those_of_a_fresh_start(
    facts: list[Fact], found: list[tuple[date, int, float]], days: list[int]
) -> None:
    """What was kept of other cuts changes nothing, and any file's order gives the same."""
    held, listed = CompanyFacts(facts), splits(*sorted(found))
    for day in days:
        moment = visible_from_ns(FIRST) + day * DAY_NS
        assert held.cut(NAMES, moment, listed.known(moment)) == cut(facts[::-1], moment, listed.known(moment))
