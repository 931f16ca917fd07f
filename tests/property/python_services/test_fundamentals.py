"""Nothing filed after as_of, and no price after it, can change what a fundamental agent says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alphamesh.agent.v1 import agent_pb2
from python_services.fundamental_agent.accounts import company
from python_services.fundamental_agent.agents import agents
from python_services.fundamental_agent.agents.dcf import Assumptions
from python_services.fundamental_agent.view import Accounts, Fundamentals
from python_services.kit import facts_table, snapshots
from python_services.kit.agents import Forecast, forecast
from python_services.kit.agents.cluster import fill, window_of
from python_services.kit.facts import Fact, read, visible_from_ns
from python_services.kit.journal import Journal
from python_services.market_data import dataset, instruments, reading
from python_services.market_data.facts import CompanyFacts
from python_services.market_data.history import History
from python_services.market_data.store import SnapshotStore
from python_services.market_data.watermarks import Watermarks
from python_services.training.facts import BUNDLED
from tests.unit.python_services.market_data.files import csv

AGENTS = tuple(agents(Assumptions()))
NAMES = ("AAPL", "GOOG", "NVDA", "RUIN", "SAVED")
LISTED = b"instruments:\n" + b"".join(
    f"  - {{instrument_id: {name}, currency_code: USD, price_increment: 0.01, size_increment: 1}}\n".encode()
    for name in NAMES
)
PAST, FUTURE = 90, 20


def bundled() -> list[Fact]:
    """Real filings of three companies, and two made of one of them: one in distress, and one that spends little."""
    held = [
        fact
        for name, series in read(BUNDLED)._versions.items()
        if name in NAMES
        for ends in series.values()
        for versions in ends.values()
        for fact in versions
    ]
    apple = [fact for fact in held if fact.instrument_id == "AAPL"]
    lost = {"RetainedEarningsAccumulatedDeficit": -900, "StockholdersEquity": 1}
    ruin = [f._replace(instrument_id="RUIN", value=lost.get(f.tag, f.value // 10**9) * 10**9) for f in apple]
    saved = [f._replace(instrument_id="SAVED", value=f.value * (3 if "Operating" in f.tag else 1)) for f in apple]
    return [*held, *ruin, *saved]


FACTS = bundled()
# A year in which every agent has something to speak about, to the last.
DAYS = [date(2016, 11, 15) + timedelta(days=7 * week) for week in range(80)]


def bars(seed: int, days: Sequence[date]) -> list[str]:
    """Bars of all instruments; a share is split now and then."""
    random, lines = np.random.default_rng(seed), []
    for name in NAMES:
        price, scale = random.uniform(20.0, 400.0), 1.0
        for day in days:
            price *= np.exp(random.normal(0.0, 0.02))
            if random.random() < 0.01:
                price, scale = price / 2.0, scale * 2.0
            lines.append(f"{name},{day},{price:.2f},{price:.2f},{price:.2f},{price:.2f},1000,{float(price * scale)!r}")
    return lines


def rewritten(facts: Sequence[Fact], after_ns: int, seed: int) -> list[Fact]:
    """Of what is filed later some is gone, some has other numbers, and some is of other periods."""
    random, found = np.random.default_rng(seed), []
    for fact in facts:
        if fact.known_at_ns <= after_ns:
            found.append(fact)
        elif (fate := random.random()) < 0.4:
            found.append(fact._replace(value=int(fact.value * random.normal(1.0, 3.0)), accession="later"))
        elif fate < 0.6:
            found.append(fact._replace(end=fact.end - timedelta(days=365), accession="later"))
    return found


def said(journal: Journal, lines: list[str], facts: list[Fact], as_of_ns: int) -> tuple[list[bytes], set[str]]:
    """What every agent says, as bytes, and who spoke about something."""
    specs, session = instruments.parse(LISTED, "instruments.yaml")
    data = dataset.build(
        reading.parse(csv(lines), "bars.csv", NAMES), specs, session, sha256="0" * 64, where=("bars.csv",)
    )
    store = SnapshotStore(History(data), Watermarks(), journal, retained=10**6, facts=CompanyFacts(facts))
    snapshot_id = store.cut(as_of_ns, NAMES, 80).snapshot_id
    held = store.get(snapshot_id)
    snapshot = snapshots.decode(snapshot_id, held.arrow_ipc)
    found = store.get_facts(snapshot_id)
    assert snapshot.facts_sha256 == found.sha256
    accounts = Accounts(tuple(company(facts_table.view(table)) if table else None for table in found.tables))
    window = window_of(snapshot)
    marks = np.array(snapshot.marks_e9, dtype=np.float64) / 1e9
    view = Fundamentals(window, accounts, marks)
    made = [forecast(agent, window, view) for agent in AGENTS]
    return [encoded(each) for each in made], {each.agent_id for each in made if len(each.index)}


def encoded(found: Forecast) -> bytes:
    message = agent_pb2.AgentForecast()
    fill(message, found)
    return message.SerializeToString(deterministic=True)


def test_the_future_changes_no_forecast(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", "market_data", "0", lambda _error: None)
    spoke: set[str] = set()

    @settings(max_examples=40, deadline=None)
    @given(day=st.sampled_from(DAYS), past=st.integers(0, 2**32), future=st.integers(0, 2**32))
    def check(day: date, past: int, future: int) -> None:
        as_of_ns = int(datetime(day.year, day.month, day.day, 22, tzinfo=UTC).timestamp()) * 10**9
        before = bars(past, [day - timedelta(days=back) for back in range(PAST, -1, -1)])
        after = bars(future, [day + timedelta(days=ahead) for ahead in range(1, FUTURE)])
        known = [fact for fact in FACTS if fact.known_at_ns <= as_of_ns]
        assert len(known) < len(FACTS)
        alone = said(journal, before, known, as_of_ns)
        spoke.update(alone[1])
        assert said(journal, before + after, FACTS, as_of_ns) == alone
        assert said(journal, before + after, rewritten(FACTS, as_of_ns, future), as_of_ns) == alone

    check()
    journal.close()
    assert spoke == {agent.agent_id for agent in AGENTS}


def test_what_is_filed_changes_the_forecast_the_day_after(tmp_path: Path) -> None:
    """The twin of the test above: it would notice."""
    journal = Journal(tmp_path / "journal.db", "market_data", "0", lambda _error: None)
    filed = visible_from_ns(date(2017, 11, 3))  # Apple's annual report
    days = [date(2017, 11, 8) - timedelta(days=back) for back in range(PAST, -1, -1)]
    lines = bars(3, days)
    other = rewritten(FACTS, filed - 1, 5)
    assert said(journal, lines, FACTS, filed - 10**9)[0] == said(journal, lines, other, filed - 10**9)[0]
    assert said(journal, lines, FACTS, filed + 10**9)[0] != said(journal, lines, other, filed + 10**9)[0]
    journal.close()
