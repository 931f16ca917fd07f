"""What each agent earned, traded and foresaw, by version: from the decisions and the ledger's events alone.

**P&L.** Between two valuations each instrument makes a profit: what is held then at its mark, less what was held before
at its mark then, plus the cash that its fills, fees and corporate actions moved; exact integers. It is shared out by
the latest decision that had a combined view: agent a's share is its contribution to the combined return over the sum
of all contributions, so that who was against it has a negative share, and shares sum to one. Where agents nearly cancel
out, the sum is taken for a quarter of their gross at least, or shares would be without bounds. A position against the
combined view (kept by a constraint or by risk), or without one, is nobody's. What shares leave over, in rounding too,
is the row "unattributed": all rows together are the session's P&L, to the billionth.

**Turnover.** The notional of a fill by the absolute contributions to the decision that ordered it.

**Foresight.** From the scores in the decisions, each forecast counted once (track records forget, this does not).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from alphamesh.decision.v1 import decision_pb2
from alphamesh.execution.v1 import events_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.kit.convert import NANO, decimal, money_e9, notional_e9
from python_services.kit.currency import Pairs

LEAST_AGREEMENT = 0.25
Fact: TypeAlias = order_pb2.Fill | events_pb2.CorporateActionApplied | events_pb2.AccountValued
Agent: TypeAlias = tuple[str, str]  # agent_id, version


@dataclass(kw_only=True)
class Row:
    """One agent's version; money in nano units of the account's currency."""

    pnl_e9: int = 0
    traded_e9: int = 0
    decisions: int = 0
    weight: float = 0.0
    forecasts: int = 0
    xy: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    brier: float = 0.0
    absolute_error: float = 0.0
    stated: Counter[int] = field(default_factory=Counter)
    hits: Counter[int] = field(default_factory=Counter)
    p: dict[int, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(frozen=True, kw_only=True)
class _Shares:
    """Of one decision about one instrument, in billionths. `side` is the combined view's."""

    side: int
    agents: Sequence[Agent]
    signed: Sequence[int]
    absolute: Sequence[int]


def build(
    decisions: Sequence[decision_pb2.Decision],
    ledger: Iterable[tuple[int, Fact]],
    instruments: Mapping[str, marketdata_pb2.Instrument],
    currency: str,
    pnl_e9: int,
    traded_e9: int,
) -> dict[str, Any]:
    """Plain values: rows by agent and version, and what is nobody's. ledger: (seq, fact) of the account, in order."""
    rows: defaultdict[Agent, Row] = defaultdict(Row)
    for decision in decisions:
        _foresight(decision, rows)
    _money(decisions, ledger, instruments, currency, rows)
    return {
        "by_agent": [_plain(agent, row) for agent, row in sorted(rows.items())],
        "unattributed": {
            "pnl": decimal(pnl_e9 - sum(row.pnl_e9 for row in rows.values())),
            "traded_notional": decimal(traded_e9 - sum(row.traded_e9 for row in rows.values())),
        },
    }


def _money(
    decisions: Sequence[decision_pb2.Decision],
    ledger: Iterable[tuple[int, Fact]],
    instruments: Mapping[str, marketdata_pb2.Instrument],
    currency: str,
    rows: Mapping[Agent, Row],
) -> None:
    by_id = {decision.decision_id: _shares(decision) for decision in decisions}
    at_snapshot = {d.snapshot_id: by_id[d.decision_id] for d in decisions if d.HasField("aggregate")}
    pairs, marks = Pairs(instruments), dict[str, int]()
    held: Counter[str] = Counter()
    before: dict[str, int] = {}  # value at the last valuation
    moved: Counter[str] = Counter()  # cash since then
    fills: list[order_pb2.Fill] = []
    current: Mapping[str, _Shares] = {}

    def worth(name: str, amount_e9: int) -> int:
        rate = pairs.rate(instruments[name].currency_code, currency, marks)
        return rate.worth(amount_e9) if rate is not None else 0

    for _, fact in ledger:
        if isinstance(fact, order_pb2.Fill):
            sign = 1 if fact.side == trading_pb2.SIDE_BUY else -1
            value = notional_e9(fact.price_e9, fact.quantity_e9, instruments[fact.instrument_id].multiplier_e9)
            held[fact.instrument_id] += sign * fact.quantity_e9
            moved[fact.instrument_id] -= sign * value + money_e9(fact.fee)
            fills.append(fact)
        elif isinstance(fact, events_pb2.CorporateActionApplied):
            name, new = fact.action.instrument_id, fact.action.symbol_change.new_instrument_id
            moved[name] += money_e9(fact.cash)
            held[name] = 0
            if new:  # what it was worth goes with it
                before[new] = before.get(new, 0) + before.pop(name, 0)
                moved[new] += moved.pop(name, 0)
            held[new or name] = fact.new_quantity_e9
        else:
            marks.update(zip(fact.instrument_ids, fact.mark_e9, strict=True))
            after = {
                name: notional_e9(marks[name], quantity, instruments[name].multiplier_e9)
                for name, quantity in held.items()
                if quantity and name in marks
            }
            for name in sorted({*before, *after, *moved}):
                made = worth(name, after.get(name, 0) - before.get(name, 0) + moved[name])
                shares = current.get(name)
                side = _side(held[name]) or _side(before.get(name, 0))
                if made and shares is not None and shares.side == side:
                    for agent, share in zip(shares.agents, shares.signed, strict=True):
                        rows[agent].pnl_e9 += made * share // NANO
            for fill in fills:
                ordered = by_id.get(fill.decision_id, {}).get(fill.instrument_id)
                multiplier = instruments[fill.instrument_id].multiplier_e9
                value = worth(fill.instrument_id, notional_e9(fill.price_e9, fill.quantity_e9, multiplier))
                if ordered is not None:
                    for agent, share in zip(ordered.agents, ordered.absolute, strict=True):
                        rows[agent].traded_e9 += value * share // NANO
            before, moved, fills = after, Counter(), []
            current = at_snapshot.get(fact.snapshot_id, current)


