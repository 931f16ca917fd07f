"""Configuration of the coordinator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which agent services it asks, the horizon of the combined view, and its patience with a step.

    An agent service that gave no answer in `breaker_failures` decisions in a row is not asked for `breaker_reset_s`.
    """

    agents: tuple[str, ...]
    horizon_bars: int = 5
    # A service that restarts is back within seconds; every step can be repeated without harm.
    step_retry_s: float = 30.0
    breaker_failures: int = 3
    breaker_reset_s: float = 2.0
