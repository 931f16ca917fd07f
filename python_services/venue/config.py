"""Configuration of the paper venue."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """How it fills and what it charges; rates in parts per million of price or volume."""

    half_spread_ppm: int = 100
    impact_ppm: int = 5_000
    participation_cap_ppm: int = 100_000
    slippage_bound_ppm: int = 50_000
    fee_per_lot_e9: int = 5_000_000
    taker_rate_e8: int = 0
    maker_rate_e8: int = 0
    minimum_fee_e9: int = 1_000_000_000
    currency: str = "USD"
