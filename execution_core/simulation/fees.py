"""Commissions and exchange fees as a pure function of fills, in nano money.

fee = max(per_lot x lots + rate x notional, minimum), rounded up to the cent
(``rounding_nano``, towards plus infinity, so a fee is never too small and a rebate never too big).
Rates are in 1e-8 of the notional (1 bp = 10_000); a negative maker rate is a rebate.

Rounding and minimum apply to each row. Where a venue applies them per order rather than per fill,
give the order's cumulative lots and notional, and book the difference to what was charged before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.jit import kernel
from execution_core.types import LiquidityFlag

Int64Array = NDArray[np.int64]

CENT_NANO = 10_000_000

_RATE_ONE = 100_000_000
_MONEY_LIMIT = 2**62
_MAKER = int(LiquidityFlag.MAKER)


@dataclass(frozen=True, kw_only=True)
class FeeModel:
    """One venue's schedule. AUCTION fills pay the taker rate."""

    maker_rate_e8: int = 0
    taker_rate_e8: int = 0
    per_lot_nano: int = 0
    minimum_nano: int = 0
    rounding_nano: int = CENT_NANO

    def __post_init__(self) -> None:
        for name in ("maker_rate_e8", "taker_rate_e8"):
            if abs(getattr(self, name)) > _RATE_ONE:
                raise InvalidValueError(name, "beyond 100 % of the notional", "give 1e-8 of the notional")
        for name in ("per_lot_nano", "minimum_nano"):
            if not 0 <= getattr(self, name) < 2**53:
                raise InvalidValueError(name, "negative or huge", "give nano money")
        if not 1 <= self.rounding_nano < 2**53:
            raise InvalidValueError("rounding_nano", "not positive", "use 1 for none, CENT_NANO for cents")

    def row(self) -> Int64Array:
        """The model as ``fee_nano`` takes it, int64 (5,)."""
        terms = (self.maker_rate_e8, self.taker_rate_e8, self.per_lot_nano, self.minimum_nano, self.rounding_nano)
        return np.array(terms, np.int64)


@kernel
def fee_nano(lots: int, notional: int, liquidity: int, terms: Int64Array) -> int:
    """The fee of one fill, for kernels; `terms` is ``FeeModel.row()``. Same ranges as ``fees_nano``."""
    rate = terms[0] if liquidity == _MAKER else terms[1]
    # Split, because notional x rate overflows; ceil(a / b) = -(-a // b).
    fee = (notional // _RATE_ONE) * rate - (-(notional % _RATE_ONE) * rate // _RATE_ONE) + lots * terms[2]
    if terms[3] > 0:
        fee = max(fee, terms[3])
    return int(-(-fee // terms[4]) * terms[4])


def notional_nano(price: Any, lots: Any, tick_value_nano: Any) -> Int64Array:
    """``|price| x lots x tick_value`` in nano money.

    Shapes broadcast. `tick_value_nano` is what one tick on one lot is worth (with the contract's
    multiplier).

    Raises
    ------
    InvalidValueError
        If a product does not fit in 2**62 nano (4.6e9 units of money), or lots are negative.
    """
    price, lots, value = np.broadcast_arrays(*(_int64(n, a) for n, a in _named(price, lots, tick_value_nano)))
    if (lots < 0).any() or (value < 0).any():
        raise InvalidValueError("lots", "negative lots or tick value", "the side is not a sign here")
    # A float product is off by 2**-52 of itself at most: good enough to keep clear of the limit.
    if (np.abs(price.astype(float)) * lots * value >= 0.99 * _MONEY_LIMIT).any():
        raise InvalidValueError("lots", "notional beyond 2**62 nano", "split the fill or check the units")
    product: Int64Array = np.abs(price) * lots * value
    return product


def fees_nano(lots: Any, notional: Any, liquidity: Any, model: FeeModel) -> Int64Array:
    """Fee of each fill in nano money; positive is paid, negative a rebate.

    Parameters
    ----------
    lots, notional, liquidity
        Broadcastable: lots, nano money (see ``notional_nano``) and ``LiquidityFlag``.
    """
    size = _int64("lots", lots)
    money = _int64("notional", notional)
    flag = _int64("liquidity", liquidity)
    if (size < 0).any() or (money < 0).any() or (money >= _MONEY_LIMIT).any():
        raise InvalidValueError("notional", "negative or beyond 2**62", "give sizes, not signed quantities")
    if not np.isin(flag, list(LiquidityFlag)).all():
        raise InvalidValueError("liquidity", "unknown flag", "use LiquidityFlag")
    if model.per_lot_nano and (size >= _MONEY_LIMIT // 4 // model.per_lot_nano).any():
        raise InvalidValueError("lots", "per-lot fee beyond 2**60 nano", "check the units")

    rate = np.where(flag == LiquidityFlag.MAKER, model.maker_rate_e8, model.taker_rate_e8)
    proportional = (money // _RATE_ONE) * rate - (-(money % _RATE_ONE) * rate // _RATE_ONE)
    fee = proportional + size * model.per_lot_nano
    if model.minimum_nano:
        fee = np.maximum(fee, model.minimum_nano)
    rounded: Int64Array = -(-fee // model.rounding_nano) * model.rounding_nano
    return rounded


def _named(price: Any, lots: Any, value: Any) -> tuple[tuple[str, Any], ...]:
    return ("price", price), ("lots", lots), ("tick_value_nano", value)


def _int64(field: str, value: Any) -> Int64Array:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise InvalidArrayError(field, f"dtype {array.dtype}", "give integers")
    return array.astype(np.int64)
