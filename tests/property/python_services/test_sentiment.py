"""No look-ahead: whatever is published or becomes known later, what the sentiment agents say of a moment stays."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit.agents import Window, forecast
from python_services.kit.texts import decode
from python_services.sentiment_agent.agents import AGENTS
from python_services.sentiment_agent.logic import DAY_NS, View
from python_services.sentiment_agent.reader import Reader
from python_services.sentiment_agent.service import lexicon
from tests.unit.python_services.market_data.files import NAMES

from .test_texts import ASKED, START_NS, Service, service

BARS = 70
WORDS = ("strong profit", "heavy loss", "great win", "terrible recall", "meeting held", "dividend cut", "best year")
SOURCES = {"blog": 0.3, "wire": 0.9}


@cache
def score(words: str) -> float:
    return _lexicon()(words)


@cache
def _lexicon():  # type: ignore[no-untyped-def]
    return lexicon()


@st.composite
def published(draw: st.DrawFn) -> list[marketdata_pb2.Text]:
    """Texts of sixty days; some known when they were published, some days later, some the same words again."""
    found = []
    for number in range(draw(st.integers(0, 30))):
        ts_event_ns = START_NS + draw(st.integers(0, 60 * 24)) * DAY_NS // 24
        found.append(
            marketdata_pb2.Text(
                text_id=str(number),
                source=draw(st.sampled_from(sorted(SOURCES))),
                instrument_ids=draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)),
                ts_event_ns=ts_event_ns,
                known_at_ns=ts_event_ns + draw(st.sampled_from([0, 0, 1, 10])) * DAY_NS,
                text=draw(st.sampled_from(WORDS)),
            )
        )
    return found


def said(running: Service, as_of_ns: int) -> list[tuple[object, ...]]:
    """Every number and every abstention of every agent, as of a moment."""
    header = running.store.cut(as_of_ns, ASKED, 4)
    content = running.store.get_texts(header.snapshot_id) if header.HasField("texts_sha256") else None
    steps = np.random.default_rng(7).normal(0.0, 0.02, (BARS, len(ASKED)))
    close = np.exp(steps.cumsum(axis=0))
    times = as_of_ns - DAY_NS * np.arange(BARS, dtype=np.int64)[::-1]
    window = Window(as_of_ns, times, close, close, close, close, close)
    if content is None:
        return []
    stories = Reader(SOURCES, 0.5).read(decode(content), as_of_ns)
    value = np.array([score(text) for text in stories.texts.to_pylist()], dtype=np.float64)[stories.words]
    view = View(
        window=window,
        instruments=len(ASKED),
        instrument=stories.instrument,
        age_days=stories.age_days,
        credibility=stories.credibility,
        score=value,
        lexical=np.zeros(len(value), dtype=np.bool_),
        model="m:1",
    )
    assert (view.age_days >= 0.0).all()
    found: list[tuple[object, ...]] = []
    for agent in AGENTS:
        made = forecast(agent, window, view)
        numbers = [made.volatility, made.confidence, *made.evidence.values()]
        if made.expected_return is not None:
            numbers.append(made.expected_return)
        found.append((agent.agent_id, made.index.tolist(), [each.tobytes() for each in numbers], made.abstentions))
    return found


@settings(max_examples=80, deadline=None)
@given(texts=published(), seed=st.integers(0, 2**16), day=st.integers(0, 60))
def test_texts_that_become_known_later_change_nothing_that_was_said(
    texts: Sequence[marketdata_pb2.Text], seed: int, day: int
) -> None:
    as_of_ns = START_NS + day * DAY_NS
    before = [text for text in texts if text.known_at_ns <= as_of_ns]
    shuffled = random.Random(seed).sample(list(texts), len(texts))
    with service() as early, service() as late:
        early.ingest(before)
        first = said(early, as_of_ns)
        early.ingest([text for text in texts if text.known_at_ns > as_of_ns])
        late.ingest(shuffled)
        assert said(early, as_of_ns) == first == said(late, as_of_ns)
        assert not before or first
