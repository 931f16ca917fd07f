"""The report of a session, made of what the services say about it. docs/report.md describes every key."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc
from alphamesh.execution.v1 import events_pb2, execution_pb2, execution_pb2_grpc, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.portfolio.v1 import portfolio_pb2, portfolio_pb2_grpc
from alphamesh.risk.v1 import risk_pb2
from alphamesh.type.v1 import money_pb2, trading_pb2
from python_services.kit.convert import decimal, money_e9, notional_e9
from python_services.kit.currency import Pairs, rate_missing

from . import attribution, risk_report
from .connect import System
from .session import Watched, day_of

SCHEMA_VERSION = 1
# Millions of cycles would not fit into one answer; these are the contracts' largest pages.
DECISION_PAGE, LEDGER_PAGE = 1000, 5000


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What only the caller knows: how it was run, and where things are."""

    transport: str
    elapsed_s: float
    services: Mapping[str, Mapping[str, Any]]
    startup_ms: Mapping[str, float]
    data_dir: Path
    logs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that was read back from the services."""

    decisions: list[decision_pb2.Decision]
    orders: list[order_pb2.Order]
    fills: list[order_pb2.Fill]
    actions: list[tuple[int, events_pb2.CorporateActionApplied]]
    valuations: list[tuple[int, events_pb2.AccountValued]]
    account: execution_pb2.Account
    performance: portfolio_pb2.Performance
    findings: list[marketdata_pb2.Finding]
    instruments: dict[str, marketdata_pb2.Instrument]
    risk: risk_pb2.RiskReport | None
    backtest: risk_pb2.BacktestValueAtRiskResponse | None


async def collect(system: System, session: decision_pb2.Session) -> Facts:
    """Reads all facts about a session that has ended."""
    ledger = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    view = system.stub(portfolio_pb2_grpc.PortfolioServiceStub, "portfolio")
    account_id = session.spec.account_id
    account = await ledger.GetAccount(execution_pb2.GetAccountRequest(account_id=account_id))
    performance = await view.GetPerformance(
        portfolio_pb2.GetPerformanceRequest(account_id=account_id, min_seq=account.applied_seq)
    )
    actions, valuations = await _ledger(system, account_id)
    risk, backtest = await risk_report.read(system, account_id, account.applied_seq)
    return Facts(
        decisions=[decision async for decision in list_decisions(system, session.session_id)],
        orders=[order async for order in list_orders(system, account_id)],
        fills=[fill async for fill in list_fills(system, account_id)],
        actions=actions,
        valuations=valuations,
        account=account.account,
        performance=performance.performance,
        findings=[finding async for finding in _findings(system)],
        instruments={instrument.instrument_id: instrument async for instrument in _instruments(system)},
        risk=risk,
        backtest=backtest,
    )


def build(watched: Watched, facts: Facts, around: Surroundings) -> dict[str, Any]:
    """The report: plain values only. Money and quantities are exact decimals in strings."""
    session, spec, performance = watched.session, watched.session.spec, facts.performance
    signals, abstentions = _signals(facts.decisions)
    from_fills = pnl_from_fills(facts)
    return {
        "schema_version": SCHEMA_VERSION,
        "session": {
            "session_id": session.session_id,
            "state": _name(decision_pb2.Session.State.Name(session.state), "STATE_"),
            "reason": session.reason,
            "transport": around.transport,
            "start": day_of(spec.start_ns),
            "end": day_of(spec.end_ns - 1),
            "account_id": spec.account_id,
            "currency": spec.initial_cash.currency_code,
            "initial_cash": _text(spec.initial_cash),
            "lookback_bars": spec.lookback_bars,
            "method": spec.mandate.method,
            "quorum": {rule.kind: rule.at_least for rule in spec.policy.quorum},
            "seed": spec.seed,
            "elapsed_s": round(around.elapsed_s, 3),
            "cycles_per_second": round(len(watched.cycles) / around.elapsed_s, 2) if around.elapsed_s else None,
        },
        "cycles": session.cycles_done,
        "instruments": list(spec.instrument_ids),
        "decisions_by_outcome": _counted(
            _name(decision_pb2.Decision.Outcome.Name(decision.outcome), "OUTCOME_") for decision in facts.decisions
        ),
        "signals_by_agent": signals,
        "abstentions_by_agent": abstentions,
        "agent_versions": _versions(facts.decisions),
        "agents": attribution.build(
            facts.decisions,
            happened(facts),
            facts.instruments,
            spec.initial_cash.currency_code,
            money_e9(performance.pnl),
            money_e9(performance.traded_notional),
        ),
        "missing_agents": _counted(missing.service for decision in facts.decisions for missing in decision.missing),
        "orders": len(facts.orders),
        "orders_by_outcome": _counted(
            _name(order_pb2.OrderState.Name(order.state), "ORDER_STATE_") for order in facts.orders
        ),
        "denials_by_reason": _counted(
            _name(order_pb2.DenialReason.Name(reason), "DENIAL_REASON_")
            for order in facts.orders
            for reason in order.denial_reasons[:1]
            if order.state == order_pb2.ORDER_STATE_DENIED
        ),
        "fills": len(facts.fills),
        "trades": [_trade(fill) for fill in facts.fills],
        "corporate_actions": [_applied(event) for _, event in facts.actions],
        "corporate_action_cash": _text(facts.account.corporate_action_cash),
        "traded_notional": _text(performance.traded_notional),
        "turnover": _optional(performance, "turnover"),
        "fees": _text(performance.fees),
        "initial_equity": _text(performance.initial_equity),
        "equity": _text(performance.equity),
        "pnl": _text(performance.pnl),
        "pnl_from_fills": decimal(from_fills),
        "reconciled": from_fills == money_e9(performance.pnl),
        "sharpe": _optional(performance, "sharpe"),
        "volatility": _optional(performance, "volatility"),
        "max_drawdown": _optional(performance, "max_drawdown"),
        "cash": _text(facts.account.cash),
        "balances": {books.cash.currency_code: _text(books.cash) for books in facts.account.currencies},
        "positions": [_position(position, facts.instruments) for position in facts.account.positions],
        "equity_curve": [
            {"date": day_of(time_ns), "ts_ns": time_ns, "equity": decimal(equity)}
            for time_ns, equity in zip(performance.valued_at_ns, performance.equity_e9, strict=True)
        ],
        "risk": None if facts.risk is None else risk_report.plain(facts.risk),
        "var_backtest": None if facts.backtest is None else risk_report.plain_backtest(facts.backtest),
        "latency_ms": _latencies(watched.cycles.values()),
        "data_findings": len(facts.findings),
        "data_findings_by_kind": _counted(
            _name(marketdata_pb2.Finding.Kind.Name(finding.kind), "KIND_") for finding in facts.findings
        ),
        "services": {name: dict(values) for name, values in around.services.items()},
        "startup_ms": dict(around.startup_ms),
        "final_event_hash": session.final_event_hash.hex(),
        "data_dir": str(around.data_dir),
        "logs": dict(around.logs),
        "generated_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def pnl_from_fills(facts: Facts) -> int:
    """Profit and loss in nano units, from fills, corporate actions and the last marks alone: cash flows and value held.

    Of several currencies each is added up by itself, with what conversions moved, and converted at the last rate.
    """
    home = facts.account.cash.currency_code
    totals: Counter[str] = Counter(
        {books.cash.currency_code: money_e9(books.funding) for books in facts.account.currencies}
    )
    totals[home] -= money_e9(facts.performance.initial_equity)
    held: Counter[str] = Counter()
    happened: list[tuple[int, order_pb2.Fill | events_pb2.CorporateActionApplied]] = [
        *((fill.seq, fill) for fill in facts.fills),
        *facts.actions,
    ]
    for _, one in sorted(happened, key=lambda pair: pair[0]):
        if isinstance(one, events_pb2.CorporateActionApplied):
            totals[one.cash.currency_code] += money_e9(one.cash)
            _act(held, one.action, facts.instruments)
            continue
        sign = 1 if one.side == trading_pb2.SIDE_BUY else -1
        instrument = facts.instruments[one.instrument_id]
        value = notional_e9(one.price_e9, one.quantity_e9, instrument.multiplier_e9)
        totals[instrument.currency_code] -= sign * value + money_e9(one.fee)
        held[one.instrument_id] += sign * one.quantity_e9
    marks = {position.instrument_id: position.mark_e9 for position in facts.account.positions}
    for name, quantity in held.items():
        if quantity:
            instrument = facts.instruments[name]
            totals[instrument.currency_code] += notional_e9(marks[name], quantity, instrument.multiplier_e9)
    rates = {books.rate_instrument_id: books.rate_e9 for books in facts.account.currencies}
    pairs, total = Pairs(facts.instruments), 0
    for currency, amount in totals.items():
        rate = pairs.rate(currency, home, rates)
        if rate is None:
            raise rate_missing(currency, home)
        total += rate.worth(amount)
    return total


def _act(
    held: Counter[str], action: execution_pb2.CorporateAction, instruments: Mapping[str, marketdata_pb2.Instrument]
) -> None:
    """A split in exact integers from its terms, whatever the ledger made of it; a symbol change moves what is held."""
    name = action.instrument_id
    if action.HasField("split"):
        lot_e9 = instruments[name].size_increment_e9
        exact = abs(held[name]) * action.split.new_shares // action.split.old_shares
        held[name] = (1 if held[name] >= 0 else -1) * (exact // lot_e9 * lot_e9)
    elif action.HasField("symbol_change"):
        held[action.symbol_change.new_instrument_id] += held.pop(name, 0)


async def list_decisions(system: System, session_id: str) -> AsyncIterator[decision_pb2.Decision]:
    """All decisions of a session, oldest first."""
    stub = system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")
    request = decision_pb2.ListDecisionsRequest(session_id=session_id, page_size=DECISION_PAGE)
    while True:
        page = await stub.ListDecisions(request)
        for decision in page.decisions:
            yield decision
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def list_orders(system: System, account_id: str, decision_id: str = "") -> AsyncIterator[order_pb2.Order]:
    """Orders in order of submission."""
    stub = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    request = execution_pb2.ListOrdersRequest(account_id=account_id, decision_id=decision_id, page_size=LEDGER_PAGE)
    while True:
        page = await stub.ListOrders(request)
        for order in page.orders:
            yield order
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def list_fills(system: System, account_id: str, decision_id: str = "") -> AsyncIterator[order_pb2.Fill]:
    """Fills in order of the ledger."""
    stub = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    request = execution_pb2.ListFillsRequest(account_id=account_id, decision_id=decision_id, page_size=LEDGER_PAGE)
    while True:
        page = await stub.ListFills(request)
        for fill in page.fills:
            yield fill
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def _ledger(
    system: System, account_id: str
) -> tuple[list[tuple[int, events_pb2.CorporateActionApplied]], list[tuple[int, events_pb2.AccountValued]]]:
    """Corporate actions and valuations with their sequence numbers, from the ledger's own events."""
    actions, valuations = [], []
    stub = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    async for response in stub.StreamEvents(execution_pb2.StreamEventsRequest(from_seq=1, stop_at_end=True)):
        for envelope in response.frame.events:
            if envelope.schema == events_pb2.CorporateActionApplied.DESCRIPTOR.full_name:
                action = events_pb2.CorporateActionApplied.FromString(envelope.payload)
                if action.account_id == account_id:
                    actions.append((envelope.seq, action))
            elif envelope.schema == events_pb2.AccountValued.DESCRIPTOR.full_name:
                valued = events_pb2.AccountValued.FromString(envelope.payload)
                if valued.account_id == account_id:
                    valuations.append((envelope.seq, valued))
    return actions, valuations


