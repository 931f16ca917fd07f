"""What checks report, and the error of data that cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from python_services.kit.config import ConfigError


class Kind(StrEnum):
    """Kinds of findings; the names are those of marketdata.v1.Finding.Kind."""

    GAP = "GAP"
    DUPLICATE = "DUPLICATE"
    SPLIT = "SPLIT"
    DIVIDEND = "DIVIDEND"
    BAD_BAR = "BAD_BAR"
    OFF_TICK = "OFF_TICK"
    ZERO_VOLUME = "ZERO_VOLUME"
    OUT_OF_ORDER = "OUT_OF_ORDER"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One observation. `action` says what was done about it, `detail` shows the values."""

    instrument_id: str
    day: int
    kind: Kind
    action: str
    detail: str


class DatasetError(ConfigError):
    """Data that cannot be used. The service does not start; the message names the file and the remedy."""

    def __init__(self, reason: str, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}; {remedy}")
        self.reason = reason
        self.where = where
        self.problem = problem
        self.remedy = remedy


def count_by_kind(findings: Iterable[Finding]) -> dict[str, int]:
    """Number of findings of each kind that occurs."""
    return dict(sorted(Counter(finding.kind.value for finding in findings).items()))
