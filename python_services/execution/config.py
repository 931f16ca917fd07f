"""Configuration of the execution service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """Worst-case costs that the gate reserves for, and how long the venue may take.

    The fee figures must be at least what the venue charges, or cash could go below zero. They are amounts of the
    instrument's currency.
    """

    worst_fee_ppm: int = 0
    worst_fee_per_lot_e9: int = 5_000_000
    minimum_fee_e9: int = 1_000_000_000
    # What orders in another currency than the account's reserve on top, parts per million of their value: how far the
    # exchange rate may rise from the last valuation to the fill before they cost more than was reserved.
    fx_buffer_ppm: int = 20_000
    # What a conversion of currencies costs, parts per million of what it brings.
    conversion_spread_ppm: int = 100
    # Open orders and reservations of one account at a time.
    maximum_open_orders: int = 4_096
    # Past orders that the gate remembers at least: no rate limit can be higher.
    remembered_orders: int = 4_096
    venue_timeout_s: float = 2.0
    # How long a request is repeated while the venue is away, before its orders are UNRESOLVED.
    venue_patience_s: float = 5.0
    # How often the ledger is compared with the venue besides at starts and reconnects; 0: only then. Wall time:
    # a comparison that finds nothing leaves no trace in the ledger.
    reconcile_interval_s: float = 30.0
    # What is done about an order that the venue works and the ledger does not know: "cancel" or "adopt". One that
    # the gate does not let pass is cancelled in any case.
    orphan_orders: str = "cancel"
    # What implementation-shortfall schedules assume of the market; see execution_core/algorithms.
    impact_ppm: int = 5_000
    half_spread_ppm: int = 100

    def __post_init__(self) -> None:
        if self.orphan_orders not in ("cancel", "adopt"):
            raise ValueError(f"orphan_orders is {self.orphan_orders!r}; use cancel or adopt")
        for name in ("fx_buffer_ppm", "conversion_spread_ppm"):
            if not 0 <= getattr(self, name) < 1_000_000:
                raise ValueError(f"{name} is {getattr(self, name)}; use 0 to 999999")
        if self.worst_fee_ppm + self.fx_buffer_ppm > 1_000_000:
            raise ValueError("worst_fee_ppm and fx_buffer_ppm are more than the whole; lower one of them")
        if self.reconcile_interval_s < 0:
            raise ValueError(f"reconcile_interval_s is {self.reconcile_interval_s}; use 0 or more")
