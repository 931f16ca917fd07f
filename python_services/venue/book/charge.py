"""What an order has been charged: the fee schedule applied to the order as a whole, exactly.

The schedule of `execution_core.simulation.fees`, in Python's integers: an order may fill as maker and
as taker, and its notional is bounded by nothing but its quantity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from execution_core.simulation.fees import FeeModel
from execution_core.types import LiquidityFlag

RATE_ONE: Final = 100_000_000


@dataclass
class Charge:
    """Fees of one order so far. `proportional` is notional times rate, in 1e-8 nano units."""

    lots: int = 0
    proportional: int = 0
    charged: int = 0

    def fill(self, lots: int, notional: int, liquidity: int, fees: FeeModel) -> int:
        """The fee of one more fill, nano units; negative is a rebate. AUCTION fills pay the taker rate."""
        rate = fees.maker_rate_e8 if liquidity == LiquidityFlag.MAKER else fees.taker_rate_e8
        self.lots += lots
        self.proportional += notional * rate
        total = -(-self.proportional // RATE_ONE) + self.lots * fees.per_lot_nano
        if fees.minimum_nano:
            total = max(total, fees.minimum_nano)
        total = -(-total // fees.rounding_nano) * fees.rounding_nano
        fee, self.charged = total - self.charged, total
        return fee
