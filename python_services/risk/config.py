"""Configuration of the risk service."""

from __future__ import annotations

from dataclasses import dataclass, field

DAY_NS = 86_400_000_000_000
NANO = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much risk an account may take; the fields of risk.proto's Limits, shares in basis points of equity.

    The defaults suit a cash account in equities that is never short: fully invested at most, a third
    in one name. `max_age_ns` spans a weekend and a holiday. `order_minimum_e9` is in the account's currency.
    """

    gross_exposure_bps: int = 10_000
    net_exposure_bps: int = 10_000
    position_bps: int = 3_500
    sector_bps: int = 10_000
    order_bps: int = 3_500
    daily_loss_bps: int = 500
    drawdown_bps: int = 2_500
    var_bps: int = 500
    price_collar_bps: int = 1_000
    short_allowed: bool = False
    max_age_ns: int = 5 * DAY_NS
    orders_per_second: int = 1_000
    order_minimum_e9: int = 100 * NANO
    restricted_instrument_ids: tuple[str, ...] = ()

    def contradiction(self) -> str:
        """What cannot hold together, with the remedy; empty when all is well."""
        for inner, outer in (
            ("net_exposure_bps", "gross_exposure_bps"),
            ("sector_bps", "gross_exposure_bps"),
            ("position_bps", "sector_bps"),
            ("daily_loss_bps", "drawdown_bps"),
        ):
            if getattr(self, inner) > getattr(self, outer):
                return (
                    f"{inner} {getattr(self, inner)} is above {outer} {getattr(self, outer)}, which can then never "
                    f"be reached; lower {inner} or raise {outer}"
                )
        return "order_minimum is below zero; use zero for no minimum" if self.order_minimum_e9 < 0 else ""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Default limits, and how value at risk is estimated.

    limits                those of an account that SetLimits was never called for
    var_decay             weight of a bar against the next younger one (RiskMetrics: 0.94 for days)
    minimum_history_bars  returns that every instrument held needs, else value at risk is absent
    """

    limits: Limits = field(default_factory=Limits)
    var_decay: float = 0.94
    minimum_history_bars: int = 30

    def __post_init__(self) -> None:
        if problem := self.limits.contradiction():
            raise ValueError(f"limits: {problem}")
        if not 0.0 < self.var_decay < 1.0:
            raise ValueError(f"var_decay is {self.var_decay}; use a number between 0 and 1")
        if self.minimum_history_bars < 2:
            raise ValueError(f"minimum_history_bars is {self.minimum_history_bars}; use 2 or more")