def happened(facts: Facts) -> list[tuple[int, attribution.Fact]]:
    """Fills, corporate actions and valuations in the order of the ledger."""
    found: list[tuple[int, attribution.Fact]] = [
        *((fill.seq, fill) for fill in facts.fills),
        *facts.actions,
        *facts.valuations,
    ]
    return sorted(found, key=lambda pair: pair[0])


async def _findings(system: System) -> AsyncIterator[marketdata_pb2.Finding]:
    stub = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    request = marketdata_pb2.ListFindingsRequest(page_size=LEDGER_PAGE)
    while True:
        page = await stub.ListFindings(request)
        for finding in page.findings:
            yield finding
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def _instruments(system: System) -> AsyncIterator[marketdata_pb2.Instrument]:
    stub = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    request = marketdata_pb2.ListInstrumentsRequest(page_size=LEDGER_PAGE)
    while True:
        page = await stub.ListInstruments(request)
        for instrument in page.instruments:
            yield instrument
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _signals(decisions: Iterable[decision_pb2.Decision]) -> tuple[dict[str, int], dict[str, int]]:
    given: Counter[str] = Counter()
    withheld: Counter[str] = Counter()
    for decision in decisions:
        for signal in decision.signals:
            given[signal.agent_id] += len(signal.instrument_index)
            withheld[signal.agent_id] += sum(len(group.instrument_index) for group in signal.abstained)
    return dict(sorted(given.items())), dict(sorted(withheld.items()))


