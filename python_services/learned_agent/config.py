"""Configuration of the learned agents."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """The model behind `learned.direction`, the bars that its features need, and the patience with what it is asked.

    A model server that failed `breaker_failures` times in a row is not asked for `breaker_reset_s`.
    `start_patience_s`: how long a start waits for the first champion.
    """

    model_id: str = "daily_direction"
    minimum_bars: int = 121
    inference_timeout_s: float = 0.5
    breaker_failures: int = 3
    breaker_reset_s: float = 1.0
    start_patience_s: float = 60.0
