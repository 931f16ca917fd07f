"""One order, told from whoever asked for it to its last fill: what was asked, what the gate said, what happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

from alphamesh.audit.v1 import event_pb2
from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc
from alphamesh.execution.v1 import events_pb2, execution_pb2, execution_pb2_grpc, order_pb2
from python_services.kit.convert import decimal

from . import explanation, tables
from .connect import System


async def find(system: System, client_order_id: str) -> dict[str, Any] | None:
    """The order's story in plain values, for JSON and for `show`; None when no account has such an order.

    `decision` is None for an order that no decision asked for.
    """
    account_id, events = "", []
    async for envelope in _ledger(system):
        found = _what(envelope)
        if found is None or found[1] != client_order_id or account_id not in ("", found[0]):
            continue
        account_id = found[0]
        events.append(
            {
                "seq": envelope.seq,
                "when": explanation.moment(envelope.ts_event_ns),
                "event": envelope.schema.rpartition(".")[2],
                "what": found[2],
                "hash": envelope.hash.hex(),
            }
        )
    if not events:
        return None
    stub = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    request = execution_pb2.GetOrderRequest(account_id=account_id, client_order_id=client_order_id)
    order = (await stub.GetOrder(request)).order
    decision_id = order.spec.decision_id or None
    decision = await _decision(system, decision_id) if decision_id else None
    return {
        "order": explanation.order(order)
        | {
            "account_id": order.account_id,
            "parent_order_id": order.spec.parent_order_id or None,
            "approved": decimal(order.approved_quantity_e9),
            "decision_id": decision_id,
        },
        "why": _why(order, decision),
        "events": events,
        "decision": None if decision is None else _reasons(decision, order.spec.instrument_id),
    }


def show(content: Mapping[str, Any]) -> None:
    """The same as tables."""
    console, order = tables.console, content["order"]
    console.print(
        f"[bold]Order {order['client_order_id']}[/bold]: {order['side']} {order['quantity']} "
        f"{order['instrument_id']} {order['order_type']}, {order['state']}"
    )
    for sentence in content["why"]:
        console.print(sentence, markup=False)
    console.print()
    decision = content["decision"]
    if decision is not None:
        rows = tables.table(
            f"Why: decision {decision['decision_id']}, {decision['as_of']}", "agent", "return", "share", "confidence",
            "weight", numbers=frozenset({"return", "share", "confidence", "weight"}),
        )  # fmt: skip
        for line in decision["signals"]:
            numbers = (line["expected_return"], line["contribution"])
            texts = ["" if value is None else f"{value:.2%}" for value in numbers]
            confidence = "abstains" if line["confidence"] is None else f"{line['confidence']:.2f}"
            rows.add_row(line["agent_id"], *texts, confidence, f"{line['weight']:.2f}")
        console.print(rows)
    rows = tables.table("What happened", "seq", "when", "event", "what", numbers=frozenset({"seq"}))
    for event in content["events"]:
        rows.add_row(str(event["seq"]), event["when"], event["event"], event["what"])
    console.print(rows)
    if decision is not None:
        console.print(f"the whole decision: alphamesh explain {decision['decision_id']}", markup=False)


async def _decision(system: System, decision_id: str) -> decision_pb2.Decision | None:
    stub = system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")
    try:
        return (await stub.GetDecision(decision_pb2.GetDecisionRequest(decision_id=decision_id))).decision
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return None


def _why(order: order_pb2.Order, decision: decision_pb2.Decision | None) -> list[str]:
    """Sentences: who asked and why, what risk said, what the gate said, how it ended."""
    said = []
    if decision is not None:
        said.append(f"decision {decision.decision_id}: {decision.explanation}")
        names = list(decision.instrument_ids)
        portfolio = decision.portfolio
        proposed = [names[index] for index in portfolio.instrument_index]
        if order.spec.instrument_id in proposed:
            row = proposed.index(order.spec.instrument_id)
            said.append(
                f"target: weight {portfolio.current_weight[row]:.2%} to {portfolio.target_weight[row]:.2%}, quantity "
                f"{decimal(portfolio.current_quantity_e9[row])} to {decimal(portfolio.target_quantity_e9[row])} "
                f"({portfolio.solver})"
            )
        if decision.HasField("risk"):
            said.append(f"risk: {decision.risk.verdict}, scale {decision.risk.scale:g}")
            said += [f"risk: {violation}" for violation in decision.risk.violations]
    elif order.spec.parent_order_id:
        said.append(f"asked for by parent order {order.spec.parent_order_id}: alphamesh explain it for the reason")
    elif order.spec.decision_id:
        said.append(f"asked for by decision {order.spec.decision_id}, which the coordinator here does not know")
    else:
        said.append("asked for by a caller of execution, not by a decision")
    if order.denial_reasons:
        said.append(f"gate: denied, {', '.join(map(_denial, order.denial_reasons))}")
    elif order.approved_quantity_e9 != order.spec.quantity_e9:
        asked, approved = decimal(order.spec.quantity_e9), decimal(order.approved_quantity_e9)
        said.append(f"gate: let pass {approved} of {asked}")
    if order.reason:
        said.append(f"end: {order.reason}")
    return said


def _reasons(decision: decision_pb2.Decision, instrument_id: str) -> dict[str, Any]:
    """What each agent said about the instrument, and its share of the combined return."""
    names = list(decision.instrument_ids)
    index = names.index(instrument_id) if instrument_id in names else len(names)
    combined, shares = decision.aggregate, dict[str, float]()
    if index in list(combined.instrument_index):
        row, agents = list(combined.instrument_index).index(index), list(combined.agent_id)
        shares = dict(zip(agents, combined.contribution[row * len(agents) : (row + 1) * len(agents)], strict=True))
    signals, weights = [], {voice.agent_id: voice.weight for voice in decision.voices}
    for signal in decision.signals:
        rows = list(signal.instrument_index)
        row = rows.index(index) if index in rows else -1
        signals.append(
            {
                "agent_id": signal.agent_id,
                "expected_return": signal.expected_return[row] if row >= 0 and signal.expected_return else None,
                "confidence": signal.confidence[row] if row >= 0 else None,
                "contribution": shares.get(signal.agent_id),
                "weight": weights[signal.agent_id],
            }
        )
    return {
        "decision_id": decision.decision_id,
        "as_of": explanation.moment(decision.as_of_ns),
        "snapshot_id": decision.snapshot_id,
        "explanation": decision.explanation,
        "signals": signals,
    }


async def _ledger(system: System) -> AsyncIterator[event_pb2.EventEnvelope]:
    stub = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    async for response in stub.StreamEvents(execution_pb2.StreamEventsRequest(from_seq=1, stop_at_end=True)):
        for envelope in response.frame.events:
            yield envelope


def _what(envelope: event_pb2.EventEnvelope) -> tuple[str, str, str] | None:
    """(account, order, what an event says about it); None for an event about something else."""
    match envelope.schema.rpartition(".")[2]:
        case "OrderInitialized":
            begun = events_pb2.OrderInitialized.FromString(envelope.payload)
            reasons = ", ".join(map(_denial, begun.denial_reasons))
            verdict = f"denied: {reasons}" if reasons else f"approved {decimal(begun.approved_quantity_e9)}"
            text = f"{verdict}, under risk policy {begun.policy_version}"
            return begun.account_id, begun.spec.client_order_id, text
        case "OrderStateChanged":
            changed = events_pb2.OrderStateChanged.FromString(envelope.payload)
            states = (order_pb2.OrderState.Name(state) for state in (changed.from_state, changed.to_state))
            text = " to ".join(state.removeprefix("ORDER_STATE_") for state in states)
            return changed.account_id, changed.client_order_id, ": ".join(filter(None, (text, changed.reason)))
        case "OrderReplaced":
            replaced = events_pb2.OrderReplaced.FromString(envelope.payload)
            text = f"quantity {decimal(replaced.spec.quantity_e9)}"
            return replaced.account_id, replaced.client_order_id, text
        case "OrderFilled":
            fill = events_pb2.OrderFilled.FromString(envelope.payload).fill
            text = f"{decimal(fill.quantity_e9)} at {decimal(fill.price_e9)}, trade {fill.trade_id}"
            return fill.account_id, fill.client_order_id, text
        case "OrderScheduled":
            planned = events_pb2.OrderScheduled.FromString(envelope.payload)
            return planned.account_id, planned.client_order_id, f"{len(planned.quantity_e9)} slices"
        case _:
            return None


def _denial(reason: order_pb2.DenialReason.ValueType) -> str:
    return order_pb2.DenialReason.Name(reason).removeprefix("DENIAL_REASON_")
