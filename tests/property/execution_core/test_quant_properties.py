"""Laws that hold for every input: risk measures, indicators, options and portfolios.

``HYPOTHESIS_LONG=1`` runs twenty times as many examples.
"""

from __future__ import annotations

import os

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from execution_core import indicators
from execution_core.construction.constraints import Constraints
from execution_core.construction.hrp import hrp
from execution_core.construction.mean_variance import optimise
from execution_core.construction.risk_parity import risk_parity, risk_shares
from execution_core.construction.rounding import round_to_lots
from execution_core.errors import InfeasibleError
from execution_core.risk import options
from execution_core.risk.covariance import ledoit_wolf
from execution_core.risk.tail import tail, weighted_tail
from execution_core.risk.var import parametric

settings.register_profile("quant", deadline=None, max_examples=600 if os.environ.get("HYPOTHESIS_LONG") else 30)
quant = settings.get_profile("quant")

LOSSES = st.integers(1, 60).flatmap(lambda n: arrays.arrays(np.float64, n, elements=st.floats(-1e6, 1e6)))
LEVELS = st.floats(0.01, 0.99)


@quant
@given(LOSSES, LEVELS, st.floats(-1e6, 1e6), st.floats(0.01, 100))
def test_var_and_es_move_with_their_losses(losses: np.ndarray, level: float, shift: float, scale: float) -> None:
    """Translation and positive homogeneity, and ES is never below VaR."""
    here = tail(losses, level)
    slack = 1e-9 * (1e6 + abs(shift)) * max(scale, 1.0)
    assert here.es >= here.var
    moved = tail(losses + shift, level)
    assert abs(moved.var - here.var - shift) < slack
    assert abs(moved.es - here.es - shift) < slack
    scaled = tail(losses * scale, level)
    assert abs(scaled.var - here.var * scale) < slack
    assert abs(scaled.es - here.es * scale) < slack


@quant
@given(st.data(), LEVELS)
def test_es_is_subadditive_and_both_are_monotone(data: st.DataObject, level: float) -> None:
    a = data.draw(LOSSES)
    b = data.draw(arrays.arrays(np.float64, a.size, elements=st.floats(-1e6, 1e6)))
    assert tail(a + b, level).es <= tail(a, level).es + tail(b, level).es + 1e-6
    worse = np.maximum(a, b)
    assert tail(worse, level).var >= tail(a, level).var
    assert tail(worse, level).es >= tail(a, level).es - 1e-6
    higher = min(0.995, level + 0.1)
    assert tail(a, higher).var >= tail(a, level).var
    assert tail(a, higher).es >= tail(a, level).es - 1e-6


@quant
@given(LOSSES, LEVELS, st.integers(1, 4))
def test_a_weight_of_two_is_a_loss_seen_twice(losses: np.ndarray, level: float, times: int) -> None:
    weights = np.ones(losses.size)
    weights[0] = times
    seen = np.concatenate([losses, np.full(times - 1, losses[0])])
    # At a level that is a multiple of 1 / n rounding decides; stay off it.
    assume(abs(level * seen.size - round(level * seen.size)) > 1e-6)
    ours, expected = weighted_tail(losses, weights, level), tail(seen, level)
    assert ours.var == expected.var
    assert abs(ours.es - expected.es) <= 1e-8 * (1.0 + np.abs(losses).max())


def covariances(size: int) -> st.SearchStrategy[np.ndarray]:
    loads = arrays.arrays(np.float64, (size, 3), elements=st.floats(-0.05, 0.05))
    own = arrays.arrays(np.float64, size, elements=st.floats(0.01, 0.1))
    return st.tuples(loads, own).map(lambda pair: pair[0] @ pair[0].T + np.diag(pair[1] ** 2))


