"""What the agents look at: distinct texts with their scores, a row per instrument and text. Pure.

The same words count once for an instrument, whoever repeats them: repeated news is old news (Tetlock 2011, "All the
news that's fit to reprint"). They are as old as their first publication, and as credible as the most credible source
that carried them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from python_services.kit.agents import Floats, Mask, Reason, Window
from python_services.kit.texts import Texts

DAY_NS = 86_400 * 10**9
DAYS = 30  # of texts in a snapshot
HALF_LIFE_DAYS = 3.0
# Standard deviation of the model's scores over the texts that it never saw (README.md), whatever they are about.
SPREAD = 0.4
# The lexicon's scores go with the annotators' labels at a correlation of 0.26, the model's at 0.71 (README.md).
LEXICON_CONFIDENCE = 0.26 / 0.71

Ints = NDArray[np.int64]

_NOTHING_SAID = (Reason.MISSING_DATA, f"no text about it in the last {DAYS} days")

_LINK = re.compile(r"(https?://|\bt\.co/)\S*", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:[.,]\d+)*")


@dataclass(frozen=True, kw_only=True)
class Stories:
    """Distinct texts of each instrument, the oldest first: columns, and the words to be scored.

    age_days: since the first publication. credibility: of the best source. words: number in `texts` of what it says.
    """

    instrument: Ints
    age_days: Floats
    credibility: Floats
    words: Ints
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class View:
    """Bars, and what was said. Columns have a row per instrument and distinct text.

    score: -1 (bad news) to 1. lexical: scored by the lexicon. degraded: why some are.
    """

    window: Window
    instruments: int
    instrument: Ints
    age_days: Floats
    credibility: Floats
    score: Floats
    lexical: Mask
    model: str
    degraded: str | None = None

    @cached_property
    def weight(self) -> Floats:
        """credibility x 2^(-age / half-life)."""
        return self.credibility * np.exp2(-self.age_days / HALF_LIFE_DAYS)

    def total(self, values: Floats, where: Mask | None = None) -> Floats:
        """Sum by instrument, of the rows asked for."""
        chosen = slice(None) if where is None else where
        sums = np.bincount(self.instrument[chosen], weights=values[chosen], minlength=self.instruments)
        return np.asarray(sums, dtype=np.float64)

    @cached_property
    def count(self) -> Ints:
        """Distinct texts by instrument."""
        return np.bincount(self.instrument, minlength=self.instruments)

    def trust(self, weight: Floats) -> Floats:
        """1 where the model scored everything, `LEXICON_CONFIDENCE` where the lexicon did; in between by weight."""
        by_lexicon = self.total(weight * self.lexical) / self.total(weight)
        return 1.0 - (1.0 - LEXICON_CONFIDENCE) * by_lexicon

    def silent(self) -> dict[int, tuple[Reason, str]]:
        """Instruments about which there is nothing to read."""
        return dict.fromkeys(np.flatnonzero(self.count == 0).tolist(), _NOTHING_SAID)

    def without(self, few: Mask, why: Callable[..., str], *counts: Ints) -> dict[int, tuple[Reason, str]]:
        """`silent`, and the instruments about which there is too little: why, by its numbers of texts."""
        rows = np.flatnonzero(few)
        numbers = list(zip(*(count[rows].tolist() for count in counts), strict=True))
        reasons = {each: (Reason.MISSING_DATA, why(*each)) for each in set(numbers)}
        return {row: reasons[each] for row, each in zip(rows.tolist(), numbers, strict=True)} | self.silent()


def distinct(texts: Texts, as_of_ns: int, credibility: Mapping[str, float], other: float) -> Stories:
    """One row for all texts about an instrument that say the same; those of sources that count nothing are left out.

    credibility: by source; `other` for those that are not in it.
    """
    rows: dict[tuple[int, str], int] = {}
    instrument: list[int] = []
    published_ns: list[int] = []
    trusted: list[float] = []
    words: list[int] = []
    said: dict[str, int] = {}
    columns = (texts.instrument_index.tolist(), texts.source, texts.ts_event_ns.tolist(), texts.text)
    for about, source, ts_event_ns, text in zip(*columns, strict=True):
        counts = credibility.get(source, other)
        if counts == 0.0:
            continue
        key = about, signature(text)
        row = rows.get(key)
        if row is None:
            rows[key] = len(instrument)
            instrument.append(about)
            published_ns.append(ts_event_ns)
            trusted.append(counts)
            words.append(said.setdefault(text, len(said)))
        else:
            published_ns[row] = min(published_ns[row], ts_event_ns)
            trusted[row] = max(trusted[row], counts)
    return Stories(
        instrument=np.array(instrument, dtype=np.int64),
        age_days=(as_of_ns - np.array(published_ns, dtype=np.int64)) / DAY_NS,
        credibility=np.array(trusted, dtype=np.float64),
        words=np.array(words, dtype=np.int64),
        texts=tuple(said),
    )


@lru_cache(maxsize=65_536)
def signature(text: str) -> str:
    """Equal for texts that differ in nothing but case, punctuation, spaces and links."""
    plain = _LINK.sub(" ", unicodedata.normalize("NFKC", text)).casefold()
    return " ".join(_WORD.findall(plain)) or text
