"""A file of facts is refused with its line; facts reach a reader whole, or are refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from python_services.kit import facts, facts_table
from python_services.kit.errors import ServiceError
from python_services.kit.facts import COLUMNS, Fact, FactsError, parse, read, visible_from_ns
from python_services.kit.facts_table import Companies, FactsClient
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


def answer(names: tuple[str, ...], moment_ns: int) -> tuple[marketdata_pb2.GetFactsResponse, str]:
    """What market_data answers about these companies, and the hash in the snapshot's header."""
    held = parse(gzip.decompress(BUNDLED.read_bytes()), "facts")
    cut = CompanyFacts([fact for fact in held if fact.instrument_id in names]).cut(names, moment_ns, NO_SPLITS)
    assert cut is not None
    return marketdata_pb2.GetFactsResponse(
        company_sha256=cut.company_sha256, company_facts=cut.lacking(b"")
    ), cut.sha256


NAMES = ("IBM", "JPM", "NOBODY", "AAPL")
MOMENT_NS = visible_from_ns(date(2010, 3, 1))


def test_what_is_sent_is_what_was_known() -> None:
    """Every number of the newest filings, seen through the answer and straight from the file."""
    hashes, tables = facts_table.check(*answer(NAMES, MOMENT_NS), len(NAMES))
    assert hashes[2] == facts_table.NOTHING
    assert hashes[2] not in tables
    held = read(BUNDLED)
    for name, hash_ in zip(NAMES, hashes, strict=True):
        known = held.as_of(name, MOMENT_NS)
        if name == "NOBODY":
            assert not known.period_ends()
            continue
        sent = facts_table.view(tables[hash_])
        assert sent.period_ends() == known.period_ends()
        assert sent.period_ends()
        for end in known.period_ends():
            for concept in ("net_income", "revenue", "operating_cash_flow"):
                assert sent.trailing_year(concept, end) == known.trailing_year(concept, end)
            assert sent.balance("assets", end) == known.balance("assets", end)


@pytest.mark.parametrize(
    ("alter", "problem"),
    [
        (lambda found: found.company_facts.append(found.company_facts[0] + b"\0"), "which their list does not name"),
        (lambda found: found.ClearField("company_sha256"), "have a list of hashes with hash"),
        (lambda found: setattr(found, "company_sha256", found.company_sha256[::-1]), "have a list of hashes with hash"),
    ],
)
def test_altered_facts_are_refused(alter: Callable[[marketdata_pb2.GetFactsResponse], None], problem: str) -> None:
    found, sha256 = answer(NAMES, MOMENT_NS)
    facts_table.check(found, sha256, len(NAMES))
    alter(found)
    with pytest.raises(ServiceError, match=problem) as refused:
        facts_table.check(found, sha256, len(NAMES))
    assert refused.value.reason == "FACTS_HASH_MISMATCH"


class Repeating(marketdata_pb2_grpc.MarketDataServiceServicer):
    """Answers the same whatever is held."""

    def __init__(self, found: marketdata_pb2.GetFactsResponse) -> None:
        self._found = found

    async def GetFacts(self, request: marketdata_pb2.GetFactsRequest, context: Any) -> marketdata_pb2.GetFactsResponse:
        return self._found


async def fetched(found: marketdata_pb2.GetFactsResponse, sha256: str, folder: Path) -> Companies[int] | None:
    """What a client makes of this answer, whenever it asks; of each company the number of balance sheets."""
    server = grpc.aio.server()
    marketdata_pb2_grpc.add_MarketDataServiceServicer_to_server(Repeating(found), server)
    server.add_insecure_port(f"unix:{folder}/market")
    await server.start()
    cut: Any = SimpleNamespace(facts_sha256=sha256, snapshot_id="0" * 64, instrument_ids=NAMES)
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/market") as channel:
            stub: Any = marketdata_pb2_grpc.MarketDataServiceStub(channel)
            return await FactsClient(stub, lambda view: len(view.period_ends())).get(cut)
    finally:
        await server.stop(None)


async def test_who_never_sends_what_is_lacking_is_refused_and_not_asked_for_ever(tmp_path: Path) -> None:
    found, sha256 = answer(NAMES, MOMENT_NS)
    whole = await fetched(found, sha256, tmp_path)
    assert whole is not None
    assert whole.read == tuple(len(read(BUNDLED).as_of(name, MOMENT_NS).period_ends()) or None for name in NAMES)
    del found.company_facts[1:]
    with pytest.raises(ServiceError, match="lack tables that their list names"):
        await fetched(found, sha256, tmp_path)


def test_facts_of_other_companies_are_refused() -> None:
    found, sha256 = answer(NAMES, MOMENT_NS)
    with pytest.raises(ServiceError, match="are of 4 companies, the snapshot has 3"):
        facts_table.check(found, sha256, 3)


@given(
    st.sets(st.dates(date(2009, 1, 1), date(2009, 3, 31)), max_size=12), st.dates(date(2009, 1, 1), date(2009, 3, 31))
)
def test_a_period_is_the_one_that_ends_nearest(ends: set[date], asked: date) -> None:
    """Within ten days; of two as near, the earlier."""
    held = [Fact("A", "Assets", 0, end, end.toordinal(), visible_from_ns(end), "10-K", "x") for end in ends]
    found = facts.CompanyFacts(held).as_of("A", visible_from_ns(date(2010, 1, 1))).balance("assets", asked)
    near = [end for end in ends if abs(end - asked).days <= 10]
    assert found == (min(near, key=lambda end: (abs(end - asked), end)).toordinal() if near else None)
