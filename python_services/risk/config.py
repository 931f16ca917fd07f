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
    stressed_loss_bps: int | None = None

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
        if self.stressed_loss_bps is not None and self.stressed_loss_bps <= 0:
            return f"stressed_loss_bps is {self.stressed_loss_bps}; use more than 0, or leave it out for no limit"
        return "order_minimum is below zero; use zero for no minimum" if self.order_minimum_e9 < 0 else ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a risk report is computed.

    levels                     confidences of value at risk and expected shortfall
    historical                 "plain", or "filtered": returns rescaled to today's volatility (Hull and White 1998)
    draws, degrees, seed       Monte Carlo; degrees of Student-t returns, null for normal ones
    stress                     file of stress scenarios; "bundled:NAME" is one that comes with this service
    participation              share of mean volume at which positions can be closed
    volume_bars                bars of that mean
    spread_bps                 mean of (ask - bid) / mid; bars carry no quotes, so it is supposed
    spread_deviation_bps       its standard deviation
    """

    levels: tuple[float, ...] = (0.95, 0.99)
    historical: str = "filtered"
    draws: int = 20_000
    degrees: float | None = 5.0
    seed: int = 7
    stress: str = "bundled:scenarios.yaml"
    participation: float = 0.1
    volume_bars: int = 20
    spread_bps: float = 2.0
    spread_deviation_bps: float = 1.0

    def __post_init__(self) -> None:
        if not self.levels or not all(0.5 < level < 1.0 for level in self.levels):
            raise ValueError(f"levels is {list(self.levels)}; use confidences between 0.5 and 1, such as 0.99")
        if self.historical not in ("plain", "filtered"):
            raise ValueError(f"historical is {self.historical!r}; use plain or filtered")
        if not 1_000 <= self.draws <= 1_000_000:
            raise ValueError(f"draws is {self.draws}; use 1000 to 1000000")
        if self.degrees is not None and not self.degrees > 2.0:
            raise ValueError(f"degrees is {self.degrees}; use more than 2, or null for normal returns")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; use 0 or more")
        if not 0.0 < self.participation <= 1.0:
            raise ValueError(f"participation is {self.participation}; use a share above 0, at most 1")
        if self.volume_bars < 1:
            raise ValueError(f"volume_bars is {self.volume_bars}; use 1 or more")
        for name in ("spread_bps", "spread_deviation_bps"):
            if not 0.0 <= getattr(self, name) <= 10_000.0:
                raise ValueError(f"{name} is {getattr(self, name)}; use 0 to 10000")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Default limits, and how risk is estimated.

    limits                those of an account that SetLimits was never called for
    var_decay             weight of a bar against the next younger one (RiskMetrics: 0.94 for days)
    minimum_history_bars  returns that every instrument held needs, else value at risk is absent
    report                see Report
    """

    limits: Limits = field(default_factory=Limits)
    var_decay: float = 0.94
    minimum_history_bars: int = 30
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        if problem := self.limits.contradiction():
            raise ValueError(f"limits: {problem}")
        if not 0.0 < self.var_decay < 1.0:
            raise ValueError(f"var_decay is {self.var_decay}; use a number between 0 and 1")
        if self.minimum_history_bars < 2:
            raise ValueError(f"minimum_history_bars is {self.minimum_history_bars}; use 2 or more")
