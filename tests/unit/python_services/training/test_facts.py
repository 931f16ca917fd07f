"""Company facts are seen as they were known: nothing before its filing, revisions when they were filed."""

from datetime import UTC, date, datetime

import pytest

from python_services.kit.facts import CompanyFacts, Fact, visible_from_ns
from python_services.training.facts import BUNDLED, bundled
from python_services.training.facts_bundle import first_and_revised, months_between
from python_services.training.facts_ratios import FEATURES, following_return, newest_ratios, ratios

FISCAL_2008 = date(2008, 9, 27)
RESTATED = visible_from_ns(date(2010, 1, 25))  # Apple's 10-K/A


def ns(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 10**9


def test_a_revision_is_invisible_until_the_end_of_its_filing_day():
    before, after = (bundled().as_of("AAPL", moment) for moment in (RESTATED - 1, RESTATED))
    assert before.trailing_year("net_income", FISCAL_2008) == 4_834_000_000
    assert after.trailing_year("net_income", FISCAL_2008) == 6_119_000_000
    assert (before.balance("assets", FISCAL_2008), after.balance("assets", FISCAL_2008)) == (
        39_572 * 10**6,
        36_171 * 10**6,
    )


def test_nothing_filed_later_changes_what_was_known():
    """Everything filed from 2010-04-01 on is altered; no view before that day moves, one after it does."""
    cut = ns(2010, 4, 1)

    def altered(fact: Fact) -> Fact:
        return fact._replace(value=fact.value * 7 + 1)

    facts = [
        fact
        for company in bundled()._versions.values()
        for series in company.values()
        for versions in series.values()
        for fact in versions
    ]
    other = CompanyFacts(altered(fact) if fact.known_at_ns >= cut else fact for fact in facts)
    rows = {name: newest_ratios(bundled(), name, cut - 1) for name in bundled().instrument_ids}
    assert sum(row is not None for row in rows.values()) >= 10
    assert {name: newest_ratios(other, name, cut - 1) for name in rows} == rows
    later = ns(2010, 6, 1)
    assert newest_ratios(other, "AAPL", later) != newest_ratios(bundled(), "AAPL", later)


def test_before_the_first_filing_nothing_is_known():
    assert bundled().as_of("AAPL", ns(2009, 7, 1)).period_ends() == []
    assert newest_ratios(bundled(), "AAPL", ns(2009, 7, 1)) is None
    assert newest_ratios(bundled(), "NOBODY", ns(2010, 4, 1)) is None


def test_four_quarters_from_a_year_and_a_part_of_the_next():
    """Apple to March 2010: fiscal 2009 (8,235) plus its first half of 2010 (6,452) less that of 2009 (3,875)."""
    view = bundled().as_of("AAPL", ns(2010, 6, 1))
    assert view.trailing_year("net_income", date(2010, 3, 27)) == (8_235 + 6_452 - 3_875) * 10**6


def test_ratios_are_those_of_the_filing():
    row = newest_ratios(bundled(), "IBM", ns(2010, 4, 1))
    assert row is not None
    assert row.end == date(2009, 12, 31)
    values = dict(zip(FEATURES, row.values, strict=True))
    assert values["return_on_assets"] == pytest.approx(13_425 / 109_022, rel=1e-3)
    assert values["asset_turnover"] == pytest.approx(95_758 / 109_022, rel=1e-3)


def test_companies_without_a_figure_and_old_balance_sheets_get_no_ratios():
    assert newest_ratios(bundled(), "JPM", ns(2010, 4, 1)) is None  # a bank has no current assets
    assert newest_ratios(bundled(), "IBM", ns(2011, 4, 1)) is None  # its facts end in 2010


def test_the_outcome_is_unknown_until_it_is_filed():
    end = date(2009, 9, 26)
    known = visible_from_ns(date(2010, 10, 27))  # the annual report of fiscal 2010
    before, after = (bundled().as_of("AAPL", moment) for moment in (known - 1, known))
    assert ratios("AAPL", before, end) is not None
    assert following_return(before, end) is None
    assert following_return(after, end) == pytest.approx(14_013 / 47_501, rel=1e-4)


def test_repeats_are_kept_once_and_changes_as_revisions():
    row = ("X", "Assets", 0, "2009-12-31")
    filings = [
        (*row, "2010-02-01", "10-K", "a", "5"),
        (*row, "2010-05-01", "10-Q", "b", "5"),
        (*row, "2010-08-01", "10-Q", "c", "6"),
        (*row, "2010-11-01", "10-Q", "d", "6"),
    ]
    assert [each[6] for each in first_and_revised(filings)] == ["a", "c"]


@pytest.mark.parametrize(
    ("start", "end", "months"),
    [
        (None, "2009-12-31", 0),
        ("2009-10-01", "2009-12-31", 3),
        ("2008-09-28", "2009-09-26", 12),
        ("2009-01-01", "2009-05-15", None),
    ],
)
def test_spans(start, end, months):
    assert months_between(start, end) == months


def test_the_bundle_states_its_licence_and_hash():
    import hashlib

    note = (BUNDLED.parent / "DATA-sec_facts.md").read_text(encoding="utf-8")
    assert "public domain" in note
    assert hashlib.sha256(BUNDLED.read_bytes()).hexdigest() in note
