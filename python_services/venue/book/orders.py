"""Orders, facts and limits as the books know them. Prices in ticks, quantities in lots, money in nano units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from execution_core.simulation.fees import FeeModel
from execution_core.types import LiquidityFlag, OrderType, Side

from .charge import Charge

Key = tuple[str, str]  # account_id, client_order_id

HAS_LIMIT: Final = frozenset({OrderType.LIMIT, OrderType.ICEBERG, OrderType.STOP_LIMIT, OrderType.LIMIT_IF_TOUCHED})
HAS_NO_TRIGGER: Final = frozenset({OrderType.MARKET, OrderType.LIMIT, OrderType.ICEBERG})


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What an order asks for. `self_trade` 0: the schedule's."""

    account_id: str
    client_order_id: str
    instrument: int
    side: int
    order_type: int
    time_in_force: int
    lots: int
    price: int | None = None
    trigger: int | None = None
    trail: int = 0
    limit_offset: int = 0
    display: int = 0
    expire_ns: int = 0
    post_only: bool = False
    reduce_only: bool = False
    self_trade: int = 0

    @property
    def key(self) -> Key:
        """Identity at this venue."""
        return self.account_id, self.client_order_id

    @property
    def prices(self) -> list[int]:
        """The prices that must be on the ladder."""
        used = (
            self.price if self.order_type in HAS_LIMIT else None,
            None if self.order_type in HAS_NO_TRIGGER else self.trigger,
        )
        return [price for price in used if price is not None]


@dataclass
class Order:
    """An order and where it stands. `order_id` is the engine's; `leaves` is 0 when closed."""

    terms: Terms
    number: int
    account: int
    order_id: int = 0
    filled: int = 0
    leaves: int = 0
    charge: Charge = field(default_factory=Charge)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened to an order. `kind` is a number of the contract's Report.Kind."""

    order: Order
    kind: int
    ts_ns: int
    reason: str
    filled: int
    leaves: int
    price: int = 0
    lots: int = 0
    fee: int = 0
    liquidity: int = 0
    trade: int = 0

    @property
    def is_trade(self) -> bool:
        """Whether this fill stands for its trade: the taker's, or the buyer's in an auction."""
        if self.liquidity == LiquidityFlag.AUCTION:
            return self.order.terms.side == Side.BUY
        return self.liquidity == LiquidityFlag.TAKER

    @property
    def aggressor(self) -> int:
        """Side that took liquidity, 0 in an auction."""
        return self.order.terms.side if self.liquidity == LiquidityFlag.TAKER else 0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What the books depend on besides their commands. `self_trade` 0 is no prevention."""

    fees: FeeModel
    self_trade: int
    phase: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Price band, inclusive, and reference price; None where there is none."""

    lower: int | None = None
    upper: int | None = None
    reference: int | None = None

    @property
    def prices(self) -> list[int]:
        """Those that are there."""
        return [price for price in (self.lower, self.upper, self.reference) if price is not None]


def make_schedule(
    *,
    maker_rate_e8: int,
    taker_rate_e8: int,
    fee_per_lot_e9: int,
    minimum_fee_e9: int,
    self_trade: int,
    phase: int,
) -> Schedule:
    """A schedule. Raises InvalidValueError for fees out of range."""
    fees = FeeModel(
        maker_rate_e8=maker_rate_e8,
        taker_rate_e8=taker_rate_e8,
        per_lot_nano=fee_per_lot_e9,
        minimum_nano=minimum_fee_e9,
    )
    return Schedule(fees=fees, self_trade=self_trade, phase=phase)
