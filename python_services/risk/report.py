"""The risk report of what an account held: the numbers of analysis.py as a message. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.risk.v1 import risk_pb2
from python_services.kit.convert import NANO, money
from python_services.kit.snapshots import Snapshot

from . import analysis, ladder
from .analysis import Market, StressRow, Tail, Vector
from .config import Config, Limits
from .holdings import Held, Rows, columns, rows
from .logic import Measures
from .measures import Panel, panel
from .policy import limit_uses
from .stress import Stress

_FOREIGN = "the account has or owes {}, and the risk of exchange rates is not estimated"
_NO_EQUITY = "equity is not above zero, so nothing is a share of it"


def make(
    held: Held,
    snapshot: Snapshot,
    instruments: Mapping[str, marketdata_pb2.Instrument],
    limits: Limits,
    config: Config,
    stress: Stress,
) -> risk_pb2.RiskReport:
    """Measures `held` on the snapshot. Raises ServiceError (FAILED_PRECONDITION, MARK_MISSING)."""
    every = rows(held, snapshot, instruments)
    book, how = every.book, config.report
    at = np.flatnonzero(book.lots)
    names = tuple(book.names[i] for i in at)
    values_e9 = [int(book.lots[i]) * int(book.lot_values[i]) for i in at]
    solvent = book.equity > 0
    weights = np.array([value / book.equity if solvent else 0.0 for value in values_e9])
    history = panel(columns(snapshot.close, snapshot, names), config.minimum_history_bars, config.var_decay)
    known = analysis.market(names, history, config.minimum_history_bars)
    if not solvent:
        known = _unmeasured(config, _NO_EQUITY)
    elif every.foreign:
        known = _unmeasured(config, _FOREIGN.format(", ".join(every.foreign)))
    quantities = [held.quantities_e9[name] for name in names]
    days = analysis.liquidation_days(
        np.array([quantity / NANO for quantity in quantities]), columns(snapshot.volume, snapshot, names), how
    )
    message = risk_pb2.RiskReport(
        account_id=held.account_id,
        snapshot_id=snapshot.snapshot_id,
        as_of_ns=snapshot.as_of_ns,
        ledger_seq=held.seq,
        equity=money(book.equity, held.currency),
        gross_exposure=money(sum(abs(value) for value in values_e9), held.currency),
        net_exposure=money(sum(values_e9), held.currency),
        tail_risks=[_tail(tail) for tail in analysis.tails(weights, known, how)],
        limit_uses=_uses(held, snapshot, every, limits, config, stress, history if names == book.names else None),
        model=risk_pb2.TailModel(
            observations=known.returns.shape[0],
            decay=known.decay,
            degrees_of_freedom=how.degrees,
            draws=how.draws,
            seed=how.seed,
        ),
    )
    if solvent:
        message.leverage = sum(abs(value) for value in values_e9) / book.equity
        table = analysis.stress_table(names, weights, known, stress, snapshot.as_of_ns)
        message.stress_results.extend(_stress(row, names) for row in table)
        found = analysis.liquidity(weights, days, known, how)
        if found is not None:
            message.liquidity.CopyFrom(
                risk_pb2.LiquidityRisk(
                    level=found.level, value_at_risk=found.value_at_risk, cost=found.cost, liquidation_days=found.days
                )
            )
    for i, name in enumerate(names):
        position = message.positions.add(
            instrument_id=name,
            quantity_e9=quantities[i],
            mark_e9=every.marks_e9[at[i]],
            value=money(values_e9[i], held.currency),
        )
        if solvent:
            position.weight = weights[i]
        if np.isfinite(days[i]):
            position.liquidation_days = days[i]
    return message


def held_weights(
    held: Held, snapshot: Snapshot, instruments: Mapping[str, marketdata_pb2.Instrument]
) -> tuple[tuple[str, ...], Vector]:
    """(names, signed shares of equity) of what is held.

    No names when they say nothing: equity is not above zero, or exchange rates make and lose money, too.
    """
    every = rows(held, snapshot, instruments)
    book = every.book
    at = np.flatnonzero(book.lots) if book.equity > 0 and not every.foreign else np.empty(0, dtype=np.intp)
    weights = np.array([int(book.lots[i]) * int(book.lot_values[i]) / book.equity for i in at])
    return tuple(book.names[i] for i in at), weights


def _uses(
    held: Held,
    snapshot: Snapshot,
    every: Rows,
    limits: Limits,
    config: Config,
    stress: Stress,
    history: Panel | None,
) -> list[risk_pb2.LimitUse]:
    """Every limit that a holding can use; those of orders have nothing to say here.

    history: of the book's rows, where it is known already: nearly always nothing is on order.
    """
    book = every.book
    if history is None:
        close = columns(snapshot.close, snapshot, book.names)
        history = panel(close, config.minimum_history_bars, config.var_decay)
    history = replace(history, whole=not every.foreign)
    moves = stress.moves(book.names, snapshot.as_of_ns)
    uses = Measures(book, limits, history, moves).report(book.lots)
    losses = ladder.losses(
        book.equity,
        held.day_start_equity_e9,
        held.peak_equity_e9,
        limits.daily_loss_bps,
        limits.drawdown_bps,
    )
    return limit_uses((use for use in uses if not use.limit.startswith("order_bps")), losses)


def _unmeasured(config: Config, reason: str) -> Market:
    return Market(returns=np.empty((0, 0)), covariance=np.empty((0, 0)), decay=config.var_decay, reason=reason)


def _tail(tail: Tail) -> risk_pb2.TailRisk:
    return risk_pb2.TailRisk(
        method=risk_pb2.TailRisk.Method.ValueType(tail.method),
        variant=tail.variant,
        level=tail.level,
        value_at_risk=tail.var,
        expected_shortfall=tail.es,
        marginal_value_at_risk=tail.marginal.tolist(),
        component_value_at_risk=tail.component.tolist(),
        component_expected_shortfall=tail.component_es.tolist(),
        absent_reason=tail.reason,
    )


def _stress(row: StressRow, names: tuple[str, ...]) -> risk_pb2.StressResult:
    message = risk_pb2.StressResult(
        scenario=row.scenario.name,
        kind=risk_pb2.StressResult.Kind.ValueType(row.kind),
        description=row.scenario.description,
        pnl=row.gain,
        distance=row.distance,
        absent_reason=row.reason,
    )
    if row.parts.size:
        worst = int(row.parts.argmin())
        message.worst_instrument_id, message.worst_instrument_pnl = names[worst], float(row.parts[worst])
    return message
