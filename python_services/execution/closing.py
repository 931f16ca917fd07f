"""The orders of the kill ladder's FLATTEN. Pure."""

from __future__ import annotations

from alphamesh.execution.v1 import order_pb2

from . import modes
from .account import Account


def closing_orders(account: Account, seq: int) -> list[order_pb2.OrderSpec]:
    """Market orders that close every position, reduce-only."""
    return [
        order_pb2.OrderSpec(
            client_order_id=f"flatten-{seq}-{instrument_id}",
            instrument_id=instrument_id,
            side=modes.SELL if position.quantity_e9 > 0 else modes.BUY,  # type: ignore[arg-type]
            order_type=modes.MARKET,  # type: ignore[arg-type]
            time_in_force=modes.DAY,  # type: ignore[arg-type]
            quantity_e9=abs(position.quantity_e9),
            reduce_only=True,
        )
        for instrument_id, position in sorted(account.positions.items())
        if position.quantity_e9
    ]
