"""The ledger and the venue, compared: at starts, after reconnects, from time to time, and when somebody asks.

What can be explained is settled by events of the ledger; what cannot stops trading. A query that fails is an
error and nothing else: no answer is never taken for "no orders".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import grpc

from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from python_services.kit import convert, ids, telemetry
from python_services.kit.errors import ServiceError
from python_services.kit.signal import within

from . import modes
from . import orders as states
from .account import Account
from .config import Config
from .desk import Desk

S = states.S
Difference = execution_pb2.Difference
Kind = execution_pb2.Difference.Kind
Trigger = execution_pb2.Reconciliation.Trigger
Statuses = Mapping[str, venue_pb2.VenueOrderStatus]

# A difference counts when it is still there after so long: news may be on their way.
CONFIRM_S = 0.2
PAGE = 5_000


class Reconciler:
    """Compares one account at a time and settles what it can."""

    def __init__(self, desk: Desk, venue: venue_pb2_grpc.VenueServiceAsyncStub, config: Config) -> None:
        self._desk = desk
        self._venue = venue
        self._config = config
        self._busy = asyncio.Lock()
        self.last: dict[str, execution_pb2.Reconciliation] = {}

    async def at_start(self) -> None:
        """Catches up with the venue's reports and compares before the service serves. Raises when it cannot."""
        accounts = list(self._desk.ledger.accounts.values())
        for account in accounts:
            account.gate.set_status(reconciling=True)
        await self._desk.link.caught_up()
        for account in accounts:
            self._accept_parents(account)
            await self._send_unsent(account)
            await self.run(account, Trigger.TRIGGER_START)
            if account.gate.trading_state == modes.HALTED and account.open_ids:
                # The alarm's cancels were cut short.
                await self._desk.cancel(
                    account, account.open_orders(), "halted", f"start-{self._desk.journal.last_seq}"
                )
        await self._desk.journal.commit()
        for account in accounts:
            account.gate.set_status(reconciling=False)

    def _accept_parents(self, account: Account) -> None:
        """A parent works at this desk: its start was cut short at most between two events."""
        for order in account.open_orders():
            if order.spec.HasField("execution_algorithm") and order.state == S.SUBMITTED:
                self._desk.resolve(order, S.ACCEPTED, "worked in child orders")

    async def _send_unsent(self, account: Account) -> None:
        """Ends what a kill of the whole system cut short: orders that are durable and never reached the venue.

        Nobody was told anything about them, the market has not moved since, and the venue knows every request that it
        has taken: sent now, they are as if nothing had happened, so no event tells of it.
        """
        waiting = [
            order
            for order in account.open_orders()
            if order.state == S.SUBMITTED and order.ts_event_ns >= self._desk.ledger.now_ns
        ]
        if waiting:
            _, statuses = await self._ask(account.account_id)
            await self._desk.send([order for order in waiting if order.spec.client_order_id not in statuses])

    async def follow(self) -> None:
        """Compares all accounts after every reconnect, and at the configured interval."""
        link, interval_s = self._desk.link, self._config.reconcile_interval_s
        seen = link.connections
        while True:
            reconnected = link.reconnected.next()
            if link.connections == seen:
                if interval_s:
                    await within(reconnected, interval_s)
                else:
                    await reconnected.wait()
            trigger = Trigger.TRIGGER_PERIODIC if link.connections == seen else Trigger.TRIGGER_RECONNECT
            seen = link.connections
            try:
                for account in list(self._desk.ledger.accounts.values()):
                    await self.run(account, trigger)
                await self._desk.journal.commit()
            except (grpc.aio.AioRpcError, TimeoutError, ServiceError) as error:
                # Not an answer: everything stays as it is until the next time.
                telemetry.logger().warning("venue could not be asked", error=str(error))

    async def run(self, account: Account, trigger: Trigger.ValueType) -> execution_pb2.Reconciliation:
        """Compares, settles, records. Raises AioRpcError or TimeoutError when the venue does not answer."""
        async with self._busy:
            seq, statuses = await self._ask(account.account_id)
            found = self._differences(account, statuses, starting=trigger == Trigger.TRIGGER_START)
            if found and trigger != Trigger.TRIGGER_START:
                await asyncio.sleep(CONFIRM_S)
                seq, statuses = await self._ask(account.account_id)
                found = [one for one in self._differences(account, statuses, starting=False) if one in found]
            result = execution_pb2.Reconciliation(
                account_id=account.account_id, trigger=trigger, venue_seq=seq, orders=len(statuses), reconciled=True
            )
            for difference in found:
                difference.action = await self._settle(account, difference, statuses.get(difference.client_order_id))
                result.differences.append(difference)
            result.reconciled = all(one.action for one in found)
            before = self.last.get(account.account_id)
            news = before is None or list(before.differences) != list(result.differences)
            self.last[account.account_id] = result
            if found and news:
                event = events_pb2.ReconciliationCompleted(reconciliation=result)
                self._desk.record(event, self._desk.ledger.now_ns, cause="reconciliation")
            return result

    # --- comparing -----------------------------------------------------------------------------------

    async def _ask(self, account_id: str) -> tuple[int, dict[str, venue_pb2.VenueOrderStatus]]:
        """(last report taken into account, orders of the account), the ledger having applied that report."""
        known: dict[str, venue_pb2.VenueOrderStatus] = {}
        token, seq = "", 0
        while True:
            request = venue_pb2.ListOrdersRequest(account_id=account_id, page_size=PAGE, page_token=token)
            response = await self._venue.ListOrders(request, timeout=self._config.venue_timeout_s)
            known.update((status.order.client_order_id, status) for status in response.orders)
            token, seq = response.next_page_token, max(seq, response.applied_seq)
            if not token:
                break
        async with asyncio.timeout(self._config.venue_timeout_s):
            await self._desk.link.wait_for(seq)
        return seq, known

    def _differences(self, account: Account, statuses: Statuses, *, starting: bool) -> list[Difference]:
        found = []
        for name, order in account.orders.items():
            if order.spec.HasField("execution_algorithm") or order.state in states.NEVER_SENT:
                continue
            if not starting and order.state in states.IN_FLIGHT:
                continue  # its answer is on the way
            kind = _compare(order, statuses.get(name), starting=starting)
            if kind is not None:
                found.append(_difference(kind, order, statuses.get(name)))
        for name, status in statuses.items():
            if name not in account.orders and (status.open or status.cumulative_quantity_e9):
                found.append(
                    Difference(
                        kind=Kind.KIND_ORPHAN_ORDER,
                        client_order_id=name,
                        instrument_id=status.order.instrument_id,
                        venue_quantity_e9=status.cumulative_quantity_e9,
                    )
                )
        return found or self._positions(account, statuses)

    def _positions(self, account: Account, statuses: Statuses) -> list[Difference]:
        """Positions as the fills make them, and as the venue's orders do."""
        ours: dict[str, int] = {}
        theirs: dict[str, int] = {}
        for fill in account.fills:
            signed = fill.quantity_e9 if fill.side == modes.BUY else -fill.quantity_e9
            ours[fill.instrument_id] = ours.get(fill.instrument_id, 0) + signed
        for status in statuses.values():
            filled = status.cumulative_quantity_e9
            name = status.order.instrument_id
            theirs[name] = theirs.get(name, 0) + (filled if status.order.side == modes.BUY else -filled)
        # An order whose answer is on the way may have filled since.
        busy = {order.spec.instrument_id for order in account.open_orders() if order.state in states.IN_FLIGHT}
        return [
            Difference(
                kind=Kind.KIND_POSITION,
                instrument_id=name,
                ledger_quantity_e9=ours.get(name, 0),
                venue_quantity_e9=theirs.get(name, 0),
            )
            for name in sorted(ours.keys() | theirs.keys())
            if name not in busy and ours.get(name, 0) != theirs.get(name, 0)
        ]

    # --- settling ------------------------------------------------------------------------------------

    async def _settle(self, account: Account, difference: Difference, status: venue_pb2.VenueOrderStatus | None) -> str:
        """What was done about a difference; empty when nothing explains it."""
        order = account.orders.get(difference.client_order_id)
        if difference.kind == Kind.KIND_ORPHAN_ORDER and status is not None:
            return await self._settle_orphan(account, status)
        if order is None:
            return ""
        if difference.kind == Kind.KIND_ORDER_UNKNOWN_TO_VENUE:
            if order.HasField("venue_order_id") or order.cumulative_quantity_e9:
                return ""
            telemetry.logger().warning("order never reached the venue", order=difference.client_order_id)
            self._desk.resolve(order, S.REJECTED, "the venue does not know the order")
            return "rejected"
        if status is None:
            return ""
        if difference.kind == Kind.KIND_MISSING_FILL:
            return self._infer_fill(account, order, status)
        if difference.kind == Kind.KIND_ORDER_STATE:
            return await self._settle_state(account, order, status)
        return ""

    async def _settle_state(self, account: Account, order: order_pb2.Order, status: venue_pb2.VenueOrderStatus) -> str:
        if order.state in states.CLOSED:
            await self._cancel_at_venue(account, order.spec.client_order_id)
            return "cancelled at the venue"
        if not status.open:
            self._desk.resolve(order, S.CANCELED, "found closed at the venue")
            return "cancelled in the ledger"
        triggered = order.spec.client_order_id in account.triggered
        after = states.working(order.cumulative_quantity_e9, triggered)
        self._desk.resolve(order, after, "found working at the venue")
        return "working"

    def _infer_fill(self, account: Account, order: order_pb2.Order, status: venue_pb2.VenueOrderStatus) -> str:
        """Books what the venue has filled and never reported, at the limit or the last mark, without a fee."""
        name = order.spec.client_order_id
        price = order.spec.price_e9 or account.marks.get(order.spec.instrument_id, 0)
        impossible = order.state == S.REJECTED or name in account.refused
        if not price or impossible:
            return ""
        quantity = status.cumulative_quantity_e9 - order.cumulative_quantity_e9
        fill = order_pb2.Fill(
            trade_id=f"inferred-{name}-{status.cumulative_quantity_e9}",
            price_e9=price,
            quantity_e9=quantity,
            fee=convert.money(0, self._desk.ledger.catalogue.currency(order.spec.instrument_id)),
            ts_event_ns=self._desk.ledger.now_ns,
            inferred=True,
        )
        self._desk.book(order, fill, venue_seq=0, cause="reconciliation")
        if not status.open and order.state not in states.CLOSED:
            self._desk.resolve(order, S.CANCELED, "found closed at the venue")
        return f"inferred a fill of {convert.decimal(quantity)} at {convert.decimal(price)}"

    async def _settle_orphan(self, account: Account, status: venue_pb2.VenueOrderStatus) -> str:
        if status.open and self._config.orphan_orders == "adopt":
            order = self._desk.adopt(account, status)
            if order is not None:
                inferred = ""
                if status.cumulative_quantity_e9:
                    inferred = self._infer_fill(account, order, status)
                    if not inferred:
                        return ""
                return f"adopted; {inferred}".removesuffix("; ")
        if status.open:
            await self._cancel_at_venue(account, status.order.client_order_id)
        # What it has filled nobody here can account for.
        return "" if status.cumulative_quantity_e9 else "cancelled at the venue"

    async def _cancel_at_venue(self, account: Account, client_order_id: str) -> None:
        request = venue_pb2.CancelOrdersRequest(
            request_id=ids.request_id("venue-cancel-orphan", client_order_id, self._desk.journal.last_seq),
            account_id=account.account_id,
            client_order_ids=[client_order_id],
        )
        response = await self._venue.CancelOrders(request, timeout=self._config.venue_timeout_s)
        self._desk.link.take(response.reports)


