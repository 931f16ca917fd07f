"""Recorded answers, so that a replay needs no model: a file of questions' hashes and what came of each question.

Whatever is recorded is the answer, also to the same question again, and also when it was that there was none: a
decision that is computed again says what it said.
"""

from __future__ import annotations

from pathlib import Path

from python_services.kit.config import ConfigError

from .exchange import Outcome, Question, read, written
from .lines import Lines


class Cassette:
    """Reads all of `path`; with `record` it takes more."""

    def __init__(self, path: Path, *, record: bool) -> None:
        self._lines = Lines(path, write=record)
        self._found: dict[str, Outcome] = {}
        for number, line in enumerate(self._lines.read(), start=1):
            try:
                sha256, outcome = read(line)
            except (KeyError, TypeError) as error:
                raise ConfigError(f"{path}:{number}: no recorded answer ({error}); restore the file") from None
            self._found[sha256] = outcome

    def __len__(self) -> int:
        return len(self._found)

    def find(self, question: Question) -> Outcome | None:
        """What was recorded."""
        return self._found.get(question.sha256())

    def keep(self, question: Question, outcome: Outcome) -> None:
        """Durable when it returns."""
        self._lines.append(written(question, outcome))
        self._found[question.sha256()] = outcome

    def close(self) -> None:
        """Lets another record."""
        self._lines.close()
