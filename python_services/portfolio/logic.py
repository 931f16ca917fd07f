"""What to hold: combined forecasts, history and holdings in, whole lots out. Pure and deterministic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from execution_core.construction.interior_point import Factors
from execution_core.construction.rounding import round_to_lots
from execution_core.errors import InfeasibleError
from execution_core.risk.covariance import Method as Estimator
from execution_core.risk.covariance import estimate
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

    @property
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
    columns, covariance = risk.rows, risk.matrix
    tradable = np.zeros(size, dtype=bool)
    tradable[forecast.rows] = True
    tradable &= book.lot_values > 0
    tradable &= np.isin(np.arange(size), columns)
    held = book.weights
    aim, solver = held.copy(), "no instrument can be traded"
    if tradable.any():
        inside = tradable[columns]
        fixed = columns[~inside]
        rows = columns[inside]
        # Against the risk of what stays: its covariance with the others is a cost of holding them.
        carried = covariance[np.ix_(inside, ~inside)] @ held[fixed]
        others = np.append(held[~tradable], book.elsewhere / book.equity)
        limits = allocation.room(mandate, held[rows], others, estimates.cash_buffer)
        make = allocation.mean_variance if mandate.method == "mean_variance" else allocation.equal_risk
        drift = mandate.risk_aversion * carried if mandate.method == "mean_variance" else 0.0
        names = tuple(book.names[i] for i in rows)
        aim[rows], solver = make(expected[rows] - drift, risk.block(inside), held[rows], limits, mandate, names)
        if not limits.cured:
            solver += "; holdings beyond the mandate are brought back as fast as the turnover limit allows"
    lots = _whole_lots(aim, tradable, book, mandate, estimates.cash_buffer)
    weights = lots * (book.lot_values / book.equity)
    change = float(np.abs(weights - held).sum())
    kept = [book.names[i] for i in np.flatnonzero(~tradable)]
    if kept:
        rest = f" and {len(kept) - allocation.NAMED} more" if len(kept) > allocation.NAMED else ""
        solver += f"; held as they are: {', '.join(kept[: allocation.NAMED])}{rest}"
    return Plan(
        lots=lots,
        weights=weights,
        turnover=change / 2.0,
        cost=change * mandate.cost_per_notional,
        expected_return=float(expected @ weights) if forecast.rows.size else None,
        expected_volatility=_volatility(weights, columns, covariance),
        solver=solver,
    )


@dataclass(frozen=True, kw_only=True)
class _Risk:
    """Covariance over the horizon of some rows, and its factors where the estimator has such a form."""

    rows: NDArray[np.intp]
    matrix: Matrix
    factors: Factors | None

    def block(self, inside: NDArray[np.bool_]) -> tuple[Matrix, Factors | None]:
        """The same for part of the rows."""
        matrix = np.ascontiguousarray(self.matrix[np.ix_(inside, inside)])
        if self.factors is None:
            return matrix, None
        return matrix, Factors(diagonal=self.factors.diagonal[inside], loadings=self.factors.loadings[:, inside])


def _risk(close: Matrix, forecast: Forecast, book: Book, estimates: Estimates) -> _Risk:
    """Of what is forecast or held, and has a history."""
    needed = book.held != 0
    needed[forecast.rows] = True
    candidates = np.flatnonzero(needed)
    columns, returns = usable_returns(close[:, candidates], estimates.minimum_history)
    if not columns.size:
        return _Risk(rows=candidates[columns], matrix=np.empty((0, 0)), factors=None)
    found = estimate(returns, cast(Estimator, estimates.covariance), decay=estimates.ewma_decay)
    matrix = found.matrix * forecast.horizon
    factors, (count, size) = None, returns.shape
    if found.method == "ledoit_wolf" and found.shrinkage > 0.0 and count < size:
        # (1 - s) X'X / T + s m I, with m the mean variance, which shrinking does not change.
        share = (1.0 - found.shrinkage) / count * forecast.horizon
        diagonal = np.full(size, found.shrinkage * float(np.trace(matrix)) / size)
        factors = Factors(diagonal=diagonal, loadings=np.sqrt(share) * (returns - returns.mean(axis=0)))
    return _Risk(rows=candidates[columns], matrix=matrix, factors=factors)


def _volatility(weights: Vector, columns: NDArray[np.intp], covariance: Matrix) -> float | None:
    """Absent while anything is held whose covariance is not known."""
    known = np.zeros(weights.size, dtype=bool)
    known[columns] = True
    if not columns.size or (weights[~known] != 0.0).any():
        return None
    part = weights[columns]
    return float(np.sqrt(max(float(part @ covariance @ part), 0.0)))


def _whole_lots(aim: Vector, tradable: NDArray[np.bool_], book: Book, mandate: Mandate, buffer: float) -> Lots:
    """Lots near `aim` that cash pays for, without trades below the mandate's minimum.

    What is held already may stay invested although the cash buffer is gone.
    """
    lots, moving = book.held.copy(), tradable.copy()
    worth = [int(lot) * int(value) for lot, value in zip(book.held, book.lot_values, strict=True)]
    holdings = sum(worth) + book.elsewhere
    spendable = min(max(book.equity - int(book.equity * buffer), holdings), book.equity)
    while moving.any():
        rows = np.flatnonzero(moving)
        fixed = holdings - sum(worth[i] for i in rows)
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
    limit = max(int(mandate.maximum_gross * book.equity) - abs(book.elsewhere), _value(held, values))
    lots = _give_back(lots, held, values, _value(lots, values) - limit, grown)
    turnover = int(2.0 * mandate.maximum_turnover * book.equity)
    return _give_back(lots, held, values, _value(lots - held, values) - turnover, lots != held)


def _value(lots: Lots, values: Lots) -> int:
    return sum(abs(int(lot)) * int(value) for lot, value in zip(lots, values, strict=True))


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
