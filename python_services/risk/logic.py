"""The verdict on a proposed portfolio: the use of every limit, and how far the changes may go. Pure.

Every measure is a convex function of how far the changes go, so those that fit are an interval that
begins at no change: bisection over millionths finds its end. A limit that the holdings exceed already
(prices moved) blocks only what makes it worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from execution_core.types import TradingState

from .config import Limits
from .measures import Panel, TailRisk, panel, tail_risk
from .stress import NO_MOVES, Moves

Lots = NDArray[np.int64]
Vector = NDArray[np.float64]

SCALE = 1_000_000  # scales are whole millionths, so that everyone who applies one gets the same lots
BPS = 10_000.0
_ROUNDING = 1e-9


class Outcome(IntEnum):
    """Assessment.Verdict."""

    APPROVED = 1
    REDUCED = 2
    REJECTED = 3


@dataclass(frozen=True, kw_only=True)
class Book:
    """Rows of everything held, proposed or on order. Lots are signed; money in nano units."""

    names: tuple[str, ...]
    sectors: tuple[str, ...]
    lots: Lots
    open_buys: Lots
    open_sells: Lots
    lot_values: Lots
    equity: int


@dataclass(frozen=True, kw_only=True)
class Use:
    """One limit: share of equity in basis points, and whether the proposal broke it."""

    limit: str
    used_bps: float
    limit_bps: float
    violated: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`approved` are the lots that may be held; `uses`, `risk` and `stress` are of the proposal, `carried` of what
    is held. `stress` is (scenario, loss as a share of equity) of the worst, None when nothing can be said."""

    outcome: Outcome
    scale_millionths: int
    approved: Lots
    uses: tuple[Use, ...]
    risk: TailRisk | None
    carried: TailRisk | None
    stress: tuple[str, float] | None


class Measures:
    """The limits of one assessment as columns, and their use by any lots."""

    def __init__(self, book: Book, limits: Limits, history: Panel, moves: Moves = NO_MOVES) -> None:
        self._moves = moves
        self._book = book
        self._limits = limits
        self._history = history
        self._value = book.lot_values / max(book.equity, 1)
        self._sectors = sorted(set(book.sectors))
        places = {sector: place for place, sector in enumerate(self._sectors)}
        self._sector = np.array([places[sector] for sector in book.sectors], dtype=np.intp)
        restricted = frozenset(limits.restricted_instrument_ids)
        self._restricted = np.array([name in restricted for name in book.names], dtype=bool)
        self.names, self.limits = self._columns()

    def _columns(self) -> tuple[list[str], Vector]:
        limits, names = self._limits, self._book.names
        columns = [("gross_exposure_bps", limits.gross_exposure_bps), ("net_exposure_bps", limits.net_exposure_bps)]
        columns += [(f"sector_bps[{sector}]", limits.sector_bps) for sector in self._sectors]
        columns += [(f"position_bps[{name}]", limits.position_bps) for name in names]
        columns += [(f"order_bps[{name}]", limits.order_bps) for name in names]
        columns += [(f"restricted[{name}]", 0) for name, is_one in zip(names, self._restricted, strict=True) if is_one]
        if not limits.short_allowed:
            columns += [(f"short_allowed[{name}]", 0) for name in names]
        columns += [("var_bps", limits.var_bps)]
        if limits.stressed_loss_bps is not None:
            columns += [("stressed_loss_bps", limits.stressed_loss_bps)]
        return [name for name, _ in columns], np.array([limit for _, limit in columns], dtype=np.float64)

    def uses(self, lots: Lots) -> tuple[Vector, TailRisk | None]:
        """(basis points of equity in each column, tail risk as shares of equity) of holding `lots`.

        Exposures are the worst that open orders can make of them.
        """
        book, value = self._book, self._value
        highest, lowest = (lots + book.open_buys) * value, (lots - book.open_sells) * value
        exposure = np.maximum(np.abs(highest), np.abs(lowest))
        risk = tail_risk(lots * value, self._history)
        parts = [
            [exposure.sum(), max(abs(highest.sum()), abs(lowest.sum()))],
            np.bincount(self._sector, weights=exposure, minlength=len(self._sectors)),
            exposure,
            np.abs(lots - book.lots) * value,
            (np.maximum(np.abs(lots) - np.abs(book.lots), 0) * value)[self._restricted],
        ]
        if not self._limits.short_allowed:
            parts.append(np.maximum(-lowest, 0.0))
        parts.append([risk.value_at_risk if risk is not None else 0.0])
        if self._limits.stressed_loss_bps is not None:
            worst = self.stress(lots)
            parts.append([worst[1] if worst is not None else 0.0])
        return np.concatenate(parts) * BPS, risk

    def stress(self, lots: Lots) -> tuple[str, float] | None:
        """(scenario, loss as a share of equity) of the worst for `lots`; None when nothing can be said."""
        return self._moves.worst(lots * self._value) if self._moves.scenarios else None

    def report(self, lots: Lots) -> tuple[Use, ...]:
        """Use of every limit by holding `lots`, of those with many rows the fullest and every broken one."""
        uses, risk = self.uses(lots)
        broken = uses > self.limits + _ROUNDING * BPS
        return _report(self, uses, broken, absent=self.absent(risk, self.stress(lots)))

    @staticmethod
    def absent(risk: TailRisk | None, stress: tuple[str, float] | None) -> frozenset[str]:
        """Limits whose use could not be computed."""
        return frozenset({"var_bps"} if risk is None else ()) | frozenset(
            {"stressed_loss_bps"} if stress is None else ()
        )


