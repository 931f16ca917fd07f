"""A corporate action, step by step: clear the way, record it, send what is left of the orders again."""

from __future__ import annotations

from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from python_services.kit import convert
from python_services.kit.currency import SAME
from python_services.kit.errors import aborted, invalid, not_found, precondition

from . import corporate_actions
from . import orders as states
from .account import Account
from .desk import Desk
from .modes import LOTS_MAX, MONEY_MAX

Action = execution_pb2.CorporateAction


def check(desk: Desk, account: Account, action: Action, where: str) -> bool:
    """Whether the action, the field `where` of a request, is new to the account.

    Raises ServiceError for one that cannot be applied.
    """
    catalogue, known = desk.ledger.catalogue, account.actions.get(action.action_id)
    if known is not None and known != action:
        raise precondition(
            "ACTION_ID_REUSED", f"action_id {action.action_id} belongs to an action with other content; use a new one"
        )
    if action.instrument_id not in catalogue:
        raise not_found("instrument", action.instrument_id, "name one that market data lists")
    if action.HasField("cash_dividend"):
        amount, currency = action.cash_dividend.per_share, catalogue.currency(action.instrument_id)
        if amount.currency_code != currency or convert.money_e9(amount) <= 0:
            raise invalid(f"{where}.cash_dividend.per_share", f"is not a sum in {currency}", "convert it first")
    if action.HasField("symbol_change"):
        name = action.symbol_change.new_instrument_id
        if name not in catalogue or name == action.instrument_id:
            raise not_found("instrument", name, "name another one that market data lists")
        alike = catalogue.grid(name) == catalogue.grid(action.instrument_id)
        if not alike or catalogue.currency(name) != catalogue.currency(action.instrument_id):
            problem = f"{name} has other increments, multiplier or currency than {action.instrument_id}"
            raise invalid(f"{where}.symbol_change.new_instrument_id", problem, "sell and buy instead")
    return known is None


async def apply(
    desk: Desk, account: Account, action: Action, cause: str
) -> tuple[list[order_pb2.Order], list[order_pb2.Order]]:
    """(orders cancelled for it, orders sent for them). Raises ServiceError (ABORTED) while an order is in doubt."""
    cleared = [] if action.HasField("cash_dividend") else await _clear(desk, account, action, cause)
    after = desk.ledger.outcome(account, action)
    _check_range(desk, account, action, after)
    position = account.positions.get(action.instrument_id)
    currency = desk.ledger.catalogue.currency(action.instrument_id)
    event = events_pb2.CorporateActionApplied(
        account_id=account.account_id,
        action=action,
        old_quantity_e9=0 if position is None else position.quantity_e9,
        new_quantity_e9=after.quantity_e9,
        cash=convert.money(after.cash_e9, currency),
        cost=convert.money(after.cost_e9, currency),
        mark_e9=after.mark_e9,
    )
    desk.record(event, action.ts_event_ns, cause=cause)
    grid = desk.ledger.catalogue.grid(action.instrument_id)
    specs = [spec for order in cleared if (spec := corporate_actions.adjusted(order, action, grid)) is not None]
    if specs:
        to_send = desk.initialize(account, specs, execution_pb2.BASKET_MODE_INDEPENDENT, cause)
        await desk.journal.commit()
        await desk.send(to_send)
    return cleared, [account.orders[spec.client_order_id] for spec in specs]


def _check_range(desk: Desk, account: Account, action: Action, after: corporate_actions.Outcome) -> None:
    grid = desk.ledger.catalogue.grid(action.instrument_id)
    rate = account.rate(desk.ledger.catalogue.currency(action.instrument_id)) if after.cash_e9 else SAME
    lots, cash = abs(after.quantity_e9) // grid.lot_e9, abs(account.cash_e9 + rate.worth(after.cash_e9))
    value = abs(after.quantity_e9) * (after.mark_e9 or 0) * grid.multiplier_e9 // convert.NANO**2
    if abs(after.quantity_e9) > convert.INT64_MAX or lots > LOTS_MAX or max(cash, value) > MONEY_MAX:
        raise invalid(
            "actions",
            f"{action.action_id} takes the account out of the range of its numbers",
            "check ratio and amounts",
        )


async def _clear(desk: Desk, account: Account, action: Action, cause: str) -> list[order_pb2.Order]:
    """Ends what stands on the old terms: reservations, and orders at the venue."""
    catalogue = desk.ledger.catalogue
    index = int(catalogue.index([action.instrument_id])[0])
    rows = account.held.listed()
    desk.release(account, rows["id"][rows["instrument"] == index].tolist(), cause)
    orders = [order for order in account.open_orders() if order.spec.instrument_id == action.instrument_id]
    await desk.cancel(account, orders, f"corporate action {action.action_id}", cause)
    left = [order.spec.client_order_id for order in orders if order.state not in states.CLOSED]
    if left:
        raise aborted(
            "ORDERS_IN_DOUBT",
            f"orders {', '.join(left)} wait for the venue's answer; apply the action again when it is there",
        )
    return [order for order in orders if order.state == states.S.CANCELED]
