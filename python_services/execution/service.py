"""The execution servicer: waits, looks up, asks the desk, answers. Nothing is answered before it is durable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from alphamesh.execution.v1 import events_pb2, execution_pb2, execution_pb2_grpc, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from alphamesh.type.v1 import money_pb2
from alphamesh.venue.v1 import venue_pb2_grpc
from python_services.kit import convert, paging
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import aborted, invalid, not_found, precondition
from python_services.kit.instruments import list_instruments
from python_services.kit.signal import within
from python_services.kit.snapshots import SnapshotClient

from . import acting, conversions, gatekeeper, modes, parents
from . import orders as states
from .account import Account
from .asks import Catalogue, rules
from .closing import closing_orders
from .config import Config
from .desk import Desk, Granted
from .gatekeeper import Gatekeeper
from .ledger import Ledger
from .reconcile import Reconciler, Trigger

HEARTBEAT_S = 5.0
S = states.S


class Execution(execution_pb2_grpc.ExecutionServiceServicer):
    """Translates messages to the desk and the ledger."""

    def __init__(self, context: Context[Config], desk: Desk, snapshots: SnapshotClient, reconciler: Reconciler) -> None:
        self._context = context
        self._reconciler = reconciler
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
        response = execution_pb2.GetAccountResponse(
            account=account.message(), applied_seq=self._journal.last_seq, event_hash=self._journal.last_hash
        )
        await self._journal.barrier()  # what was read may have been decided only just now
        return response

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
        marks = snapshot.marks()
        event = events_pb2.AccountValued(
            account_id=account.account_id,
            snapshot_id=request.snapshot_id,
            instrument_ids=snapshot.instrument_ids,
            mark_e9=snapshot.marks_e9,
            mark_ts_ns=snapshot.mark_ts_ns,
            cash=convert.money(account.cash_at(marks), account.currency),
            equity=convert.money(account.value(marks), account.currency),
            venue_seq=self._desk.link.applied_seq,
            balances=account.balances(),
        )
        for name, rate, ts in zip(snapshot.rate_instrument_ids, snapshot.rates_e9, snapshot.rate_ts_ns, strict=True):
            if name not in snapshot.instrument_ids:
                event.instrument_ids.append(name)
                event.mark_e9.append(rate)
                event.mark_ts_ns.append(ts)
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
        new = [spec for spec in request.orders if spec.client_order_id not in account.orders]
        self._refuse_reservations(account, new)
        if request.validate_only:
            return self._preview(account, request)
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
        response = execution_pb2.GetOrderResponse(order=order, applied_seq=self._journal.last_seq)
        await self._journal.barrier()
        return response

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
        response = execution_pb2.ListOrdersResponse(
            orders=listed, next_page_token=token, applied_seq=self._journal.last_seq
        )
        await self._journal.barrier()
        return response

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
        response = execution_pb2.ListFillsResponse(
            fills=listed, next_page_token=token, applied_seq=self._journal.last_seq
        )
        await self._journal.barrier()
        return response

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
        for field, value in request.policy.ListFields():
            if isinstance(value, money_pb2.Money) and value.currency_code != account.currency:
                problem = f"is in {value.currency_code}, account {account.account_id} in {account.currency}"
                raise invalid(f"policy.{field.name}", problem, "state it in the account's currency")
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
            specs = closing_orders(account, self._journal.last_seq)
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

    async def ReserveExposure(
        self, requests: AsyncIterator[execution_pb2.ReserveExposureRequest], context: object
    ) -> AsyncIterator[execution_pb2.ReserveExposureResponse]:
        """Gives back, judges, journals, answers: batches of many streams share a gate call each and one commit."""
        async for request in requests:
            account = self._ledger.account(request.account_id)
            seq, granted = self._first_answer(account, request) or self._desk.reserve(account, request)
            answer = execution_pb2.ReserveExposureResponse(
                batch_number=request.batch_number, released=len(granted.released_ids), applied_seq=seq
            )
            if granted.HasField("batch"):
                answer.verdicts.CopyFrom(granted.verdicts)
            await self._journal.commit()
            yield answer

    async def ReleaseReservations(
        self, request: execution_pb2.ReleaseReservationsRequest, context: object
    ) -> execution_pb2.ReleaseReservationsResponse:
        """Gives reservations back."""
        account = self._ledger.account(request.account_id)
        released = self._desk.release(account, request.reservation_ids, request.request_id)
        response = execution_pb2.ReleaseReservationsResponse(released_ids=released, applied_seq=self._journal.last_seq)
        await self._journal.commit(response)
        return response

    async def ListReservations(
        self, request: execution_pb2.ListReservationsRequest, context: object
    ) -> execution_pb2.ListReservationsResponse:
        """Reservations by id, of the moment: pages of a list that changes meanwhile may miss or repeat some."""
        await self._reach(request.min_seq)
        account = self._ledger.account(request.account_id)
        rows = account.held.listed(request.agent_id)
        scope = f"execution.ListReservations.{request.account_id}.{request.agent_id}"
        listed, token = paging.page(rows, request.page_size, request.page_token, scope=scope)
        agent = account.held.agents.get(request.agent_id)
        catalogue = self._ledger.catalogue
        response = execution_pb2.ListReservationsResponse(
            reservations=[
                execution_pb2.Reservation(
                    reservation_id=row["id"],
                    agent_id=account.held.agent_name(int(row["agent"])),
                    instrument_id=catalogue.name(int(row["instrument"])),
                    side=int(row["side"]),  # type: ignore[arg-type]
                    quantity_e9=catalogue.quantity_e9(
                        catalogue.name(int(row["instrument"])), account.gate.reserved_lots(int(row["id"]))
                    ),
                    price_bound_e9=catalogue.price_e9(catalogue.name(int(row["instrument"])), int(row["price"])),
                    expire_time_ns=row["expire_ns"],
                )
                for row in listed
            ],
            next_page_token=token,
            applied_seq=self._journal.last_seq,
            last_batch_number=0 if agent is None else agent.last_batch,
        )
        await self._journal.barrier()
        return response

    async def GetReconciliation(
        self, request: execution_pb2.GetReconciliationRequest, context: object
    ) -> execution_pb2.GetReconciliationResponse:
        """The last comparison with the venue, or a new one."""
        account = self._ledger.account(request.account_id)
        if request.run:
            await self._reconciler.run(account, Trigger.TRIGGER_REQUEST)
        found = self._reconciler.last.get(request.account_id)
        if found is None:
            raise not_found("reconciliation", request.account_id, "ask with run to compare now")
        await self._journal.commit()
        return execution_pb2.GetReconciliationResponse(reconciliation=found, applied_seq=self._journal.durable_seq)

    async def ApplyCorporateActions(
        self, request: execution_pb2.ApplyCorporateActionsRequest, context: object
    ) -> execution_pb2.ApplyCorporateActionsResponse:
        """Splits, dividends and symbol changes: all are checked before the first is applied."""
        account = self._ledger.account(request.account_id)
        cancelled: list[order_pb2.Order] = []
        sent: list[order_pb2.Order] = []
        checked = [
            acting.check(self._desk, account, action, f"actions[{i}]") for i, action in enumerate(request.actions)
        ]
        for action, new in zip(request.actions, checked, strict=True):
            if new and action.action_id not in account.actions:  # it may stand twice in one request
                ended, renewed = await acting.apply(self._desk, account, action, request.request_id)
                cancelled += ended
                sent += renewed
        response = execution_pb2.ApplyCorporateActionsResponse(
            account=account.message(),
            applied_seq=self._journal.last_seq,
            cancelled_order_ids=[order.spec.client_order_id for order in cancelled],
            orders=sent,
        )
        await self._journal.commit(response)
        return response

    async def ConvertCurrency(
        self, request: execution_pb2.ConvertCurrencyRequest, context: object
    ) -> execution_pb2.ConvertCurrencyResponse:
        """Cash of one currency for another."""
        account = self._ledger.account(request.account_id)
        event = conversions.plan(
            account,
            request.sell,
            request.buy_currency_code,
            spread_ppm=self._context.config.conversion_spread_ppm,
            now_ns=self._ledger.now_ns,
        )
        self._desk.record(event, self._ledger.now_ns, cause=request.request_id)
        response = execution_pb2.ConvertCurrencyResponse(
            bought=event.bought, account=account.message(), applied_seq=self._journal.last_seq
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
        """The caller's own writes are readable. State that is not durable is not: whoever read waits once more."""
        await self._journal.barrier()
        while self._journal.durable_seq < seq:
            await self._changed.next().wait()

    def _first_answer(
        self, account: Account, request: execution_pb2.ReserveExposureRequest
    ) -> tuple[int, Granted] | None:
        """What a batch that was judged before was answered; None for a new one."""
        agent = account.held.agents.get(request.agent_id)
        if agent is None or request.batch_number > agent.last_batch:
            return None
        known = agent.batches.get(request.batch_number)
        if known is None:
            raise precondition(
                "BATCH_NUMBER_TOO_LOW",
                f"batch_number {request.batch_number} of agent {request.agent_id} is below {agent.last_batch} and no "
                f"longer remembered; use numbers above {agent.last_batch}",
                last_batch_number=str(agent.last_batch),
            )
        _, first = known
        same = first.HasField("batch") == request.HasField("batch") and first.batch == request.batch
        if not same or not set(first.released_ids) <= set(request.release_ids):
            raise precondition(
                "BATCH_NUMBER_REUSED",
                f"batch_number {request.batch_number} of agent {request.agent_id} belongs to a batch with other "
                f"content; use numbers above {agent.last_batch}",
                last_batch_number=str(agent.last_batch),
            )
        return known

    def _refuse_reservations(self, account: Account, specs: Sequence[order_pb2.OrderSpec]) -> None:
        """Raises ServiceError for new orders that cannot consume the reservation that they name."""
        seen: set[int] = set()
        for index, spec in enumerate(specs):
            reservation = spec.reservation_id
            if not reservation:
                continue
            where = f"orders[{index}].reservation_id"
            if spec.HasField("execution_algorithm") or spec.contingency_type:
                raise invalid(where, "is on an order that is not sent as it is", "name it in a plain order")
            if reservation in seen:
                raise invalid(where, "is in this request twice", "one order consumes a reservation")
            seen.add(reservation)
            terms = account.held.terms(reservation)
            if terms is None:
                raise precondition(
                    "RESERVATION_NOT_HELD",
                    f"{where}: reservation {reservation} is not held any more; reserve again",
                    reservation_id=str(reservation),
                )
            name = self._ledger.catalogue.name(terms[0])
            if (name, terms[1]) != (spec.instrument_id, spec.side):
                raise invalid(where, f"is for {name} on the other side or in another instrument", "match it")

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

    def open_gate(currency: str, cash: int) -> Gatekeeper:
        return Gatekeeper(
            catalogue.listings,
            currency=currency,
            cash=cash,
            fee_ppm=config.worst_fee_ppm,
            fee_per_lot=config.worst_fee_per_lot_e9,
            minimum_fee=config.minimum_fee_e9,
            open_orders=config.maximum_open_orders,
            remembered_orders=config.remembered_orders,
            fx_buffer_ppm=config.fx_buffer_ppm,
        )

    journal = context.open_journal()
    ledger = Ledger(catalogue, open_gate)
    for frame in journal.read(1):
        for envelope in frame.events:
            ledger.apply(envelope)
    # What they called for is in the journal behind them.
    ledger.breaches.clear()
    desk = Desk(ledger, journal, venue, config.venue_timeout_s, config.venue_patience_s)
    context.spawn(desk.link.run(), "venue-reports")
    reconciler = Reconciler(desk, venue, config)
    await reconciler.at_start()
    context.spawn(reconciler.follow(), "reconciliation")
    servicer = Execution(context, desk, SnapshotClient.of(context), reconciler)
    register = execution_pb2_grpc.add_ExecutionServiceServicer_to_server
    context.add(register, servicer, "alphamesh.execution.v1.ExecutionService")


DEFINITION = ServiceDefinition(name="execution", version="0.1.0", config=Config, build=build)