def assess(book: Book, targets: Lots, limits: Limits, history: Panel, state: int, moves: Moves = NO_MOVES) -> Verdict:
    """Judges the change from book.lots to `targets` in the trading state in force."""
    measures = Measures(book, limits, history, moves)
    (now, carried), (proposed, risk) = measures.uses(book.lots), measures.uses(targets)
    stress = measures.stress(targets)
    allowed = np.maximum(measures.limits, now) + _ROUNDING * BPS
    broken = proposed > allowed

    def verdict(outcome: Outcome, millionths: int, approved: Lots) -> Verdict:
        return Verdict(
            outcome=outcome,
            scale_millionths=millionths,
            approved=approved,
            uses=_report(measures, proposed, broken, absent=measures.absent(risk, stress)),
            risk=risk,
            carried=carried,
            stress=stress,
        )

    if state != TradingState.ACTIVE:
        approved = _reductions(book.lots, targets) if state < TradingState.FLATTEN else book.lots
        if (approved != targets).any():
            return verdict(Outcome.REJECTED, 0, approved)
        return verdict(Outcome.APPROVED, SCALE, approved)
    if not broken.any():
        return verdict(Outcome.APPROVED, SCALE, targets)
    low, high = 0, SCALE
    while high - low > 1:
        middle = (low + high) // 2
        if (measures.uses(scaled(book.lots, targets, middle))[0] > allowed).any():
            high = middle
        else:
            low = middle
    return verdict(Outcome.REDUCED, low, scaled(book.lots, targets, low))


def scaled(lots: Lots, targets: Lots, millionths: int) -> Lots:
    """lots + change * millionths / 1e6, the change cut towards zero to whole lots; exact integers."""
    change = targets - lots
    part = np.abs(change) // SCALE * millionths + np.abs(change) % SCALE * millionths // SCALE
    answer: Lots = lots + np.sign(change) * part
    return answer


def _reductions(lots: Lots, targets: Lots) -> Lots:
    """What of the change makes positions smaller: none is opened, raised or taken through zero."""
    return np.clip(targets, np.minimum(lots, 0), np.maximum(lots, 0))


def _report(measures: Measures, uses: Vector, broken: NDArray[np.bool_], *, absent: frozenset[str]) -> tuple[Use, ...]:
    """Every limit of the account; of those with many rows the fullest, and every broken one."""
    kept: list[int] = []
    fullest: dict[str, int] = {}
    for i, name in enumerate(measures.names):
        kind = name.partition("[")[0]
        if kind not in fullest or uses[i] > uses[fullest[kind]]:
            fullest[kind] = i
    for i in sorted({*fullest.values(), *np.flatnonzero(broken).tolist()}):
        by_rule = measures.limits[i] == 0.0
        if measures.names[i] not in absent and (broken[i] or not by_rule):
            kept.append(i)
    return tuple(
        Use(
            limit=measures.names[i],
            used_bps=float(uses[i]),
            limit_bps=float(measures.limits[i]),
            violated=bool(broken[i]),
        )
        for i in kept
    )


def warm() -> None:
    """Judges a made-up portfolio, so that no request ever compiles or loads a kernel."""
    close = 100.0 + np.cumsum(np.sin(np.arange(80.0).reshape(40, 2) ** 2), axis=0)
    lots = np.zeros(2, dtype=np.int64)
    book = Book(
        names=("A", "B"),
        sectors=("S", "S"),
        lots=lots,
        open_buys=lots,
        open_sells=lots,
        lot_values=np.full(2, 1_000_000_000, dtype=np.int64),
        equity=100_000_000_000,
    )
    assess(book, lots + 90, Limits(), panel(close, 30, 0.94), TradingState.ACTIVE)
