"""What a person asks a session for, and what they get who ask for nothing in particular."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Wish:
    """`end` is the last trading day; turnover is one-way and of one day; `policy` is a file like policy.yaml."""

    start: date = date(2009, 7, 1)
    end: date = date(2010, 6, 30)
    instruments: tuple[str, ...] = ("AAPL", "MSFT", "IBM", "GOOG")
    account: str = "demo"
    cash: str = "1000000"
    currency: str = "USD"
    method: str = "MEAN_VARIANCE"
    lookback: int = 126
    risk_aversion: float = 5.0
    maximum_weight: float = 0.35
    maximum_turnover: float = 0.25
    short_allowed: bool = False
    policy: Path | None = None
    seed: int = 7
