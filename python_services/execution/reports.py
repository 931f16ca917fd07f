"""Whether a report of the venue can be true: what cannot is never booked. Pure."""

from __future__ import annotations

from alphamesh.execution.v1 import order_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit import convert
from python_services.kit.errors import ServiceError

from . import orders as states
from .account import Account
from .asks import Catalogue
from .gatekeeper import is_limit
from .modes import LOTS_MAX, MONEY_MAX, PRICE_MAX
from .orders import ImpossibleReportError

BUY = 1


def check_fill(catalogue: Catalogue, account: Account, order: order_pb2.Order, report: venue_pb2.Report) -> None:
    """Raises ImpossibleReportError for a fill that contradicts its order, its instrument or itself.

    An overfill can be true, and is booked: it is an alarm of the ledger.
    """
    spec, name = order.spec, order.spec.instrument_id
    state = states.S(order.state)
    if states.S.FILLED not in states.TRANSITIONS[state]:
        raise ImpossibleReportError(f"a fill of an order that is {state.name}")
    if report.instrument_id != name:
        raise ImpossibleReportError(f"a fill in {report.instrument_id!r} of an order in {name!r}")
    if not report.trade_id:
        raise ImpossibleReportError("a fill without a trade_id")
    if report.last_quantity_e9 <= 0 or report.last_price_e9 <= 0:
        raise ImpossibleReportError("a fill without a quantity or a price")
    try:
        lots = catalogue.lots(name, report.last_quantity_e9, "last_quantity_e9")
        ticks = catalogue.ticks(name, report.last_price_e9, "last_price_e9")
        rate = account.rate(catalogue.currency(name))
        value = convert.notional_e9(report.last_price_e9, report.last_quantity_e9, account.multipliers[name])
        value, fee = rate.cost(value), rate.cost(convert.money_e9(report.fee))
    except ServiceError as error:
        raise ImpossibleReportError(error.message) from None
    if lots > LOTS_MAX or ticks > PRICE_MAX or max(value, abs(fee), abs(account.cash_e9) + value) > MONEY_MAX:
        raise ImpossibleReportError("a fill beyond every range")
    currency = catalogue.currency(name)
    if report.fee.currency_code not in ("", currency):
        raise ImpossibleReportError(f"a fee in {report.fee.currency_code}, {name} is traded in {currency}")
    if is_limit(spec.order_type) and spec.HasField("price_e9"):
        worse = report.last_price_e9 - spec.price_e9 if spec.side == BUY else spec.price_e9 - report.last_price_e9
        # While a replace is pending either limit may be the one that holds at the venue.
        if worse > 0 and state not in (states.S.PENDING_REPLACE, states.S.UNRESOLVED):
            limit, price = convert.decimal(spec.price_e9), convert.decimal(report.last_price_e9)
            raise ImpossibleReportError(f"a fill at {price} of an order whose limit is {limit}")


def check_terms(catalogue: Catalogue, account: Account, order: order_pb2.Order, report: venue_pb2.Report) -> None:
    """Raises ImpossibleReportError for terms that cannot be the order's: none may need more than is reserved.

    Unasked, a venue may only take quantity away (self-trade prevention does).
    """
    terms, spec = report.order, order.spec
    name, identifier = spec.instrument_id, spec.client_order_id
    try:
        lots = catalogue.lots(name, terms.quantity_e9 - order.cumulative_quantity_e9, "quantity_e9")
        ticks = [catalogue.ticks(name, price, "price_e9") for price in (terms.price_e9, terms.trigger_price_e9)]
    except ServiceError as error:
        raise ImpossibleReportError(error.message) from None
    if terms.quantity_e9 <= 0 or max(ticks) > PRICE_MAX or min(ticks) < 0:
        raise ImpossibleReportError("a replace with terms beyond every range")
    if lots > account.gate.reserved_lots(account.reservations.get(identifier, 0)):
        raise ImpossibleReportError("a replace to more than is reserved")
    asked = (states.S.PENDING_REPLACE, states.S.PENDING_CANCEL, states.S.UNRESOLVED)
    if states.S(order.state) not in asked and terms.HasField("price_e9") and terms.price_e9 != spec.price_e9:
        raise ImpossibleReportError("a price that nobody asked for")
