"""Configuration of the feature store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """backfills_waiting: jobs that may wait for their turn."""

    backfills_waiting: int = 16

    def __post_init__(self) -> None:
        if self.backfills_waiting < 1:
            raise ValueError(f"backfills_waiting is {self.backfills_waiting}; use 1 or more")
