"""A file of facts is refused with its line; facts reach a reader whole, or are refused."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from python_services.kit import facts_table
from python_services.kit.errors import ServiceError
from python_services.kit.facts import COLUMNS, FactsError, parse, read, visible_from_ns
from python_services.market_data.facts import CompanyFacts
from python_services.market_data.universe import Splits
from python_services.training.facts import BUNDLED

HEADER = ",".join(COLUMNS)
GOOD = "A,Assets,0,2009-12-31,2010-02-01,10-K,1,5"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("A,Assets,0,soon,2010-02-01,10-K,1,5", "soon"),
        ("A,Assets,0,2009-12-31,later,10-K,1,5", "later"),
        ("A,Assets,4,2009-12-31,2010-02-01,10-K,1,5", "months is 4"),
        ("A,Assets,0,2009-12-31,2010-02-01,10-K,1,5.5", "5.5"),
        ("A,Assets,0,2009-12-31,2010-02-01,10-K,1,", "invalid literal"),
        (f"A,Assets,0,2009-12-31,2010-02-01,10-K,1,{2**63}", "64 bits"),
        ("A,Assets,0,2009-12-31,2009-12-30,10-K,1,5", "before the period ends"),
        (",Assets,0,2009-12-31,2010-02-01,10-K,1,5", "cannot be empty"),
        ("A,Assets,0,2009-12-31", "too few columns"),
        (GOOD, "the number of line 2 once more"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_line(row: str, problem: str) -> None:
    with pytest.raises(FactsError, match=rf"facts\.csv, line 3: .*{problem}"):
        parse("\n".join((HEADER, GOOD, row, "")).encode(), "facts.csv")


def test_a_file_without_its_columns_or_facts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FactsError, match=r"line 1: no column filed"):
        parse(HEADER.replace("filed", "known").encode(), "facts.csv")
    with pytest.raises(FactsError, match="no facts"):
        parse(f"{HEADER}\n".encode(), "facts.csv")
    with pytest.raises(FactsError, match="cannot be read"):
        read(tmp_path / "none.csv.gz")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(HEADER.encode())[:-6])
    with pytest.raises(FactsError, match=r"cut\.csv\.gz: cannot be read"):
        read(tmp_path / "cut.csv.gz")


NO_SPLITS = Splits(close_ns=np.empty(0, np.int64), row=np.empty(0, np.int64), ratio=np.empty(0))


def test_what_is_sent_is_what_was_known() -> None:
    """Every number of the newest filings, seen through the answer and straight from the file."""
    names = ("IBM", "JPM", "NOBODY", "AAPL")
    moment = visible_from_ns(date(2010, 3, 1))
    facts = parse(gzip.decompress(BUNDLED.read_bytes()), "facts")
    cut = CompanyFacts([fact for fact in facts if fact.instrument_id in names]).cut(names, moment, NO_SPLITS)
    assert cut is not None
    table = facts_table.decode(cut.content, cut.sha256, names)
    held = read(BUNDLED)
    for index, name in enumerate(names):
        sent, known = table.view(index), held.as_of(name, moment)
        assert sent.period_ends() == known.period_ends()
        for end in known.period_ends():
            for concept in ("net_income", "revenue", "operating_cash_flow"):
                assert sent.trailing_year(concept, end) == known.trailing_year(concept, end)
            assert sent.balance("assets", end) == known.balance("assets", end)
    assert table.view(0).period_ends()
    assert not table.view(2).period_ends()


def test_altered_facts_are_refused() -> None:
    facts = parse(gzip.decompress(BUNDLED.read_bytes()), "facts")
    cut = CompanyFacts(facts).cut(("IBM",), visible_from_ns(date(2010, 3, 1)), NO_SPLITS)
    assert cut is not None
    with pytest.raises(ServiceError) as refused:
        facts_table.decode(cut.content[:-1] + b"\0", "0" * 64, ("IBM",))
    assert refused.value.reason == "FACTS_HASH_MISMATCH"
