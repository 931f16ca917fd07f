"""Configuration of the coordinator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which agent services it asks, the horizon of the combined view, and its patience with a step.

    An agent service that gave no answer in `breaker_failures` decisions in a row is not asked for `breaker_reset_s`.
    pace_s: seconds from the beginning of a decision to that of the next, at least: a session to look at, or to measure
    with time in between, as a market leaves it. 0: at once. No part of any decision.
    """

    agents: tuple[str, ...]
    horizon_bars: int = 5
    # A service that restarts is back within seconds; every step can be repeated without harm.
    step_retry_s: float = 30.0
    pace_s: float = 0.0
    breaker_failures: int = 3
    breaker_reset_s: float = 2.0

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not 0.0 <= self.pace_s <= 3600.0:
            raise ValueError(f"pace_s is {self.pace_s}; use 0 to 3600")
