"""From the texts of a snapshot to distinct stories; only what is new since the last snapshot is touched in Python.

The same words count once for an instrument, whoever repeats them: repeated news is old news (Tetlock 2011, "All the
news that's fit to reprint"). They are as old as their first publication, and as credible as the most credible source
that carried them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from python_services.kit.agents import Floats
from python_services.kit.texts import Texts

from .logic import DAY_NS, Ints, Stories

_LINK = re.compile(r"(https?://|\bt\.co/)\S*", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
SPARE = 1_000  # texts that are kept beside those of the last snapshot


class Reader:
    """What a text says does not change, so it is worked out once; what is kept changes no answer.

    Texts of a snapshot are in the order in which they became known, so most of them are those of the snapshot before.
    credibility: by source; `other` for those that are not in it.
    """

    def __init__(self, credibility: Mapping[str, float], other: float) -> None:
        self._credibility = credibility
        self._other = other
        self._forget()

    def read(self, texts: Texts, as_of_ns: int) -> Stories:
        """One row for all texts about an instrument that say the same; without sources that count nothing."""
        number, trust = self._rows(texts)
        kept = np.flatnonzero(trust > 0.0)
        about, number, trust = texts.instrument_index[kept], number[kept], trust[kept]
        first, row = _by_appearance(about * len(self._says) + self._says[number])
        published_ns, credibility = texts.ts_event_ns[kept][first], trust[first]
        np.minimum.at(published_ns, row, texts.ts_event_ns[kept])
        np.maximum.at(credibility, row, trust)
        at, words = _by_appearance(number[first])
        return Stories(
            instrument=about[first],
            age_days=(as_of_ns - published_ns) / DAY_NS,
            credibility=credibility,
            words=words,
            texts=texts.text.take(pa.array(kept[first][at])),
            number=number[first][at],
            scores=self._scores,
        )

    def _forget(self) -> None:
        self._numbers: dict[str, int] = {}  # by text
        self._saying: dict[str, int] = {}  # by what texts say, the number of the first that does
        self._says = np.empty(0, dtype=np.int64)  # by number, that number
        self._scores = np.empty(0, dtype=np.float64)  # by number; a new array whenever a number may mean another text
        self._last: Texts | None = None
        self._last_rows = self._says, self._scores

    def _rows(self, texts: Texts) -> tuple[Ints, Floats]:
        """Of each row the number of its text, and how much its source counts."""
        if len(self._numbers) > 2 * len(texts) + SPARE:
            self._forget()
        gone, same = self._overlap(texts)
        said = texts.text.slice(same).to_pylist()
        new = [text for text in dict.fromkeys(said) if text not in self._numbers]
        for text in new:
            self._numbers[text] = len(self._numbers)
        number = np.array([self._numbers[text] for text in said], dtype=np.int64)
        trust = np.array([self._credibility.get(name, self._other) for name in texts.source.slice(same).to_pylist()])
        if new:
            says = [self._saying.setdefault(signature(text), self._numbers[text]) for text in new]
            self._says = np.concatenate([self._says, np.array(says, dtype=np.int64)])
            self._scores = np.concatenate([self._scores, np.full(len(new), np.nan)])
        old = slice(gone, gone + same)
        self._last_rows = (
            np.concatenate([self._last_rows[0][old], number]),
            np.concatenate([self._last_rows[1][old], trust]),
        )
        self._last = texts
        return self._last_rows

    def _overlap(self, texts: Texts) -> tuple[int, int]:
        """How many rows of the last snapshot are gone, and how many follow them in both."""
        last = self._last
        if last is None or not len(texts):
            return 0, 0
        gone = int(np.searchsorted(last.known_at_ns, texts.known_at_ns[0]))
        same = min(len(last) - gone, len(texts))
        for now, before in ((texts.text, last.text), (texts.source, last.source)):
            if not now.slice(0, same).equals(before.slice(gone, same)):
                return 0, 0
        return gone, same


def signature(text: str) -> str:
    """Equal for texts that differ in nothing but case, punctuation, spaces and links."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    plain = _LINK.sub(" ", plain).casefold()
    return " ".join(_WORD.findall(plain)) or text


def _by_appearance(values: Ints) -> tuple[Ints, Ints]:
    """Where each distinct value stands first, in that order; and of every value, which of them it is."""
    _, first, each = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[each]