def _versions(decisions: Iterable[decision_pb2.Decision]) -> dict[str, str]:
    """Version of each agent; of the latest decision when it changed on the way."""
    return {signal.agent_id: signal.agent_version for decision in decisions for signal in decision.signals}


def _applied(event: events_pb2.CorporateActionApplied) -> dict[str, Any]:
    action, kind = event.action, str(event.action.WhichOneof("action"))
    return {
        "action_id": action.action_id,
        "date": day_of(action.ts_event_ns),
        "instrument_id": action.instrument_id,
        "kind": kind,
        "old_quantity": decimal(event.old_quantity_e9),
        "new_quantity": decimal(event.new_quantity_e9),
        "cash": _text(event.cash),
        "currency": event.cash.currency_code,
    }


def _trade(fill: order_pb2.Fill) -> dict[str, Any]:
    return {
        "trade_id": fill.trade_id,
        "client_order_id": fill.client_order_id,
        "decision_id": fill.decision_id,
        "ts_event_ns": fill.ts_event_ns,
        "date": day_of(fill.ts_event_ns),
        "instrument_id": fill.instrument_id,
        "side": _name(trading_pb2.Side.Name(fill.side), "SIDE_"),
        "quantity": decimal(fill.quantity_e9),
        "price": decimal(fill.price_e9),
        "fee": _text(fill.fee),
        "currency": fill.fee.currency_code,
    }


