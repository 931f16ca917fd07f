"""Configuration of the execution service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """Worst-case costs that the gate reserves for, and how long the venue may take.

    The fee figures must be at least what the venue charges, or cash could go below zero.
    """

    worst_fee_ppm: int = 0
    worst_fee_per_lot_e9: int = 5_000_000
    minimum_fee_e9: int = 1_000_000_000
    maximum_open_orders: int = 4_096
    venue_timeout_s: float = 2.0
    # What implementation-shortfall schedules assume of the market; see execution_core/algorithms.
    impact_ppm: int = 5_000
    half_spread_ppm: int = 100
