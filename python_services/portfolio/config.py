"""Configuration of the portfolio service."""

from __future__ import annotations

from dataclasses import dataclass

COVARIANCES = ("ledoit_wolf", "ledoit_wolf_constant_correlation", "ewma", "sample")


@dataclass(frozen=True, kw_only=True)
class Config:
    """How the risk of a proposal is estimated, and what stays in cash.

    covariance            estimator over the snapshot's closes, one of COVARIANCES
    ewma_decay            weight of a bar against the next younger one, for "ewma"
    minimum_history_bars  returns that an instrument needs to be optimised; with fewer it is held
    cash_buffer_bps       share of equity that targets leave uninvested: fees, slippage, the gap to the next open
    periods_per_year      bars a year, for annualised figures
    """

    covariance: str = "ledoit_wolf"
    ewma_decay: float = 0.97
    minimum_history_bars: int = 30
    cash_buffer_bps: int = 100
    periods_per_year: float = 252.0

    def __post_init__(self) -> None:
        if self.covariance not in COVARIANCES:
            raise ValueError(f"covariance is {self.covariance!r}; use one of {', '.join(COVARIANCES)}")
        if not 0.0 < self.ewma_decay < 1.0:
            raise ValueError(f"ewma_decay is {self.ewma_decay}; use a number between 0 and 1")
        if self.minimum_history_bars < 2:
            raise ValueError(f"minimum_history_bars is {self.minimum_history_bars}; use 2 or more")
        if not 0 <= self.cash_buffer_bps < 10_000:
            raise ValueError(f"cash_buffer_bps is {self.cash_buffer_bps}; use 0 to 9999")
        if self.periods_per_year <= 0.0:
            raise ValueError(f"periods_per_year is {self.periods_per_year}; use a number above zero")
