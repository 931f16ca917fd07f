"""The gate's modes and reasons by the numbers of the contract; a contract test holds them equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from execution_core.gate import Mode
from execution_core.types import DenialReason, OrderType, Side, TimeInForce, TradingState

# BasketMode number -> gate mode.
GATE_MODES: Final[Mapping[int, Mode]] = {1: Mode.EACH, 2: Mode.ALL, 3: Mode.FIT}
ALL: Final = Mode.ALL
UNSUPPORTED: Final = int(DenialReason.UNSUPPORTED_ORDER_TYPE)
BUY, SELL = int(Side.BUY), int(Side.SELL)
MARKET, DAY = int(OrderType.MARKET), int(TimeInForce.DAY)
CANCEL_ALL, FLATTEN = int(TradingState.CANCEL_ALL), int(TradingState.FLATTEN)
