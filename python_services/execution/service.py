"""The execution servicer: waits, looks up, asks the desk, answers. Nothing is answered before it is durable."""

from __future__ import annotations

from collections.abc import AsyncIterator

from alphamesh.execution.v1 import events_pb2, execution_pb2, execution_pb2_grpc, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from alphamesh.venue.v1 import venue_pb2_grpc
from python_services.kit import convert, paging
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import aborted, invalid, precondition
from python_services.kit.instruments import list_instruments
from python_services.kit.signal import within
from python_services.kit.snapshots import SnapshotClient

from . import gatekeeper, modes, parents, reconcile
from . import orders as states
from .account import Account
from .asks import Catalogue, rules
from .config import Config
from .desk import Desk
from .gatekeeper import Gatekeeper
from .ledger import Ledger

HEARTBEAT_S = 5.0
S = states.S


class Execution(execution_pb2_grpc.ExecutionServiceServicer):
    """Translates messages to the desk and the ledger."""

    def __init__(self, context: Context[Config], desk: Desk, snapshots: SnapshotClient) -> None:
        self._context = context
        self._desk = desk
        self._ledger = desk.ledger
        self._journal = desk.journal
        self._snapshots = snapshots
        self._changed = context.signal()
        self._journal.listen(lambda _frame: self._changed.notify())

    async def OpenAccount(
        self, request: execution_pb2.OpenAccountRequest, context: object
    ) -> execution_pb2.OpenAccountResponse:
        """A new account; opening it again with the same facts is harmless."""
        known = self._ledger.accounts.get(request.account_id)
        if convert.money_e9(request.cash) <= 0:
            raise invalid("cash", "must be positive", "open the account with some cash")
        if known is not None:
            raise precondition(
                "ACCOUNT_EXISTS",
                f"account {request.account_id} is open already; use another account_id or another data directory",
            )
        event = events_pb2.AccountOpened(account_id=request.account_id, cash=request.cash)
        self._desk.record(event, request.ts_event_ns, cause=request.request_id)
        account = self._ledger.account(request.account_id)
        response = execution_pb2.OpenAccountResponse(account=account.message(), applied_seq=self._journal.last_seq)
        await self._journal.commit(response)
        return response

    async def GetAccount(
        self, request: execution_pb2.GetAccountRequest, context: object
    ) -> execution_pb2.GetAccountResponse:
        """Positions, cash and valuation."""
        await self._desk.link.wait_for(request.min_venue_seq)
        await self._reach(request.min_seq)
        account = self._ledger.account(request.account_id)
        return execution_pb2.GetAccountResponse(
            account=account.message(), applied_seq=self._journal.durable_seq, event_hash=self._journal.durable_hash
        )

    async def SyncMarket(
        self, request: execution_pb2.SyncMarketRequest, context: object
    ) -> execution_pb2.SyncMarketResponse:
        """Reports up to min_venue_seq, then a valuation at the snapshot's marks."""
        account = self._ledger.account(request.account_id)
        snapshot = await self._snapshots.get(request.snapshot_id)
        await self._desk.link.wait_for(request.min_venue_seq)
        if snapshot.as_of_ns < account.valued_ns:
            raise precondition(
                "SNAPSHOT_TOO_OLD",
                f"snapshot {request.snapshot_id} is of {snapshot.as_of_ns}, the account was valued at "
                f"{account.valued_ns}; use a later snapshot",
            )
        marks = dict(zip(snapshot.instrument_ids, snapshot.marks_e9, strict=True))
        event = events_pb2.AccountValued(
            account_id=account.account_id,
            snapshot_id=request.snapshot_id,
            instrument_ids=snapshot.instrument_ids,
            mark_e9=snapshot.marks_e9,
            mark_ts_ns=snapshot.mark_ts_ns,
            cash=convert.money(account.cash_e9, account.currency),
            equity=convert.money(account.value(marks), account.currency),
            venue_seq=self._desk.link.applied_seq,
        )
        self._desk.record(event, snapshot.as_of_ns, decision_id=request.decision_id, cause=request.request_id)
        await parents.work(self._desk, self._context.config, account, snapshot)
        response = execution_pb2.SyncMarketResponse(account=account.message(), applied_seq=self._journal.last_seq)
        await self._journal.commit(response)
        return response

    async def SubmitOrders(
        self, request: execution_pb2.SubmitOrdersRequest, context: object
    ) -> execution_pb2.SubmitOrdersResponse:
        """Gate, journal, venue, journal, answer."""
        account = self._ledger.account(request.account_id)
        self._refuse_repeats(account, request)
        if request.validate_only:
            return self._preview(account, request)
        new = [spec for spec in request.orders if spec.client_order_id not in account.orders]
        to_send = self._desk.initialize(account, new, request.basket_mode, request.request_id)
        await self._journal.commit()
        await self._desk.send(to_send)
        response = execution_pb2.SubmitOrdersResponse(
            orders=[account.orders[spec.client_order_id] for spec in request.orders],
            applied_seq=self._journal.last_seq,
        )
        await self._journal.commit(response)
        return response

    async def CancelOrder(
        self, request: execution_pb2.CancelOrderRequest, context: object
    ) -> execution_pb2.CancelOrderResponse:
        """Asks the venue to cancel one order."""
        account = self._ledger.account(request.account_id)
        order = self._ledger.order(request.account_id, request.client_order_id)
        if order.state in states.CLOSED:
            name = S(order.state).name
            raise precondition("ORDER_CLOSED", f"order {request.client_order_id} is {name}; there is nothing to cancel")
        await self._desk.cancel(account, [order], request.reason or "requested", request.request_id)
        response = execution_pb2.CancelOrderResponse(order=order, applied_seq=self._journal.last_seq)
        await self._journal.commit(response)
        return response

    async def CancelAllOrders(
        self, request: execution_pb2.CancelAllOrdersRequest, context: object
    ) -> execution_pb2.CancelAllOrdersResponse:
        """Asks the venue to cancel every open order."""
        account = self._ledger.account(request.account_id)
        orders = account.open_orders()
        await self._desk.cancel(account, orders, request.reason or "requested", request.request_id)
        response = execution_pb2.CancelAllOrdersResponse(orders=orders, applied_seq=self._journal.last_seq)
        await self._journal.commit(response)
        return response

    async def ReplaceOrder(
        self, request: execution_pb2.ReplaceOrderRequest, context: object
    ) -> execution_pb2.ReplaceOrderResponse:
        """Asks the venue for new terms."""
        account = self._ledger.account(request.account_id)
        order = self._ledger.order(request.account_id, request.client_order_id)
        pending = order_pb2.OrderSpec()
        pending.CopyFrom(order.spec)
        if not any(request.HasField(f) for f in ("quantity_e9", "price_e9", "trigger_price_e9")):
            raise invalid("quantity_e9", "nothing to change", "give a quantity, a price or a trigger price")
        if request.HasField("quantity_e9"):
            pending.quantity_e9 = max(request.quantity_e9, order.cumulative_quantity_e9)
        for field in ("price_e9", "trigger_price_e9"):
            if request.HasField(field):  # type: ignore[arg-type]
                if not order.spec.HasField(field):  # type: ignore[arg-type]
                    raise invalid(field, "the order's type has none", "leave it out")
                setattr(pending, field, getattr(request, field))
        await self._desk.replace(account, order, pending, request.request_id)
        response = execution_pb2.ReplaceOrderResponse(order=order, applied_seq=self._journal.last_seq)
        await self._journal.commit(response)
        return response

    async def GetOrder(self, request: execution_pb2.GetOrderRequest, context: object) -> execution_pb2.GetOrderResponse:
        """One order."""
        await self._reach(request.min_seq)
        order = self._ledger.order(request.account_id, request.client_order_id)
        return execution_pb2.GetOrderResponse(order=order, applied_seq=self._journal.durable_seq)

    async def ListOrders(
        self, request: execution_pb2.ListOrdersRequest, context: object
    ) -> execution_pb2.ListOrdersResponse:
        """Orders by submission."""
        await self._reach(request.min_seq)
        orders = list(self._ledger.account(request.account_id).orders.values())
        if request.decision_id:
            orders = [order for order in orders if order.spec.decision_id == request.decision_id]
        scope = f"execution.ListOrders.{request.account_id}.{request.decision_id}"
        listed, token = paging.page(orders, request.page_size, request.page_token, scope=scope)
        return execution_pb2.ListOrdersResponse(
            orders=listed, next_page_token=token, applied_seq=self._journal.durable_seq
        )

    async def ListFills(
        self, request: execution_pb2.ListFillsRequest, context: object
    ) -> execution_pb2.ListFillsResponse:
        """Fills in order of the ledger."""
        await self._reach(request.min_seq)
        fills = self._ledger.account(request.account_id).fills
        if request.decision_id:
            fills = [fill for fill in fills if fill.decision_id == request.decision_id]
        scope = f"execution.ListFills.{request.account_id}.{request.decision_id}"
        listed, token = paging.page(fills, request.page_size, request.page_token, scope=scope)
        return execution_pb2.ListFillsResponse(
            fills=listed, next_page_token=token, applied_seq=self._journal.durable_seq
        )

    async def ApplyRiskPolicy(
        self, request: execution_pb2.ApplyRiskPolicyRequest, context: object
    ) -> execution_pb2.ApplyRiskPolicyResponse:
        """A newer policy for the gate."""
        account = self._ledger.account(request.account_id)
        if request.policy.version <= account.policy_version:
            raise aborted(
                "POLICY_VERSION_NOT_NEWER",
                f"policy {request.policy.version} is not newer than {account.policy_version}; read and push again",
                policy_version=str(account.policy_version),
            )
        account.gate.check_rules(rules(request.policy))
        event = events_pb2.RiskPolicyApplied(account_id=account.account_id, policy=request.policy)
        self._desk.record(event, request.policy.ts_event_ns, cause=request.request_id)
        response = execution_pb2.ApplyRiskPolicyResponse(
            policy_version=account.policy_version, applied_seq=self._journal.last_seq
        )
        await self._journal.commit(response)
        return response

    async def SetTradingState(
        self, request: execution_pb2.SetTradingStateRequest, context: object
    ) -> execution_pb2.SetTradingStateResponse:
        """A step of the kill ladder: recorded, then done: cancels from CANCEL_ALL on, closing from FLATTEN on."""
        account = self._ledger.account(request.account_id)
        event = events_pb2.TradingStateChanged(
            account_id=account.account_id, trading_state=request.trading_state, reason=request.reason
        )
        self._desk.record(event, self._ledger.now_ns, cause=request.request_id)
        await self._journal.commit()
        if request.trading_state >= modes.CANCEL_ALL:
            await self._desk.cancel(account, account.open_orders(), request.reason, request.request_id)
        if request.trading_state == modes.FLATTEN:
            specs = reconcile.closing_orders(account, self._journal.last_seq)
            independent = execution_pb2.BASKET_MODE_INDEPENDENT
            to_send = self._desk.initialize(account, specs, independent, request.request_id)
            await self._journal.commit()
            await self._desk.send(to_send)
        response = execution_pb2.SetTradingStateResponse(
            trading_state=account.gate.trading_state,  # type: ignore[arg-type]
            applied_seq=self._journal.last_seq,
        )
        await self._journal.commit(response)
        return response

    async def StreamEvents(
        self, request: execution_pb2.StreamEventsRequest, context: object
    ) -> AsyncIterator[execution_pb2.StreamEventsResponse]:
        """The journal's frames from from_seq on."""
        sent = request.from_seq - 1
        while not self._context.draining:
            changed = self._changed.next()
            for frame in list(self._journal.read(sent + 1)):
                sent = frame.first_seq + frame.count - 1
                yield execution_pb2.StreamEventsResponse(frame=frame, last_seq=self._journal.durable_seq)
            if request.stop_at_end and sent >= self._journal.durable_seq:
                reason = execution_pb2.StreamEventsResponse.END_REASON_CAUGHT_UP
                yield execution_pb2.StreamEventsResponse(last_seq=self._journal.durable_seq, end_reason=reason)
                return
            if not await within(changed, HEARTBEAT_S):
                yield execution_pb2.StreamEventsResponse(last_seq=self._journal.durable_seq)
        reason = execution_pb2.StreamEventsResponse.END_REASON_DRAINING
        yield execution_pb2.StreamEventsResponse(last_seq=self._journal.durable_seq, end_reason=reason)

    async def _reach(self, seq: int) -> None:
        """State that is not durable is never readable, and the caller's own writes are."""
        await self._journal.barrier()
        while self._journal.durable_seq < seq:
            await self._changed.next().wait()

    def _refuse_repeats(self, account: Account, request: execution_pb2.SubmitOrdersRequest) -> None:
        seen: set[str] = set()
        for index, spec in enumerate(request.orders):
            identifier = spec.client_order_id
            if identifier in seen:
                raise invalid(f"orders[{index}].client_order_id", "is in this request twice", "use a new id")
            seen.add(identifier)
            known = account.orders.get(identifier)
            if known is not None and known.spec != spec:
                raise precondition(
                    "CLIENT_ORDER_ID_REUSED",
                    f"client_order_id {identifier} belongs to an order with other content; use a new id",
                    client_order_id=identifier,
                )

    def _preview(
        self, account: Account, request: execution_pb2.SubmitOrdersRequest
    ) -> execution_pb2.SubmitOrdersResponse:
        judged = self._desk.judge(account, request.orders, request.basket_mode, reserve=False)
        orders = [
            order_pb2.Order(
                spec=spec,
                account_id=account.account_id,
                state=(S.INITIALIZED if approved else S.DENIED),  # type: ignore[arg-type]
                denial_reasons=() if approved else answer.reasons,  # type: ignore[arg-type]
                approved_quantity_e9=approved,
                ts_init_ns=self._ledger.now_ns,
            )
            for spec, approved, answer in judged
        ]
        return execution_pb2.SubmitOrdersResponse(orders=orders, applied_seq=self._journal.durable_seq)


