"""What the ledger and the venue must agree on after a start, and the orders that close positions."""

from __future__ import annotations

from alphamesh.execution.v1 import order_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from python_services.kit import telemetry

from . import modes
from . import orders as states
from .account import Account
from .desk import Desk

S = states.S


async def at_start(desk: Desk, venue: venue_pb2_grpc.VenueServiceAsyncStub) -> None:
    """Catches up with the venue's reports, then settles every order whose fate is not known.

    An order that the venue does not know was never taken: it is rejected. A failed query is not an
    answer: it raises, and the service does not serve.
    """
    accounts = desk.ledger.accounts.values()
    for account in accounts:
        account.gate.set_status(reconciling=True)
    await desk.link.caught_up()
    for account in accounts:
        known = await _known_orders(venue, account.account_id)
        for order in account.open_orders():
            if order.spec.HasField("execution_algorithm"):
                if order.state == S.SUBMITTED:
                    desk.resolve(order, S.ACCEPTED, "worked in child orders")
            elif order.state in (S.SUBMITTED, S.UNRESOLVED) and order.spec.client_order_id not in known:
                telemetry.logger().warning("order never reached the venue", order=order.spec.client_order_id)
                desk.resolve(order, S.REJECTED, "the venue does not know the order")
            elif order.state in (S.PENDING_CANCEL, S.PENDING_REPLACE, S.UNRESOLVED, S.SUBMITTED):
                triggered = order.spec.client_order_id in account.triggered
                if known[order.spec.client_order_id].open:
                    after = states.working(order.cumulative_quantity_e9, triggered)
                    desk.resolve(order, after, "found working at the venue")
    await desk.journal.commit()
    for account in accounts:
        account.gate.set_status(reconciling=False)


async def _known_orders(
    venue: venue_pb2_grpc.VenueServiceAsyncStub, account_id: str
) -> dict[str, venue_pb2.VenueOrderStatus]:
    known: dict[str, venue_pb2.VenueOrderStatus] = {}
    token = ""
    while True:
        request = venue_pb2.ListOrdersRequest(account_id=account_id, page_size=5000, page_token=token)
        response = await venue.ListOrders(request)
        known.update((status.order.client_order_id, status) for status in response.orders)
        token = response.next_page_token
        if not token:
            return known


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
