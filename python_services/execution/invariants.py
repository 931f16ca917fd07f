"""What must hold after every event, and what is done when it does not. Pure.

Caps bind what an event adds: a price that moves, or a policy that tightens, may leave an account above a
cap, and then nothing may take it further. So a breach is a figure beyond its cap that the event made worse.
A reduction may cost more cash than is free (buying back a short at a worse price): it is never a breach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from alphamesh.execution.v1 import execution_pb2
from python_services.kit import convert

from .gatekeeper import Figures
from .modes import TradingState

Kind = execution_pb2.Alarm.Kind

# The step of the kill ladder that a breach takes. Books that contradict each other stop everything; too much
# exposure still lets it be reduced. An overfill is for a person to look at: its effect on the caps counts.
STEP: Final = {
    Kind.KIND_CASH_BELOW_RESERVED: TradingState.CANCEL_ALL,
    Kind.KIND_GROSS_ABOVE_CAP: TradingState.CANCEL_ALL,
    Kind.KIND_POSITION_ABOVE_CAP: TradingState.CANCEL_ALL,
    Kind.KIND_BOOKS_DO_NOT_BALANCE: TradingState.HALTED,
    Kind.KIND_OVERFILL: TradingState.ACTIVE,
    Kind.KIND_REPORT_REFUSED: TradingState.HALTED,
    Kind.KIND_UNRECONCILED: TradingState.HALTED,
}


@dataclass(frozen=True, kw_only=True)
class Breach:
    """An invariant that does not hold any more: the account, what, and the figures."""

    account_id: str
    kind: execution_pb2.Alarm.Kind.ValueType
    detail: str

    @property
    def state(self) -> TradingState:
        """The trading state that it calls for."""
        return STEP[self.kind]


@dataclass(frozen=True, kw_only=True)
class Postings:
    """What one event posts in one currency, nano units. Debits equal credits: what it moves sums to zero."""

    cash: int
    cost: int = 0
    fees: int = 0
    realized: int = 0
    income: int = 0
    funding: int = 0

    @property
    def imbalance(self) -> int:
        """0 when the event balances: assets and costs on one side, profit, income and funding on the other."""
        return self.cash + self.cost + self.fees - self.realized - self.income - self.funding


def exposure(
    before: Figures, after: Figures, caps: tuple[int, int] | None, *, reduction: bool, name: Callable[[int], str]
) -> list[tuple[execution_pb2.Alarm.Kind.ValueType, str]]:
    """Caps that an event broke. `reduction`: it is about a side that reduces a position; `name`: of an index."""
    found = []
    if after.free < 0 and after.free < before.free and not reduction:
        detail = (
            f"cash less reservations is {convert.decimal(after.free)}, before it was {convert.decimal(before.free)}"
        )
        found.append((Kind.KIND_CASH_BELOW_RESERVED, detail))
    if caps is None:
        return found
    gross_cap, position_cap = caps
    if after.gross > gross_cap and after.gross > before.gross:
        detail = f"gross exposure is {convert.decimal(after.gross)}, the cap {convert.decimal(gross_cap)}"
        found.append((Kind.KIND_GROSS_ABOVE_CAP, detail))
    if after.worst.max(initial=0) <= position_cap:
        return found
    over = np.flatnonzero((after.worst > position_cap) & (after.worst > before.worst))
    if over.size:
        worst = convert.decimal(int(after.worst[over[0]]))
        detail = f"exposure to {name(int(over[0]))} is {worst}, the cap {convert.decimal(position_cap)}"
        found.append((Kind.KIND_POSITION_ABOVE_CAP, detail))
    return found
