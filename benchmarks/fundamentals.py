"""What company facts and the fundamental agents cost a cycle of 500 companies, without transport.

Facts are those of `synthetic_facts`: about 25 companies file on a busy day. While nothing is filed, a cut only finds
out that nothing was, and the agents look at the price; after a filing the tables of those who filed are made and hashed
anew, and read.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np

from benchmarks import synthetic_facts, synthetic_universe
from benchmarks.runner import Case
from python_services.fundamental_agent.accounts import Company, company
from python_services.fundamental_agent.agents import agents
from python_services.fundamental_agent.agents.dcf import Assumptions
from python_services.fundamental_agent.view import Accounts, Fundamentals
from python_services.kit import facts_table
from python_services.kit.agents import Window, forecast
from python_services.kit.facts import Fact, visible_from_ns
from python_services.market_data.facts import CompanyFacts, FactsCut
from python_services.market_data.universe import Splits

INSTRUMENTS, BARS, ROUNDS = 500, 126, 30
DAY_NS = 86_400 * 10**9
FIRST_DAY = date(2010, 2, 1)
NAMES = tuple(synthetic_universe.names(INSTRUMENTS))
NO_SPLITS = Splits(close_ns=np.empty(0, np.int64), row=np.empty(0, np.int64), ratio=np.empty(0))


def p50_ms(work: Callable[[], object]) -> float:
    """Median of some rounds."""
    found = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return statistics.median(found) * 1e3


def known_from(filed: str) -> int:
    """When a filing of a day is visible."""
    return visible_from_ns(date.fromisoformat(filed))


def held() -> CompanyFacts:
    """Facts of the synthetic companies."""
    return CompanyFacts(
        [
            Fact(name, tag, months, date.fromisoformat(end), value, known_from(filed), form, accession)
            for name, tag, months, end, filed, form, accession, value in synthetic_facts.rows(INSTRUMENTS, seed=7)
        ]
    )


def window(as_of_ns: int) -> Window:
    """Random bars up to a moment."""
    close = 50.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0.0, 0.02, (BARS, INSTRUMENTS)), axis=0))
    times = as_of_ns - np.arange(BARS)[::-1] * DAY_NS
    return Window(as_of_ns, times, close, close * 1.01, close * 0.99, close, np.full_like(close, 1e6))


def cases() -> list[Case]:
    """Rows; the facts are made here."""
    facts, everyone = held(), tuple(agents(Assumptions()))

    def cut(day: date) -> FactsCut:
        found = facts.cut(NAMES, visible_from_ns(day), NO_SPLITS)
        assert found is not None
        return found

    def read(found: FactsCut, held_sha256: bytes) -> dict[bytes, Company | None]:
        return {facts_table.hash_of(each): company(facts_table.view(each)) for each in found.lacking(held_sha256)}

    days = [FIRST_DAY + timedelta(days=day) for day in range(ROUNDS)]
    cuts = [cut(day) for day in days]
    changes = [(before, now) for before, now in itertools.pairwise(cuts) if before.sha256 != now.sha256]
    tables = read(cuts[-1], b"")
    known = Accounts(tuple(tables.get(hash_) for hash_ in cuts[-1].hashes))

    def filing_days() -> float:
        fresh = held()
        fresh.cut(NAMES, visible_from_ns(FIRST_DAY - timedelta(days=1)), NO_SPLITS)
        times = []
        for day in days:
            begun = time.perf_counter()
            fresh.cut(NAMES, visible_from_ns(day), NO_SPLITS)
            times.append(time.perf_counter() - begun)
        return statistics.median(times) * 1e3

    def reading() -> float:
        tables, times = read(cuts[0], b""), []
        accounts = Accounts(tuple(tables.get(hash_) for hash_ in cuts[0].hashes))
        for before, now in changes:
            begun = time.perf_counter()
            tables.update(read(now, before.company_sha256))
            accounts = Accounts(tuple(tables.get(hash_) for hash_ in now.hashes), accounts)
            times.append(time.perf_counter() - begun)
        return statistics.median(times) * 1e3

    made = window(visible_from_ns(days[-1]))

    def cycle() -> None:
        fresh = dataclasses.replace(made)  # nothing of it is computed yet
        view = Fundamentals(fresh, known, fresh.close[-1])
        for agent in everyone:
            forecast(agent, fresh, view)

    shape = f"{INSTRUMENTS} companies"
    return [
        Case(
            name=f"facts in a cut while nothing is filed, {shape}, p50",
            unit="ms",
            ours=lambda: p50_ms(lambda: cut(days[-1])),
            goal="ours <= 0.1",
        ),
        Case(name=f"facts in the first cut after filings, {shape}, p50", unit="ms", ours=filing_days),
        Case(name=f"accounts read after filings, {shape}, p50", unit="ms", ours=reading),
        Case(
            name=f"{len(everyone)} fundamental agents, {shape}, p50",
            unit="ms",
            ours=lambda: p50_ms(cycle),
            goal="ours <= 3",
        ),
    ]
