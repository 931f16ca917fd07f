"""Decisions about orders: gate, journal, venue, journal. Nothing is sent before it is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from python_services.kit import ids, telemetry
from python_services.kit.client import persist
from python_services.kit.errors import precondition
from python_services.kit.journal import Event, Journal

from . import modes, reports
from . import orders as states
from .account import Account
from .gatekeeper import Answer
from .ledger import Ledger
from .venue_link import VenueLink

R = TypeVar("R")
S = states.S
Report = venue_pb2.Report
Kind = venue_pb2.Report.Kind
Granted = events_pb2.ReservationGranted
_OPTIONAL_TERMS: Final = (
    "price_e9", "trigger_price_e9", "trailing_offset_e9", "limit_offset_e9", "display_quantity_e9", "expire_time_ns",
)  # fmt: skip
# Answers that leave no doubt: the venue did not take the request.
_DEFINITE = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}
)


class Desk:
    """The one place that adds events to the ledger's journal."""

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        venue: venue_pb2_grpc.VenueServiceAsyncStub,
        timeout_s: float,
        patience_s: float,
    ) -> None:
        self.ledger = ledger
        self.journal = journal
        self._venue = venue
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._flushing: set[asyncio.Task[None]] = set()
        self.link = VenueLink(venue, ledger.venue_seq, self._apply_report, journal.commit_later)

    def record(self, payload: Message, ts_ns: int, *, decision_id: str = "", cause: str = "") -> None:
        """Adds one event and applies it. What cannot be applied must not become durable: the process ends."""
        event = Event(
            payload=payload,
            ts_event_ns=ts_ns,
            ts_init_ns=max(ts_ns, self.ledger.now_ns),
            correlation_id=decision_id,
            causation_id=cause,
        )
        envelopes = self.journal.add([event])
        try:
            for envelope in envelopes:
                self.ledger.apply(envelope)
        except Exception as error:
            self.journal.poison(error)
            raise
        if self.ledger.breaches:
            self._stop_trading()
        if self.ledger.next_expiry_ns <= self.ledger.now_ns:
            self._expire()

    def _stop_trading(self) -> None:
        """Takes the step of the kill ladder that a broken invariant calls for, in the same frame as its cause."""
        breaches, self.ledger.breaches = self.ledger.breaches, []
        for breach in breaches:
            account = self.ledger.accounts[breach.account_id]
            kind = breach.kind
            name = execution_pb2.Alarm.Kind.Name(kind).removeprefix("KIND_")
            telemetry.logger().error("alarm", account=breach.account_id, kind=name, detail=breach.detail)
            if account.gate.trading_state >= breach.state:
                continue
            event = events_pb2.TradingStateChanged(
                account_id=breach.account_id,
                trading_state=int(breach.state),  # type: ignore[arg-type]
                reason=f"{name}: {breach.detail}"[:256],
            )
            self.record(event, self.ledger.now_ns, cause="alarm")
            self._spawn(self.cancel(account, account.open_orders(), f"alarm: {name}", f"alarm-{self.journal.last_seq}"))

    def _expire(self) -> None:
        """Ends the reservations whose time is over, in market time."""
        for account in list(self.ledger.accounts.values()):
            if account.held.next_expiry_ns <= self.ledger.now_ns:
                due = account.held.due(self.ledger.now_ns)
                if due:
                    event = events_pb2.ReservationExpired(account_id=account.account_id, reservation_ids=due)
                    self.record(event, self.ledger.now_ns, cause="market time")

    # --- reservations ------------------------------------------------------------------------------

    def reserve(self, account: Account, request: execution_pb2.ReserveExposureRequest) -> tuple[int, Granted]:
        """Gives back, and judges a batch of proposals in one call of the gate; (sequence, event).

        A batch that only gives back is an event too, also when nothing of it was held: its answer must stand.
        Raises ServiceError or CoreError for a batch that no gate could hold: nothing has changed then.
        """
        if not request.HasField("batch"):
            return self._give_back(account, request)
        catalogue, gate, now_ns, batch = self.ledger.catalogue, account.gate, self.ledger.now_ns, request.batch
        rows = catalogue.proposals(batch, batch.quantity_e9)
        gate.check_rows(rows)
        given_back = account.held.held(request.release_ids, request.agent_id)
        gate.end(given_back)
        verdicts = gate.reserve(rows, now_ns, modes.GATE_MODES[batch.basket_mode])
        ids = verdicts["reservation"]
        self.ledger.stage_batch(rows, ids)
        event = Granted(
            account_id=account.account_id,
            agent_id=request.agent_id,
            batch_number=request.batch_number,
            batch=batch,
            verdicts=execution_pb2.ReservationVerdicts(
                reservation_ids=ids.tolist(),
                granted_quantity_e9=catalogue.granted_e9(rows, verdicts["lots"]).tolist(),
                reasons=verdicts["reason"].tolist(),
                reason_masks=verdicts["mask"].tolist(),
                expire_time_ns=now_ns + batch.time_to_live_ns,
            ),
            policy_version=account.policy_version,
            released_ids=given_back,
        )
        return self._record_batch(account, event)

    def _give_back(self, account: Account, request: execution_pb2.ReserveExposureRequest) -> tuple[int, Granted]:
        event = Granted(
            account_id=account.account_id,
            agent_id=request.agent_id,
            batch_number=request.batch_number,
            policy_version=account.policy_version,
            released_ids=account.held.held(request.release_ids, request.agent_id),
        )
        return self._record_batch(account, event)

    def _record_batch(self, account: Account, event: Granted) -> tuple[int, Granted]:
        self.record(event, self.ledger.now_ns, cause=event.agent_id)
        return account.held.agents[event.agent_id].batches[event.batch_number]

    def release(self, account: Account, ids: Sequence[int], cause: str) -> list[int]:
        """Gives back what is held of `ids`; returns that."""
        held = account.held.held(ids)
        if held:
            event = events_pb2.ReservationReleased(account_id=account.account_id, reservation_ids=held)
            self.record(event, self.ledger.now_ns, cause=cause)
        return held

    # --- submitting --------------------------------------------------------------------------------

    def judge(
        self, account: Account, specs: Sequence[order_pb2.OrderSpec], mode: int, *, reserve: bool
    ) -> list[tuple[order_pb2.OrderSpec, int, Answer]]:
        """(spec, approved quantity, the gate's answer) per order. Raises ServiceError, changing nothing."""
        catalogue = self.ledger.catalogue
        asks = [catalogue.ask(spec, spec.quantity_e9, f"orders[{i}]") for i, spec in enumerate(specs)]
        # The venue has no contingent orders: denied by name, never half-served.
        supported = [not spec.contingency_type for spec in specs]
        refused = Answer(lots=0, reservation=0, reasons=(modes.UNSUPPORTED,))
        if modes.GATE_MODES[mode] is modes.ALL and not all(supported):
            return [(spec, 0, refused) for spec in specs]
        parents = [spec.HasField("execution_algorithm") for spec in specs]
        chosen = [good and not parent for good, parent in zip(supported, parents, strict=True)]
        direct = [ask for ask, wanted in zip(asks, chosen, strict=True) if wanted]
        instead_of = [spec.reservation_id for spec, wanted in zip(specs, chosen, strict=True) if wanted]
        gate_mode, now_ns = modes.GATE_MODES[mode], self.ledger.now_ns
        answers = iter(account.gate.check(direct, now_ns, mode=gate_mode, reserve=reserve, instead_of=instead_of))
        judged = []
        for spec, ask, good, parent in zip(specs, asks, supported, parents, strict=True):
            if not good:
                judged.append((spec, ask, refused))
            elif parent:
                # Checked as a whole, reserving nothing: its children hold the exposure.
                judged.append((spec, ask, account.gate.check([ask], now_ns, reserve=False)[0]))
            else:
                judged.append((spec, ask, next(answers)))
        basket = tuple(sorted({reason for _, _, answer in judged for reason in answer.reasons}))
        return [
            (
                spec,
                # All that was asked for, or what lots are left of it.
                0 if not answer.lots else catalogue.quantity_e9(spec.instrument_id, answer.lots),
                answer if answer.lots or answer.reasons else replace(answer, reasons=basket),
            )
            for spec, _, answer in judged
        ]

    def initialize(
        self, account: Account, specs: Sequence[order_pb2.OrderSpec], mode: int, request_id: str
    ) -> list[order_pb2.Order]:
        """Puts new orders through the gate and records what it said; returns those to be sent."""
        now_ns = self.ledger.now_ns
        to_send = []
        for spec, approved, answer in self.judge(account, specs, mode, reserve=True):
            parent = spec.HasField("execution_algorithm")
            if approved and not parent:
                self.ledger.stage(account.account_id, spec.client_order_id, answer.reservation)
            event = events_pb2.OrderInitialized(
                account_id=account.account_id,
                spec=spec,
                state=(S.SUBMITTED if approved else S.DENIED),  # type: ignore[arg-type]
                denial_reasons=() if approved else answer.reasons,  # type: ignore[arg-type]
                policy_version=account.policy_version,
                approved_quantity_e9=approved,
            )
            self.record(event, now_ns, decision_id=spec.decision_id, cause=request_id)
            order = account.orders[spec.client_order_id]
            if approved and parent:
                self._change(order, S.ACCEPTED, "worked in child orders", cause=request_id)
            elif approved:
                to_send.append(order)
        return to_send

    async def send(self, orders: Sequence[order_pb2.Order]) -> None:
        """Sends durable orders to the venue and records the outcome: accepted, rejected or unresolved."""
        if not orders:
            return
        first = orders[0]
        request = venue_pb2.SubmitOrdersRequest(
            request_id=ids.request_id("venue-submit", first.account_id, first.seq),
            orders=[self._venue_order(order, order.spec, order.approved_quantity_e9) for order in orders],
        )
        try:
            response = await self._ask(self._venue.SubmitOrders, request)
            await self._settle(response.reports)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            for order in orders:
                if order.state == S.SUBMITTED:
                    self._doubt(order, error, S.REJECTED)

    # --- cancelling and replacing ------------------------------------------------------------------

    async def cancel(self, account: Account, orders: Sequence[order_pb2.Order], reason: str, request_id: str) -> None:
        """Asks the venue to cancel; a parent ends here, with its children. Never goes through the gate."""
        cancellable = states.OPEN | {S.SUBMITTED, S.UNRESOLVED}
        wanted = {order.spec.client_order_id: order for order in orders if order.state in cancellable}
        for parent in [order for order in wanted.values() if order.spec.HasField("execution_algorithm")]:
            del wanted[parent.spec.client_order_id]
            self._change(parent, S.CANCELED, reason, cause=request_id)
            for name in account.children.get(parent.spec.client_order_id, ()):
                if account.orders[name].state in cancellable:
                    wanted[name] = account.orders[name]
        pending = list(wanted.values())
        for order in pending:
            self._change(order, S.PENDING_CANCEL, reason, cause=request_id)
        if not pending:
            return
        await self.journal.commit()
        request = venue_pb2.CancelOrdersRequest(
            request_id=ids.request_id("venue-cancel", account.account_id, pending[0].seq),
            account_id=account.account_id,
            client_order_ids=[order.spec.client_order_id for order in pending],
        )
        try:
            response = await self._ask(self._venue.CancelOrders, request)
            await self._settle(response.reports)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            for order in pending:
                if order.state == S.PENDING_CANCEL:
                    self._doubt(order, error, S.UNRESOLVED)

    async def replace(self, account: Account, order: order_pb2.Order, pending: order_pb2.OrderSpec, cause: str) -> None:
        """Asks the venue for new terms, the larger of both reserved meanwhile.

        Raises ServiceError when the order is not open or the gate denies the new terms.
        """
        identifier = order.spec.client_order_id
        if order.spec.HasField("execution_algorithm"):
            raise precondition("ORDER_IS_PARENT", f"order {identifier} is worked in child orders; cancel it instead")
        if order.state not in states.OPEN or order.state in states.IN_FLIGHT:
            name = S(order.state).name
            raise precondition("ORDER_NOT_OPEN", f"order {identifier} is {name}; only a working order can be replaced")
        ask = self.ledger.catalogue.envelope(order, pending)
        answer = account.gate.exchange(account.reservations[identifier], ask, self.ledger.now_ns)
        if answer.lots != ask.lots:
            names = ", ".join(order_pb2.DenialReason.Name(r) for r in answer.reasons)  # type: ignore[arg-type]
            raise precondition("REPLACE_DENIED", f"the gate denies the new terms of {identifier}: {names}")
        self.ledger.stage(account.account_id, identifier, answer.reservation)
        self._change(order, S.PENDING_REPLACE, "", cause=cause, pending=pending)
        await self.journal.commit()
        request = venue_pb2.ReplaceOrderRequest(
            request_id=ids.request_id("venue-replace", account.account_id, order.seq),
            order=self._venue_order(order, pending, pending.quantity_e9),
        )
        try:
            response = await self._ask(self._venue.ReplaceOrder, request)
            await self._settle([response.report])
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            if order.state == S.PENDING_REPLACE:
                self._doubt(order, error, S.UNRESOLVED)

    def resolve(self, order: order_pb2.Order, to_state: S, reason: str) -> None:
        """Settles an order by what reconciliation found."""
        self._change(order, to_state, reason, cause="reconciliation")

    def adopt(self, account: Account, status: venue_pb2.VenueOrderStatus) -> order_pb2.Order | None:
        """Takes over an order that the venue works and the ledger does not know; None when the gate denies it."""
        theirs, catalogue = status.order, self.ledger.catalogue
        spec = order_pb2.OrderSpec(
            client_order_id=theirs.client_order_id,
            instrument_id=theirs.instrument_id,
            side=theirs.side,
            order_type=theirs.order_type,
            time_in_force=theirs.time_in_force,
            quantity_e9=status.cumulative_quantity_e9 + status.leaves_quantity_e9,
            post_only=theirs.post_only,
            reduce_only=theirs.reduce_only,
        )
        for field in _OPTIONAL_TERMS:
            if theirs.HasField(field):
                setattr(spec, field, getattr(theirs, field))
        if spec.instrument_id not in catalogue:
            return None
        ask = catalogue.ask(spec, spec.quantity_e9)
        answer = account.gate.check([ask], self.ledger.now_ns, reserve=True)[0]
        if answer.lots != ask.lots:
            return None
        self.ledger.stage(account.account_id, spec.client_order_id, answer.reservation)
        event = events_pb2.OrderAdopted(account_id=account.account_id, spec=spec, venue_order_id=status.venue_order_id)
        self.record(event, self.ledger.now_ns, cause="reconciliation")
        return account.orders[spec.client_order_id]

    # --- the venue's reports -----------------------------------------------------------------------

    async def _ask(self, method: Callable[..., Awaitable[R]], request: Message) -> R:
        """The venue's answer. A venue that is away is asked again: it knows a request that it has taken."""
        return await persist(lambda: method(request, timeout=self._timeout_s), self._patience_s, slow=False)

    async def _settle(self, reports: Sequence[Report]) -> None:
        self.link.take(reports)
        last = max((report.seq for report in reports), default=0)
        async with asyncio.timeout(self._timeout_s):
            await self.link.wait_for(last)

    def _apply_report(self, report: Report) -> None:
        account = self.ledger.accounts.get(report.account_id)
        order = None if account is None else account.orders.get(report.client_order_id)
        if account is None or order is None:
            # Another client of the venue, or an orphan: reconciliation will tell.
            telemetry.logger().debug("report of a foreign order", seq=report.seq, order=report.client_order_id)
            return
        cause = f"venue-{report.seq}"
        try:
            if report.kind == Kind.KIND_FILL:
                self._fill(account, order, report, cause)
            else:
                self._transition(account, order, report, cause)
        except states.ImpossibleReportError as problem:
            event = events_pb2.ReportRefused(
                account_id=report.account_id,
                client_order_id=report.client_order_id,
                venue_seq=report.seq,
                reason=str(problem),
            )
            self.record(event, self.ledger.now_ns, decision_id=order.spec.decision_id, cause=cause)

    def _transition(self, account: Account, order: order_pb2.Order, report: Report, cause: str) -> None:
        triggered = report.client_order_id in account.triggered
        target = states.after_report(
            order.state,
            report.kind,
            cumulative=order.cumulative_quantity_e9,
            triggered=triggered,
            acknowledged=order.HasField("venue_order_id"),
        )
        if target is None:
            # Late news about an order that moved on, for example an acknowledgement behind a cancel.
            telemetry.logger().info("report without effect", seq=report.seq, order=report.client_order_id)
        elif report.kind == Kind.KIND_REPLACED:
            self._replaced(account, order, report, cause)
        else:
            self._change(
                order,
                target,
                report.reason,
                cause=cause,
                venue_seq=report.seq,
                venue_order_id=report.venue_order_id,
                triggered=report.kind == Kind.KIND_TRIGGERED and target != S.TRIGGERED,
                ts_ns=report.ts_event_ns,
            )

    def _replaced(self, account: Account, order: order_pb2.Order, report: Report, cause: str) -> None:
        reports.check_terms(self.ledger.catalogue, account, order, report)
        spec = order_pb2.OrderSpec()
        spec.CopyFrom(order.spec)
        spec.quantity_e9 = report.order.quantity_e9
        for field in ("price_e9", "trigger_price_e9"):
            if report.order.HasField(field):  # type: ignore[arg-type]
                setattr(spec, field, getattr(report.order, field))
        event = events_pb2.OrderReplaced(
            account_id=report.account_id,
            client_order_id=report.client_order_id,
            spec=spec,
            venue_seq=report.seq,
        )
        self.record(event, report.ts_event_ns, decision_id=order.spec.decision_id, cause=cause)

    def _fill(self, account: Account, order: order_pb2.Order, report: Report, cause: str) -> None:
        inferred = account.inferred.get(report.client_order_id, 0)
        known = inferred and 0 < report.cumulative_quantity_e9 <= order.cumulative_quantity_e9
        if report.trade_id in account.trade_ids or known:
            account.duplicate_fills += 1
            telemetry.logger().warning("duplicate fill ignored", trade_id=report.trade_id, inferred=bool(known))
            return
        reports.check_fill(self.ledger.catalogue, account, order, report)
        fill = order_pb2.Fill(
            trade_id=report.trade_id,
            price_e9=report.last_price_e9,
            quantity_e9=report.last_quantity_e9,
            fee=report.fee,
            liquidity_flag=report.liquidity_flag,
            ts_event_ns=report.ts_event_ns,
        )
        self.book(order, fill, venue_seq=report.seq, cause=cause)

    def book(self, order: order_pb2.Order, fill: order_pb2.Fill, *, venue_seq: int, cause: str) -> None:
        """Records a fill of an order; the order's own facts are filled in."""
        cumulative = order.cumulative_quantity_e9 + fill.quantity_e9
        to_state = states.after_fill(order.state, cumulative, order.approved_quantity_e9)
        fill.client_order_id, fill.account_id = order.spec.client_order_id, order.account_id
        fill.instrument_id, fill.side = order.spec.instrument_id, order.spec.side
        fill.decision_id = order.spec.decision_id
        event = events_pb2.OrderFilled(fill=fill, to_state=to_state, venue_seq=venue_seq)  # type: ignore[arg-type]
        self.record(event, fill.ts_event_ns, decision_id=order.spec.decision_id, cause=cause)

    def _doubt(self, order: order_pb2.Order, error: Exception, when_definite: S) -> None:
        """The venue did not answer as it should: only a definite refusal ends the order."""
        definite = isinstance(error, grpc.aio.AioRpcError) and error.code() in _DEFINITE
        text = (error.details() or error.code().name) if isinstance(error, grpc.aio.AioRpcError) else "no answer"
        self._change(order, when_definite if definite else S.UNRESOLVED, text, cause="venue")

    def _change(
        self,
        order: order_pb2.Order,
        to_state: S,
        reason: str,
        *,
        cause: str,
        venue_seq: int = 0,
        venue_order_id: str = "",
        pending: order_pb2.OrderSpec | None = None,
        triggered: bool = False,
        ts_ns: int = 0,
    ) -> None:
        event = events_pb2.OrderStateChanged(
            account_id=order.account_id,
            client_order_id=order.spec.client_order_id,
            from_state=order.state,
            to_state=to_state,  # type: ignore[arg-type]
            reason=reason,
            venue_seq=venue_seq,
            venue_order_id=venue_order_id or None,
            pending_spec=pending,
            triggered=triggered,
        )
        self.record(event, ts_ns or self.ledger.now_ns, decision_id=order.spec.decision_id, cause=cause)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)

    def _venue_order(self, order: order_pb2.Order, spec: order_pb2.OrderSpec, quantity_e9: int) -> venue_pb2.VenueOrder:
        def given(field: str) -> int | None:
            return getattr(spec, field) if spec.HasField(field) else None  # type: ignore[arg-type]

        return venue_pb2.VenueOrder(
            client_order_id=spec.client_order_id,
            account_id=order.account_id,
            instrument_id=spec.instrument_id,
            side=spec.side,
            order_type=spec.order_type,
            time_in_force=spec.time_in_force,
            quantity_e9=quantity_e9,
            price_e9=given("price_e9"),
            trigger_price_e9=given("trigger_price_e9"),
            trailing_offset_e9=given("trailing_offset_e9"),
            limit_offset_e9=given("limit_offset_e9"),
            display_quantity_e9=given("display_quantity_e9"),
            expire_time_ns=given("expire_time_ns"),
            post_only=spec.post_only,
            reduce_only=spec.reduce_only,
            ts_init_ns=order.ts_init_ns,
        )