def _compare(
    order: order_pb2.Order, status: venue_pb2.VenueOrderStatus | None, *, starting: bool
) -> Kind.ValueType | None:
    """How an order differs from what the venue says of it; None when it does not."""
    closed = order.state in states.CLOSED
    if status is None:
        # Closed without a fill: it may never have got there.
        return None if closed and not order.cumulative_quantity_e9 else Kind.KIND_ORDER_UNKNOWN_TO_VENUE
    if status.cumulative_quantity_e9 != order.cumulative_quantity_e9:
        missing = status.cumulative_quantity_e9 > order.cumulative_quantity_e9
        return Kind.KIND_MISSING_FILL if missing else Kind.KIND_SURPLUS_FILL
    doubtful = order.state == S.UNRESOLVED or (starting and order.state in states.IN_FLIGHT)
    return Kind.KIND_ORDER_STATE if status.open == closed or (status.open and doubtful) else None


def _difference(kind: Kind.ValueType, order: order_pb2.Order, status: venue_pb2.VenueOrderStatus | None) -> Difference:
    return Difference(
        kind=kind,
        client_order_id=order.spec.client_order_id,
        instrument_id=order.spec.instrument_id,
        ledger_quantity_e9=order.cumulative_quantity_e9,
        venue_quantity_e9=0 if status is None else status.cumulative_quantity_e9,
    )