def _position(position: execution_pb2.Position, instruments: Mapping[str, marketdata_pb2.Instrument]) -> dict[str, Any]:
    value = None
    if position.HasField("mark_e9"):
        multiplier = instruments[position.instrument_id].multiplier_e9
        value = decimal(notional_e9(position.mark_e9, position.quantity_e9, multiplier))
    return {
        "instrument_id": position.instrument_id,
        "currency": position.cost.currency_code,
        "quantity": decimal(position.quantity_e9),
        "cost": _text(position.cost),
        "mark": decimal(position.mark_e9) if position.HasField("mark_e9") else None,
        "value": value,
    }


def _latencies(cycles: Iterable[decision_pb2.CycleProgress]) -> dict[str, dict[str, float]]:
    steps: dict[str, list[int]] = {}
    for cycle in cycles:
        for latency in cycle.latencies:
            steps.setdefault(latency.step, []).append(latency.elapsed_ns)
    return {step: {"p50": quantile_ms(times, 0.50), "p99": quantile_ms(times, 0.99)} for step, times in steps.items()}


def quantile_ms(times_ns: list[int], share: float) -> float:
    """Nearest-rank quantile, in milliseconds."""
    ordered = sorted(times_ns)
    return round(ordered[max(math.ceil(share * len(ordered)) - 1, 0)] / 1e6, 3)


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _optional(message: portfolio_pb2.Performance, name: Any) -> float | None:
    return getattr(message, name) if message.HasField(name) else None


def _text(value: money_pb2.Money) -> str:
    return decimal(money_e9(value))


def _name(name: str, prefix: str) -> str:
    return name.removeprefix(prefix)
