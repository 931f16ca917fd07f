"""What a corporate action makes of a position and of an order, in exact integers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from alphamesh.execution.v1 import execution_pb2, order_pb2
from python_services.kit import convert

from .positions import Position

NANO = 1_000_000_000
PRICES = ("price_e9", "trigger_price_e9", "trailing_offset_e9", "limit_offset_e9")
QUANTITIES = ("quantity_e9", "display_quantity_e9")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A position after an action: signed quantity and cost, the cash that it brought, and what of it is realised."""

    quantity_e9: int
    cost_e9: int
    cash_e9: int = 0
    realized_e9: int = 0
    income_e9: int = 0
    mark_e9: int | None = None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """An instrument's increments and multiplier."""

    tick_e9: int
    lot_e9: int
    multiplier_e9: int


def split(position: Position, terms: execution_pb2.Split, grid: Grid, mark_e9: int | None) -> Outcome:
    """New shares for old. The fraction below a lot is sold at the stated price, rounded towards zero.

    The cost goes with the shares: only the fraction's part of it is taken out.
    """
    new, old = terms.new_shares, terms.old_shares
    sign = 1 if position.quantity_e9 >= 0 else -1
    exact = abs(position.quantity_e9) * new  # over `old`
    quantity = exact // old // grid.lot_e9 * grid.lot_e9
    rest = exact - quantity * old  # over `old`
    cash = sign * (rest * terms.fraction_price_e9 * grid.multiplier_e9 // (old * NANO * NANO))
    removed = abs(position.cost_e9) * rest // exact if exact else 0
    removed = removed if position.cost_e9 >= 0 else -removed
    # On its own grid: the next valuation brings the market's.
    mark = None if mark_e9 is None else max(mark_e9 * old // new // grid.tick_e9, 1) * grid.tick_e9
    cost = position.cost_e9 - removed
    if not quantity:
        removed, cost = position.cost_e9, 0
    return Outcome(quantity_e9=sign * quantity, cost_e9=cost, cash_e9=cash, realized_e9=cash - removed, mark_e9=mark)


def dividend(position: Position, terms: execution_pb2.CashDividend, mark_e9: int | None) -> Outcome:
    """Cash for each share, rounded towards zero; a short pays it."""
    sign = 1 if position.quantity_e9 >= 0 else -1
    cash = sign * (abs(position.quantity_e9) * convert.money_e9(terms.per_share) // NANO)
    return Outcome(
        quantity_e9=position.quantity_e9,
        cost_e9=position.cost_e9,
        cash_e9=cash,
        income_e9=cash,
        mark_e9=mark_e9,
    )


def adjusted(order: order_pb2.Order, action: execution_pb2.CorporateAction, grid: Grid) -> order_pb2.OrderSpec | None:
    """What is left of an order, on the terms after the action; None where they are off the increments."""
    spec = order_pb2.OrderSpec()
    spec.CopyFrom(order.spec)
    spec.client_order_id = f"{order.spec.client_order_id}~{action.action_id}"
    spec.quantity_e9 = order.approved_quantity_e9 - order.cumulative_quantity_e9
    spec.reservation_id = 0
    if spec.quantity_e9 <= 0 or spec.HasField("execution_algorithm") or len(spec.client_order_id) > 128:
        return None
    if action.HasField("symbol_change"):
        spec.instrument_id = action.symbol_change.new_instrument_id
        return spec
    new, old = action.split.new_shares, action.split.old_shares
    for fields, up, down, step in ((QUANTITIES, new, old, grid.lot_e9), (PRICES, old, new, grid.tick_e9)):
        for field in fields:
            value = getattr(spec, field)
            if value:
                scaled, rest = divmod(value * up, down)
                if rest or scaled % step or scaled > convert.INT64_MAX:
                    return None
                setattr(spec, field, scaled)
    return spec
