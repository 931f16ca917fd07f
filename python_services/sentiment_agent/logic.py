"""What the agents look at: distinct texts with their scores, a row per instrument and text. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from python_services.kit.agents import Floats, Mask, Reason, Window

DAY_NS = 86_400 * 10**9
DAYS = 30  # of texts in a snapshot
HALF_LIFE_DAYS = 3.0
# Standard deviation of the model's scores over the texts that it never saw (README.md), whatever they are about.
SPREAD = 0.4
# The lexicon's scores go with the annotators' labels at a correlation of 0.26, the model's at 0.71 (README.md).
LEXICON_CONFIDENCE = 0.26 / 0.71

Ints = NDArray[np.int64]

_NOTHING_SAID = (Reason.MISSING_DATA, f"no text about it in the last {DAYS} days")


@dataclass(frozen=True, kw_only=True)
class Stories:
    """Distinct texts of each instrument, the oldest first: columns, and the words to be scored.

    age_days: since the first publication. credibility: of the best source. words: number in `texts` of what it says.
    number: of each of `texts`, its place in `scores`, which are those of the reader that made this; NaN while unknown.
    """

    instrument: Ints
    age_days: Floats
    credibility: Floats
    words: Ints
    texts: pa.StringArray
    number: Ints
    scores: Floats


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