@quant
@given(covariances(6), arrays.arrays(np.float64, 6, elements=st.floats(-100, 100)))
def test_components_sum_to_the_whole(covariance: np.ndarray, book: np.ndarray) -> None:
    parts = parametric(book, covariance)
    slack = 1e-10 * (1.0 + np.abs(parts.component).sum())
    assert abs(parts.component.sum() - parts.risk.var) <= slack
    assert abs(parts.es.sum() - parts.risk.es) <= slack
    other = parametric(book[::-1].copy(), covariance).risk.var
    together = parametric(book + book[::-1], covariance).risk.var
    assert together <= parts.risk.var + other + 1e-9  # VaR of normals is subadditive


@quant
@given(covariances(6), arrays.arrays(np.float64, 6, elements=st.floats(0.1, 10)))
def test_risk_parity_meets_its_budgets_and_hrp_its_total(covariance: np.ndarray, budgets: np.ndarray) -> None:
    weights = risk_parity(covariance, budgets)
    np.testing.assert_allclose(risk_shares(weights, covariance), budgets / budgets.sum(), rtol=1e-6)
    clustered = hrp(covariance)
    assert abs(clustered.sum() - 1.0) < 1e-12
    assert (clustered > 0.0).all()


@quant
@given(
    covariances(5),
    arrays.arrays(np.float64, 5, elements=st.floats(-0.1, 0.1)),
    arrays.arrays(np.float64, 5, elements=st.floats(0, 1)),
    st.floats(0.2, 0.9),
    st.floats(0.0, 0.01),
    st.integers(0, 1000),
)
def test_no_feasible_portfolio_beats_the_optimum(
    covariance: np.ndarray, expected: np.ndarray, held: np.ndarray, upper: float, cost: float, seed: int
) -> None:
    assume(held.sum() > 0.1)
    held = held / held.sum()
    limits = Constraints(upper=upper)
    best = optimise(expected, covariance, risk_aversion=3.0, constraints=limits, previous=held, cost=cost)
    random = np.random.Generator(np.random.SFC64(seed))
    others = random.dirichlet(np.ones(5), 50)
    for other in others[(others <= upper).all(axis=1)]:
        gain = expected @ other - 1.5 * other @ covariance @ other - cost * np.abs(other - held).sum()
        assert gain <= best.objective + 1e-7


@quant
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            arrays.arrays(np.float64, n, elements=st.floats(0, 1)),
            arrays.arrays(np.int64, n, elements=st.integers(1, 10**12)),
            arrays.arrays(np.int64, n, elements=st.integers(0, 10**6)),
        )
    ),
    st.integers(0, 10**18),
    st.sampled_from([0, 10**9, 10**13]),
    st.sampled_from([0, 50_000, 10_000_000]),
)
def test_rounding_never_spends_what_is_not_there(
    columns: tuple[np.ndarray, np.ndarray, np.ndarray], cash: int, minimum: int, fee: int
) -> None:
    weights, values, held = columns
    assume(weights.sum() > 0.0)
    weights = weights / max(weights.sum(), 1.0)
    equity = cash + sum(int(a) * int(b) for a, b in zip(values, held, strict=True))
    try:
        answer = round_to_lots(weights, equity, values, held, min_trade=minimum, fee_e9=fee)
    except InfeasibleError:
        return  # no purchase left to give up and no sale large enough: said so, not hidden
    spent = sum(
        int(lots) * int(value) + -(-abs(int(trade)) * int(value) * fee // 10**9)
        for lots, value, trade in zip(answer.lots, values, answer.trades, strict=True)
    )
    assert answer.cash == equity - spent >= 0
    assert (answer.lots >= 0).all()


PANELS = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 50), st.integers(1, 4)),
    elements=st.one_of(st.floats(0.01, 1e6), st.just(np.nan)),
)


