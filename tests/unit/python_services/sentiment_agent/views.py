"""Texts and views for the tests of the sentiment agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from python_services.kit.agents import Agent, Forecast, Window, forecast
from python_services.kit.texts import Texts
from python_services.sentiment_agent.logic import DAY_NS, View
from python_services.sentiment_agent.reader import Reader

AS_OF_NS = 1_246_478_400 * 10**9
BARS = 80


def window(instruments: int = 3, bars: int = BARS, seed: int = 1) -> Window:
    """A random walk of 2% a day."""
    steps = np.random.default_rng(seed).normal(0.0, 0.02, (bars, instruments))
    close = 100.0 * np.exp(steps.cumsum(axis=0))
    times = AS_OF_NS - DAY_NS * np.arange(bars, dtype=np.int64)[::-1]
    return Window(AS_OF_NS, times, close, close * 1.01, close * 0.99, close, np.full_like(close, 1e6))


def texts(*rows: tuple[int, str, float, str]) -> Texts:
    """(instrument, source, days since it was published and known, words) each, in the order of GetTexts."""
    ordered = sorted(enumerate(rows), key=lambda item: (-item[1][2], item[1][1], item[0]))
    known = np.array([AS_OF_NS - round(row[2] * DAY_NS) for _, row in ordered], dtype=np.int64)
    return Texts(
        instrument_index=np.array([row[0] for _, row in ordered], dtype=np.int64),
        source=pa.array([row[1] for _, row in ordered], pa.string()),
        text_id=pa.array([str(number) for number, _ in ordered], pa.string()),
        ts_event_ns=known,
        known_at_ns=known,
        text=pa.array([row[3] for _, row in ordered], pa.string()),
    )


def view(
    said: Texts,
    scores: Mapping[str, float],
    credibility: Mapping[str, float] | None = None,
    lexical: Sequence[str] = (),
    bars: Window | None = None,
) -> View:
    """With the score of each text given; `lexical` are those that the lexicon scored."""
    bars = window() if bars is None else bars
    stories = Reader(credibility or {}, 1.0).read(said, AS_OF_NS)
    value = np.array([scores[text] for text in stories.texts.to_pylist()], dtype=np.float64)
    by_lexicon = np.array([text in lexical for text in stories.texts.to_pylist()], dtype=np.bool_)
    return View(
        window=bars,
        instruments=bars.close.shape[1],
        instrument=stories.instrument,
        age_days=stories.age_days,
        credibility=stories.credibility,
        score=value[stories.words],
        lexical=by_lexicon[stories.words],
        model="m:1",
        degraded="some by the lexicon" if lexical else None,
    )


def told(agent: Agent[View], seen: View) -> Forecast:
    """What the agent says."""
    return forecast(agent, seen.window, seen)


def column(found: Forecast, name: str, instrument: int) -> float:
    """One number about an instrument that was estimated."""
    place = found.index.tolist().index(instrument)
    values = found.evidence[name] if name in found.evidence else getattr(found, name)
    return float(values[place])