async def build(context: Context[Config]) -> None:
    """Rebuilds the ledger from the journal, catches up with the venue, reconciles, then serves."""
    config = context.config
    gatekeeper.warm()
    market_data = context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    venue = context.stub(venue_pb2_grpc.VenueServiceStub, "venue")
    catalogue = Catalogue(await list_instruments(market_data))

    def open_gate(cash: int) -> Gatekeeper:
        return Gatekeeper(
            catalogue.listings,
            cash=cash,
            fee_ppm=config.worst_fee_ppm,
            fee_per_lot=config.worst_fee_per_lot_e9,
            minimum_fee=config.minimum_fee_e9,
            open_orders=config.maximum_open_orders,
        )

    journal = context.open_journal()
    ledger = Ledger(catalogue, open_gate)
    for frame in journal.read(1):
        for envelope in frame.events:
            ledger.apply(envelope)
    desk = Desk(ledger, journal, venue, config.venue_timeout_s)
    context.spawn(desk.link.run(), "venue-reports")
    await reconcile.at_start(desk, venue)
    servicer = Execution(context, desk, SnapshotClient(market_data))
    register = execution_pb2_grpc.add_ExecutionServiceServicer_to_server
    context.add(register, servicer, "alphamesh.execution.v1.ExecutionService")


DEFINITION = ServiceDefinition(name="execution", version="0.1.0", config=Config, build=build)
