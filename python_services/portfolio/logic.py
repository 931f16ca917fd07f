"""What to hold: combined forecasts, history and holdings in, whole lots out. Pure and deterministic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from operator import mul
from typing import cast

import numpy as np
from numpy.typing import NDArray

from execution_core.construction.rounding import round_to_lots
from execution_core.errors import InfeasibleError
from execution_core.risk import low_rank
from execution_core.risk.covariance import Method as Estimator
from execution_core.risk.covariance import estimate
from execution_core.risk.low_rank import Factors
from python_services.kit.history import usable_returns

from . import allocation
from .allocation import Mandate, Matrix, Vector

NANO = 1_000_000_000

Lots = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Book:
    """What the account holds, a row per instrument of the snapshot; money in nano units.

    lot_values  what one lot is worth at its mark, 0 without a mark
    elsewhere   value of holdings outside the snapshot
    """

    names: tuple[str, ...]
    held: Lots
    lot_values: Lots
    equity: int
    elsewhere: int = 0

    @cached_property
    def weights(self) -> Vector:
        """Signed shares of equity held now."""
        return self.held * (self.lot_values / self.equity)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The agents' combined view of some rows, over `horizon` bars."""

    rows: NDArray[np.intp]
    expected: Vector
    confidence: Vector
    horizon: int


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """How risk is estimated; see config.Config."""

    covariance: str
    ewma_decay: float
    minimum_history: int
    cash_buffer: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Lots to hold, and what is expected of them over the horizon; None where it is not known."""

    lots: Lots
    weights: Vector
    turnover: float
    cost: float
    expected_return: float | None
    expected_volatility: float | None
    solver: str


def plan(close: Matrix, book: Book, forecast: Forecast, mandate: Mandate, estimates: Estimates) -> Plan:
    """Targets for every row of the snapshot.

    The return used is expected * confidence: a forecast without confidence is worth nothing, and the
    covariance is that of the snapshot's closes, scaled from one bar to the horizon (independent
    returns). Rows without forecast, mark or history keep their position.

    Raises InfeasibleError that names the limits in conflict.
    """
    size = len(book.names)
    expected = np.zeros(size)
    expected[forecast.rows] = forecast.expected * forecast.confidence
    risk = _risk(close, forecast, book, estimates)
    known = np.zeros(size, dtype=bool)
    known[risk.rows] = True
    tradable = np.zeros(size, dtype=bool)
    tradable[forecast.rows] = True
    tradable &= (book.lot_values > 0) & known
    held = book.weights
    aim, solver = held.copy(), "no instrument can be traded"
    if tradable.any():
        inside = tradable[risk.rows]
        rows = risk.rows[inside]
        # Against the risk of what stays: its covariance with the others is a cost of holding them.
        carried = risk.times(np.where(inside, 0.0, held[risk.rows]))[inside]
        others = np.append(held[~tradable], book.elsewhere / book.equity)
        limits = allocation.room(mandate, held[rows], others, estimates.cash_buffer)
        make = allocation.mean_variance if mandate.method == "mean_variance" else allocation.equal_risk
        drift = mandate.risk_aversion * carried if mandate.method == "mean_variance" else 0.0
        names = book.names if rows.size == size else tuple(book.names[i] for i in rows)
        aim[rows], solver = make(expected[rows] - drift, risk.part(inside), held[rows], limits, mandate, names)
        if not limits.cured:
            solver += "; holdings beyond the mandate are brought back as fast as the turnover limit allows"
    lots = _whole_lots(aim, tradable, book, mandate, estimates.cash_buffer)
    weights = lots * (book.lot_values / book.equity)
    change = float(np.abs(weights - held).sum())
    kept = np.flatnonzero(~tradable)
    if kept.size:
        named = ", ".join(book.names[i] for i in kept[: allocation.NAMED])
        rest = f" and {kept.size - allocation.NAMED} more" if kept.size > allocation.NAMED else ""
        solver += f"; held as they are: {named}{rest}"
    return Plan(
        lots=lots,
        weights=weights,
        turnover=change / 2.0,
        cost=change * mandate.cost_per_notional,
        expected_return=float(expected @ weights) if forecast.rows.size else None,
        expected_volatility=_volatility(weights, known, risk),
        solver=solver,
    )


@dataclass(frozen=True, kw_only=True)
class _Risk:
    """Covariance over the horizon of some rows, as factors where the estimator has such a form."""

    rows: NDArray[np.intp]
    covariance: Matrix | Factors

    def times(self, weights: Vector) -> Vector:
        """The covariance of each row with a portfolio of them."""
        if isinstance(self.covariance, Factors):
            return self.covariance.times(weights)
        product: Vector = self.covariance @ weights
        return product

    def part(self, inside: NDArray[np.bool_]) -> Matrix | Factors:
        """The same for part of the rows."""
        if inside.all():
            return self.covariance
        if isinstance(self.covariance, Factors):
            return self.covariance.part(inside)
        return np.ascontiguousarray(self.covariance[np.ix_(inside, inside)])


def _risk(close: Matrix, forecast: Forecast, book: Book, estimates: Estimates) -> _Risk:
    """Of what is forecast or held, and has a history."""
    needed = book.held != 0
    needed[forecast.rows] = True
    candidates = np.flatnonzero(needed)
    columns, returns = usable_returns(close if needed.all() else close[:, candidates], estimates.minimum_history)
    rows = candidates[columns]
    if not columns.size:
        return _Risk(rows=rows, covariance=np.empty((0, 0)))
    count, size = returns.shape
    if estimates.covariance == "ledoit_wolf" and count < size:
        factors, _ = low_rank.ledoit_wolf(returns)
        if factors is not None:
            return _Risk(rows=rows, covariance=factors.scaled(forecast.horizon))
    found = estimate(returns, cast(Estimator, estimates.covariance), decay=estimates.ewma_decay)
    return _Risk(rows=rows, covariance=found.matrix * forecast.horizon)


def _volatility(weights: Vector, known: NDArray[np.bool_], risk: _Risk) -> float | None:
    """Absent while anything is held whose covariance is not known."""
    if not risk.rows.size or (weights[~known] != 0.0).any():
        return None
    part = weights[risk.rows]
    return float(np.sqrt(max(float(part @ risk.times(part)), 0.0)))


def _whole_lots(aim: Vector, tradable: NDArray[np.bool_], book: Book, mandate: Mandate, buffer: float) -> Lots:
    """Lots near `aim` that cash pays for, without trades below the mandate's minimum.

    What is held already may stay invested although the cash buffer is gone.
    """
    lots, moving = book.held.copy(), tradable.copy()
    holdings = _value(book.held, book.lot_values) + book.elsewhere
    spendable = min(max(book.equity - int(book.equity * buffer), holdings), book.equity)
    while moving.any():
        rows = np.flatnonzero(moving)
        fixed = _value(book.held[~moving], book.lot_values[~moving]) + book.elsewhere
        if spendable < fixed and not mandate.short_allowed:
            raise InfeasibleError(
                "cash", f"positions that must be held cost {fixed} of {spendable} nano units", "give them forecasts"
            )
        money = max(spendable - fixed, 1)
        rounded = round_to_lots(
            aim[rows] * (book.equity / money),
            money,
            book.lot_values[rows],
            book.held[rows],
            min_trade=mandate.minimum_trade_e9,
            fee_e9=int(np.ceil(mandate.cost_per_notional * NANO)),
        )
        lots[rows] = rounded.lots
        lots = _keep_limits(lots, book, mandate)
        traded = np.abs(lots - book.held) * book.lot_values
        small = (traded > 0) & (traded < mandate.minimum_trade_e9)
        if not small.any():
            return lots
        # Even a position aimed at zero is not worth a trade that small.
        moving[small] = False
        lots[small] = book.held[small]
    return lots


def _keep_limits(lots: Lots, book: Book, mandate: Mandate) -> Lots:
    """Takes back the lots by which rounding went beyond a limit; what prices broke already stays."""
    held, values = book.held, book.lot_values
    highest = int(mandate.maximum_weight * book.equity) // np.maximum(values, 1)
    lots = np.where(lots > held, np.maximum(np.minimum(lots, highest), held), lots)
    lots = np.where(lots < held, np.minimum(np.maximum(lots, -highest), held), lots)
    grown = np.abs(lots) > np.abs(held)
    limit = max(int(mandate.maximum_gross * book.equity) - abs(book.elsewhere), _value(np.abs(held), values))
    lots = _give_back(lots, held, values, _value(np.abs(lots), values) - limit, grown)
    turnover = int(2.0 * mandate.maximum_turnover * book.equity)
    return _give_back(lots, held, values, _value(np.abs(lots - held), values) - turnover, lots != held)


def _value(lots: Lots, values: Lots) -> int:
    """Signed value of all positions, exact."""
    at = lots.nonzero()[0]
    return sum(map(mul, lots[at].tolist(), values[at].tolist()))


def _give_back(lots: Lots, held: Lots, values: Lots, excess: int, eligible: NDArray[np.bool_]) -> Lots:
    """`lots` with `excess` nano units less of trades, taken from buys first, the largest first."""
    if excess <= 0:
        return lots
    trades = [int(trade) for trade in lots - held]
    worth = [abs(trade) * int(value) for trade, value in zip(trades, values, strict=True)]
    for i in sorted(np.flatnonzero(eligible).tolist(), key=lambda i: (trades[i] < 0, -worth[i], i)):
        fewer = min(abs(trades[i]), -(-excess // int(values[i])))
        trades[i] -= fewer if trades[i] > 0 else -fewer
        excess -= fewer * int(values[i])
        if excess <= 0:
            break
    answer: Lots = held + np.array(trades, dtype=np.int64)
    return answer


def warm() -> None:
    """Runs both methods once on made-up prices, so that no request ever compiles or loads a kernel."""
    close = 100.0 + np.cumsum(np.sin(np.arange(80.0).reshape(40, 2) ** 2), axis=0)
    book = Book(
        names=("A", "B"),
        held=np.array([1, 0], dtype=np.int64),
        lot_values=np.array([NANO, NANO], dtype=np.int64),
        equity=100 * NANO,
    )
    forecast = Forecast(rows=np.arange(2), expected=np.full(2, 0.01), confidence=np.ones(2), horizon=1)
    estimates = Estimates(covariance="ledoit_wolf", ewma_decay=0.97, minimum_history=30, cash_buffer=0.01)
    methods: tuple[allocation.Method, ...] = ("mean_variance", "risk_parity")
    for method in methods:
        mandate = Mandate(
            method=method,
            risk_aversion=1.0,
            maximum_weight=0.5,
            maximum_gross=1.0,
            short_allowed=False,
            cost_per_notional=0.001,
            maximum_turnover=1.0,
            minimum_trade_e9=0,
        )
        plan(close, book, forecast, mandate, estimates)
