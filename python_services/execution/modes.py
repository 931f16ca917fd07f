"""What modules that speak the contracts need of the core: its modes, ranges and numbers.

Numbers are those of the contracts; a contract test holds them equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from execution_core.gate import Mode
from execution_core.gate.layout import LOTS_MAX, MONEY_MAX, PRICE_MAX, SLOT_MASK
from execution_core.types import GATE_ORDER, DenialReason, OrderType, Side, TimeInForce, TradingState

__all__ = ["GATE_ORDER", "LOTS_MAX", "MONEY_MAX", "PRICE_MAX", "SLOT_MASK", "Mode", "TradingState"]

# BasketMode number -> gate mode.
GATE_MODES: Final[Mapping[int, Mode]] = {1: Mode.EACH, 2: Mode.ALL, 3: Mode.FIT}
ALL: Final = Mode.ALL
UNSUPPORTED: Final = int(DenialReason.UNSUPPORTED_ORDER_TYPE)
BUY, SELL = int(Side.BUY), int(Side.SELL)
MARKET, LIMIT = int(OrderType.MARKET), int(OrderType.LIMIT)
DAY, IOC = int(TimeInForce.DAY), int(TimeInForce.IOC)
CANCEL_ALL, FLATTEN = int(TradingState.CANCEL_ALL), int(TradingState.FLATTEN)
HALTED: Final = int(TradingState.HALTED)