def _shares(decision: decision_pb2.Decision) -> dict[str, _Shares]:
    """By instrument, where the combined view has a direction."""
    aggregate, width = decision.aggregate, max(len(decision.aggregate.agent_id), 1)
    versions = {voice.agent_id: voice.version for voice in decision.voices}
    agents = [(name, versions[name]) for name in aggregate.agent_id]
    contributions = np.array(aggregate.contribution, np.float64).reshape(-1, width)
    total, gross = contributions.sum(axis=1), np.abs(contributions).sum(axis=1)
    rows = np.flatnonzero(total)
    base = np.copysign(np.maximum(np.abs(total), LEAST_AGREEMENT * gross), total)[rows, None]
    signed = np.rint(contributions[rows] / base * NANO).astype(np.int64).tolist()
    absolute = (np.abs(contributions[rows]) / gross[rows, None] * NANO).astype(np.int64).tolist()
    indices = list(aggregate.instrument_index)
    return {
        decision.instrument_ids[indices[row]]: _Shares(
            side=1 if total[row] > 0 else -1, agents=agents, signed=signed[place], absolute=absolute[place]
        )
        for place, row in enumerate(rows.tolist())
    }


def _foresight(decision: decision_pb2.Decision, rows: defaultdict[Agent, Row]) -> None:
    for voice in decision.voices:
        row = rows[voice.agent_id, voice.version]
        row.decisions += 1
        row.weight += voice.weight
    for score in decision.scores:
        row = rows[score.agent_id, score.version]
        row.forecasts += score.forecasts
        row.xy, row.xx, row.yy = row.xy + score.sum_xy, row.xx + score.sum_xx, row.yy + score.sum_yy
        row.brier += score.sum_brier
        row.absolute_error += score.sum_absolute_error
        for place, (stated, hits, p) in enumerate(zip(score.stated, score.hits, score.sum_p, strict=True)):
            row.stated[place] += stated
            row.hits[place] += hits
            row.p[place] += p


def _plain(agent: Agent, row: Row) -> dict[str, Any]:
    stated, scale, bins = row.stated.total(), math.sqrt(row.xx * row.yy), len(row.stated)
    return {
        "agent_id": agent[0],
        "version": agent[1],
        "decisions": row.decisions,
        "mean_weight": row.weight / row.decisions if row.decisions else None,
        "pnl": decimal(row.pnl_e9),
        "traded_notional": decimal(row.traded_e9),
        "forecasts_scored": row.forecasts,
        "information_coefficient": row.xy / scale if scale else None,
        "hit_rate": row.hits.total() / stated if stated else None,
        "brier": row.brier / stated if stated else None,
        "mean_absolute_error": row.absolute_error / row.forecasts if row.forecasts else None,
        "calibration": [
            {
                "from": 0.5 + 0.5 * place / bins,
                "to": 0.5 + 0.5 * (place + 1) / bins,
                "count": count,
                "stated": row.p[place] / count,
                "observed": row.hits[place] / count,
            }
            for place, count in sorted(row.stated.items())
            if count
        ],
    }


def _side(quantity: int) -> int:
    return (quantity > 0) - (quantity < 0)
