"""Configuration of the paper venue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from execution_core.types import SelfTradePrevention, SessionPhase

BARS: Final = "bars"
BOOK: Final = "book"
NONE: Final = "NONE"


@dataclass(frozen=True, kw_only=True)
class Config:
    """How it fills and what it charges; rates in parts per million of price or volume, or 1e-8 of notional.

    market: "bars" fills on the bars that come after an order; "book" lets orders trade with each other.
    Fees are charged in the instrument's currency: `currency` is the one that the amounts here are stated in, and an
    instrument of another pays the same numbers of its own.
    The fill model (half spread, impact, cap, slippage) is about bars, the last two keys are about books.
    """

    market: str = BARS
    half_spread_ppm: int = 100
    impact_ppm: int = 5_000
    participation_cap_ppm: int = 100_000
    slippage_bound_ppm: int = 50_000
    fee_per_lot_e9: int = 5_000_000
    taker_rate_e8: int = 0
    maker_rate_e8: int = 0
    minimum_fee_e9: int = 1_000_000_000
    currency: str = "USD"
    initial_phase: str = SessionPhase.CONTINUOUS.name
    self_trade_prevention: str = SelfTradePrevention.CANCEL_NEWEST.name

    def __post_init__(self) -> None:
        _one_of("market", self.market, (BARS, BOOK))
        _one_of("initial_phase", self.initial_phase, SessionPhase.__members__)
        _one_of("self_trade_prevention", self.self_trade_prevention, (NONE, *SelfTradePrevention.__members__))


def _one_of(key: str, value: str, known: Iterable[str]) -> None:
    names = tuple(known)
    if value not in names:
        raise ValueError(f"{key} is {value!r}; use one of {', '.join(names)}")