@quant
@given(PANELS, st.integers(1, 12))
def test_windows_are_bounded_by_what_they_hold(x: np.ndarray, n: int) -> None:
    mean = indicators.sma(x, n)
    top, bottom = indicators.donchian_high(x, n), indicators.donchian_low(x, n)
    defined = ~np.isnan(mean)
    np.testing.assert_array_equal(defined, ~np.isnan(top))
    np.testing.assert_array_equal(defined, ~np.isnan(bottom))
    assert (bottom[defined] <= mean[defined] * (1 + 1e-12)).all()
    assert (mean[defined] <= top[defined] * (1 + 1e-12)).all()
    for t in range(x.shape[0]):
        window = x[max(t - n + 1, 0) : t + 1]
        np.testing.assert_array_equal(defined[t], (len(window) == n) & ~np.isnan(window).any(axis=0))


@quant
@given(PANELS, st.integers(2, 10), st.integers(0, 49))
def test_indicators_do_not_see_the_future(x: np.ndarray, n: int, cut: int) -> None:
    """The first bars come out bit for bit the same when later bars are taken away."""
    early = np.ascontiguousarray(x[: cut + 1])
    for whole, part in (
        (indicators.ema(x, n), indicators.ema(early, n)),
        (indicators.rsi(x, n), indicators.rsi(early, n)),
        (indicators.stdev(x, n), indicators.stdev(early, n)),
        (indicators.wma(x, n), indicators.wma(early, n)),
        (indicators.adx(x, x, x, n).plus, indicators.adx(early, early, early, n).plus),
        (indicators.stochastic(x, x, x, n).d, indicators.stochastic(early, early, early, n).d),
    ):
        np.testing.assert_array_equal(whole[: cut + 1], part)


@quant
@given(PANELS, st.integers(2, 10), st.floats(0.01, 100))
def test_oscillators_stay_in_their_range_and_ignore_the_currency(x: np.ndarray, n: int, rate: float) -> None:
    rsi = indicators.rsi(x, n)
    assert ((rsi >= 0) & (rsi <= 100) | np.isnan(rsi)).all()
    defined = ~np.isnan(rsi) & ~np.isnan(indicators.rsi(x * rate, n))
    np.testing.assert_allclose(indicators.rsi(x * rate, n)[defined], rsi[defined], rtol=1e-4, atol=1e-4)
    deviation = indicators.stdev(x, n)
    assert (deviation[~np.isnan(deviation)] >= 0.0).all()


@quant
@given(
    st.floats(1, 1000),
    st.floats(0.3, 3.0),
    st.floats(0.01, 5),
    st.floats(-0.05, 0.15),
    st.floats(0.02, 1.5),
    st.floats(-0.1, 0.1),
)
def test_options_obey_arbitrage(
    spot: float, ratio: float, years: float, rate: float, volatility: float, carry: float
) -> None:
    strike = spot * ratio
    call, put = (options.greeks(kind, spot, strike, years, rate, volatility, carry=carry) for kind in (True, False))
    forward, cash = spot * np.exp((carry - rate) * years), strike * np.exp(-rate * years)
    slack = 1e-11 * (forward + cash)
    assert abs(call.price[0] - put.price[0] - (forward - cash)) <= slack
    assert max(forward - cash, 0.0) - slack <= call.price[0] <= forward + slack
    assert max(cash - forward, 0.0) - slack <= put.price[0] <= cash + slack
    assert call.gamma[0] >= 0.0
    assert call.vega[0] >= 0.0
    wilder = options.greeks(True, spot, strike, years, rate, volatility * 1.1, carry=carry)
    assert wilder.price[0] >= call.price[0] - slack


@quant
@given(st.integers(2, 40), st.integers(2, 15), st.integers(0, 10_000))
def test_shrinkage_stays_positive_definite_and_keeps_the_trace(count: int, size: int, seed: int) -> None:
    returns = np.random.Generator(np.random.SFC64(seed)).normal(0, 0.01, (count, size))
    matrix, shrinkage = ledoit_wolf(returns)
    assert 0.0 <= shrinkage <= 1.0
    centred = returns - returns.mean(axis=0)
    assert abs(np.trace(matrix) - (centred**2).sum() / count) < 1e-12
    assert np.linalg.eigvalsh(matrix).min() >= -1e-15
