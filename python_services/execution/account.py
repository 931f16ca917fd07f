"""One account: what its events have made of it. Exact integers, nano units of its currency."""

from __future__ import annotations

from dataclasses import dataclass, field

from alphamesh.execution.v1 import execution_pb2, order_pb2
from python_services.kit import convert

from .gatekeeper import Figures, Gatekeeper
from .positions import Position
from .reservations import Reservations

DAY_NS = 86_400_000_000_000


@dataclass
class Account:
    """State of one account; only the ledger changes it."""

    account_id: str
    currency: str
    gate: Gatekeeper
    cash_e9: int
    multipliers: dict[str, int]
    capital_e9: int
    held: Reservations
    figures: Figures
    fees_e9: int = 0
    realized_e9: int = 0
    income_e9: int = 0
    positions: dict[str, Position] = field(default_factory=dict)
    traded: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    orders: dict[str, order_pb2.Order] = field(default_factory=dict)
    open_ids: dict[str, None] = field(default_factory=dict)
    reservations: dict[str, int] = field(default_factory=dict)
    triggered: set[str] = field(default_factory=set)
    fills: list[order_pb2.Fill] = field(default_factory=list)
    trade_ids: set[str] = field(default_factory=set)
    inferred: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    alarms: list[execution_pb2.Alarm] = field(default_factory=list)
    actions: dict[str, execution_pb2.CorporateAction] = field(default_factory=dict)
    state_reason: str = ""
    children: dict[str, list[str]] = field(default_factory=dict)
    schedules: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    duplicate_fills: int = 0
    policy_version: int = 0
    valued_ns: int = 0
    equity_e9: int | None = None

    def value(self, marks: dict[str, int]) -> int:
        """Cash plus positions at `marks` (falling back on the last ones), nano units."""
        total = self.cash_e9
        for instrument_id, position in self.positions.items():
            if position.quantity_e9:
                mark = marks.get(instrument_id, self.marks.get(instrument_id))
                if mark is not None:
                    total += convert.notional_e9(mark, position.quantity_e9, self.multipliers[instrument_id])
        return total

    def unrealized(self) -> int | None:
        """Positions at their marks less their cost; None while one has no mark."""
        total = 0
        for instrument_id, position in self.positions.items():
            if position.quantity_e9:
                mark = self.marks.get(instrument_id)
                if mark is None:
                    return None
                value = convert.notional_e9(mark, position.quantity_e9, self.multipliers[instrument_id])
                total += value - position.cost_e9
        return total

    def message(self) -> execution_pb2.Account:
        """The account as clients see it."""
        message = execution_pb2.Account(
            account_id=self.account_id,
            cash=self._money(self.cash_e9),
            reserved=self._money(self.gate.reserved_cash),
            fees=self._money(self.fees_e9),
            realized_pnl=self._money(self.realized_e9),
            trading_state=self.gate.trading_state,  # type: ignore[arg-type]
            policy_version=self.policy_version,
            open_orders=len(self.open_ids),
            trading_state_reason=self.state_reason,
            alarms=self.alarms,
            corporate_action_cash=self._money(self.income_e9),
            reservations=self.held.count,
        )
        unrealized = self.unrealized()
        if unrealized is not None:
            message.unrealized_pnl.CopyFrom(self._money(unrealized))
        if self.equity_e9 is not None:
            message.equity.CopyFrom(self._money(self.equity_e9))
        for instrument_id in sorted(self.positions):
            position = self.positions[instrument_id]
            if position.quantity_e9:
                message.positions.add(
                    instrument_id=instrument_id,
                    quantity_e9=position.quantity_e9,
                    cost=self._money(position.cost_e9),
                    mark_e9=self.marks.get(instrument_id),
                )
        return message

    def open_orders(self) -> list[order_pb2.Order]:
        """Orders that are not closed, in order of submission."""
        return [self.orders[identifier] for identifier in self.open_ids]

    def _money(self, amount_e9: int) -> convert.money_pb2.Money:
        return convert.money(amount_e9, self.currency)
