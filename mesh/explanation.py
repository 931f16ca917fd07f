"""One decision, told from the snapshot to the fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from alphamesh.decision.v1 import decision_pb2
from alphamesh.execution.v1 import order_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.kit.convert import NANO, decimal, money_e9

from . import deciding, tables


def build(
    answer: decision_pb2.GetDecisionResponse, orders: Sequence[order_pb2.Order], fills: Sequence[order_pb2.Fill]
) -> dict[str, Any]:
    """Plain values, for JSON and for `show`. What does not exist is None."""
    decision = answer.decision
    names = list(decision.instrument_ids)
    return {
        "decision_id": decision.decision_id,
        "session_id": decision.session_id,
        "cycle": decision.cycle,
        "as_of": moment(decision.as_of_ns),
        "as_of_ns": decision.as_of_ns,
        "account_id": decision.account_id,
        "outcome": decision_pb2.Decision.Outcome.Name(decision.outcome).removeprefix("OUTCOME_"),
        "explanation": decision.explanation,
        "event": {"stream": "coordinator", "seq": answer.seq, "hash": answer.event_hash.hex()},
        "snapshot": {"snapshot_id": decision.snapshot_id, "instruments": names, "ledger_seq": decision.ledger_seq},
        "regime": deciding.regime(decision),
        "signals": [_signal(signal, names) for signal in decision.signals],
        "missing": [
            {
                "service": missing.service,
                "cause": decision_pb2.MissingAgent.Cause.Name(missing.cause).removeprefix("CAUSE_"),
                "reason": missing.reason,
            }
            for missing in decision.missing
        ],
        "voices": [deciding.voice(voice) for voice in decision.voices],
        "rules": [deciding.rule(rule, names) for rule in decision.rules],
        "scores": [deciding.score(score) for score in decision.scores],
        "aggregate": _aggregate(decision.aggregate, names) if decision.HasField("aggregate") else None,
        "portfolio": _portfolio(decision.portfolio, names) if decision.HasField("portfolio") else None,
        "risk": _risk(decision.risk) if decision.HasField("risk") else None,
        "planned_orders": [
            {
                "client_order_id": order.client_order_id,
                "instrument_id": order.instrument_id,
                "side": _side(order.side),
                "quantity": decimal(order.quantity_e9),
            }
            for order in decision.orders
        ],
        "orders": [order(one) for one in orders],
        "fills": [_fill(fill) for fill in fills],
    }


def show(content: Mapping[str, Any]) -> None:
    """The same as tables."""
    console, table = tables.console, tables.table
    console.print(f"[bold]Decision {content['decision_id']}[/bold]: {content['outcome']}, {content['as_of']}")
    console.print(content["explanation"], markup=False)
    snapshot = content["snapshot"]
    console.print(f"snapshot {snapshot['snapshot_id']} of {', '.join(snapshot['instruments'])}")
    console.print(f"event    coordinator seq {content['event']['seq']}, hash {content['event']['hash']}\n")

    rows = table(
        "Signals", "agent", "version", "instrument", "return", "volatility", "confidence", "from", numbers=_NUMBERS
    )
    for signal in content["signals"]:
        for line in signal["estimates"]:
            evidence = ", ".join(f"{name} {value:.4g}" for name, value in line["evidence"].items())
            rows.add_row(
                signal["agent_id"],
                signal["agent_version"],
                line["instrument_id"],
                _percent(line["expected_return"]),
                _percent(line["volatility"]),
                f"{line['confidence']:.2f}",
                evidence,
            )
        for abstention in signal["abstentions"]:
            why = f"{abstention['reason']}{f' ({detail})' if (detail := abstention['detail']) else ''}"
            rows.add_row(
                signal["agent_id"], signal["agent_version"], abstention["instrument_id"], "abstains", "", "", why
            )
    console.print(rows)
    for missing in content["missing"]:
        console.print(f"missing: {missing['service']}: {missing['reason']}", markup=False)
    deciding.show(content)
    if content["aggregate"]:
        _show_aggregate(content["aggregate"])
    if content["portfolio"]:
        _show_portfolio(content["portfolio"])
    if content["risk"]:
        risk = content["risk"]
        console.print(f"[bold]Risk[/bold] {risk['verdict']}, scale {risk['scale']:g}, policy {risk['policy_version']}")
        for violation in risk["violations"]:
            console.print(f"  {violation}", markup=False)
        console.print()
    _show_orders(content)


def _show_aggregate(aggregate: Mapping[str, Any]) -> None:
    rows = tables.table(
        f"Aggregation: {aggregate['method']}, {aggregate['horizon_bars']} bars ahead",
        "instrument", "return", "volatility", "confidence", "contributions", numbers=_NUMBERS,
    )  # fmt: skip
    for line in aggregate["forecasts"]:
        shares = ", ".join(f"{agent} {_percent(value)}" for agent, value in line["contributions"].items())
        rows.add_row(
            line["instrument_id"],
            _percent(line["expected_return"]),
            _percent(line["volatility"]),
            f"{line['confidence']:.2f}",
            shares,
        )
    tables.console.print(rows)


def _show_portfolio(portfolio: Mapping[str, Any]) -> None:
    rows = tables.table(
        f"Targets: {portfolio['solver']}, turnover {portfolio['turnover']:.2%}",
        "instrument", "weight", "target weight", "quantity", "target quantity", numbers=_NUMBERS,
    )  # fmt: skip
    for line in portfolio["targets"]:
        rows.add_row(
            line["instrument_id"],
            _percent(line["current_weight"]),
            _percent(line["target_weight"]),
            line["current_quantity"],
            line["target_quantity"],
        )
    tables.console.print(rows)


def _show_orders(content: Mapping[str, Any]) -> None:
    if not content["orders"]:
        tables.console.print("no orders")
        return
    rows = tables.table("Orders", "order", "instrument", "side", "quantity", "filled", "state", "why", numbers=_NUMBERS)
    for order in content["orders"]:
        why = ", ".join(order["denial_reasons"]) or order["reason"]
        rows.add_row(
            order["client_order_id"],
            order["instrument_id"],
            order["side"],
            order["quantity"],
            order["filled"],
            order["state"],
            why,
        )
    tables.console.print(rows)
    if content["fills"]:
        rows = tables.table("Fills", "trade", "order", "when", "quantity", "price", "fee", numbers=_NUMBERS)
        for fill in content["fills"]:
            rows.add_row(
                fill["trade_id"], fill["client_order_id"], fill["when"], fill["quantity"], fill["price"], fill["fee"]
            )
        tables.console.print(rows)


def _signal(signal: decision_pb2.Signal, names: list[str]) -> dict[str, Any]:
    count = len(signal.instrument_index)
    estimates = [
        {
            "instrument_id": names[index],
            "expected_return": signal.expected_return[row] if signal.expected_return else None,
            "volatility": signal.volatility[row],
            "confidence": signal.confidence[row],
            "evidence": {
                name: signal.evidence_value[feature * count + row]
                for feature, name in enumerate(signal.evidence_name)
                if signal.evidence_value
            },
        }
        for row, index in enumerate(signal.instrument_index)
    ]
    return {
        "agent_id": signal.agent_id,
        "agent_version": signal.agent_version,
        "model_version": signal.model_version if signal.HasField("model_version") else None,
        "horizon_bars": signal.horizon_bars,
        "degraded": signal.degraded if signal.HasField("degraded") else None,
        "estimates": estimates,
        "abstentions": [
            {"instrument_id": names[index], "reason": group.reason, "detail": group.detail}
            for group in signal.abstained
            for index in group.instrument_index
        ],
    }


def _aggregate(aggregate: decision_pb2.Aggregate, names: list[str]) -> dict[str, Any]:
    agents = list(aggregate.agent_id)
    return {
        "method": aggregate.method,
        "horizon_bars": aggregate.horizon_bars,
        "forecasts": [
            {
                "instrument_id": names[index],
                "expected_return": aggregate.expected_return[row],
                "volatility": aggregate.volatility[row],
                "confidence": aggregate.confidence[row],
                "contributions": dict(
                    zip(agents, aggregate.contribution[row * len(agents) : (row + 1) * len(agents)], strict=True)
                ),
            }
            for row, index in enumerate(aggregate.instrument_index)
        ],
    }


def _portfolio(portfolio: decision_pb2.ProposedPortfolio, names: list[str]) -> dict[str, Any]:
    columns = zip(
        (names[index] for index in portfolio.instrument_index),
        portfolio.current_weight,
        portfolio.target_weight,
        portfolio.current_quantity_e9,
        portfolio.target_quantity_e9,
        strict=True,
    )
    return {
        "target_id": portfolio.target_id,
        "solver": portfolio.solver,
        "turnover": portfolio.turnover,
        "targets": [
            {
                "instrument_id": name,
                "current_weight": current,
                "target_weight": target,
                "current_quantity": decimal(held),
                "target_quantity": decimal(wanted),
            }
            for name, current, target, held, wanted in columns
        ],
    }


def _risk(risk: decision_pb2.RiskVerdict) -> dict[str, Any]:
    return {
        "assessment_id": risk.assessment_id,
        "verdict": risk.verdict,
        "scale": risk.scale,
        "violations": list(risk.violations),
        "policy_version": risk.policy_version,
    }


def order(order: order_pb2.Order) -> dict[str, Any]:
    """One order, plain values."""
    return {
        "client_order_id": order.spec.client_order_id,
        "instrument_id": order.spec.instrument_id,
        "side": _side(order.spec.side),
        "order_type": trading_pb2.OrderType.Name(order.spec.order_type).removeprefix("ORDER_TYPE_"),
        "quantity": decimal(order.spec.quantity_e9),
        "filled": decimal(order.cumulative_quantity_e9),
        "state": order_pb2.OrderState.Name(order.state).removeprefix("ORDER_STATE_"),
        "denial_reasons": [
            order_pb2.DenialReason.Name(reason).removeprefix("DENIAL_REASON_") for reason in order.denial_reasons
        ],
        "reason": order.reason,
        "fees": decimal(money_e9(order.fees)),
        "seq": order.seq,
    }


def _fill(fill: order_pb2.Fill) -> dict[str, Any]:
    return {
        "trade_id": fill.trade_id,
        "client_order_id": fill.client_order_id,
        "instrument_id": fill.instrument_id,
        "side": _side(fill.side),
        "when": moment(fill.ts_event_ns),
        "ts_event_ns": fill.ts_event_ns,
        "quantity": decimal(fill.quantity_e9),
        "price": decimal(fill.price_e9),
        "fee": decimal(money_e9(fill.fee)),
        "seq": fill.seq,
    }


def _side(side: trading_pb2.Side.ValueType) -> str:
    return trading_pb2.Side.Name(side).removeprefix("SIDE_")


def moment(time_ns: int) -> str:
    """A market time as ISO text, to the second."""
    return datetime.fromtimestamp(time_ns / NANO, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


_NUMBERS = frozenset(
    {"return", "volatility", "confidence", "weight", "target weight", "quantity", "target quantity", "filled", "price",
     "fee"}
)  # fmt: skip
