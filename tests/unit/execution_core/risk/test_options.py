"""Option prices and Greeks against Haug's worked examples, plain Python and finite differences."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk import american
from execution_core.risk.options import greeks, implied_volatility

N = NormalDist()

# Haug (2007), "The complete guide to option pricing formulas", chapters 1 and 2: call, S, K, T,
# r, b, volatility; then the figure's name and its printed value.
HAUG: list[tuple[bool, float, float, float, float, float, float, str, float]] = [
    (True, 60, 65, 0.25, 0.08, 0.08, 0.30, "price", 2.1334),
    (False, 100, 95, 0.50, 0.10, 0.05, 0.20, "price", 2.4648),
    (True, 19, 19, 0.75, 0.10, 0.00, 0.28, "price", 1.7011),
    (False, 19, 19, 0.75, 0.10, 0.00, 0.28, "price", 1.7011),
    (True, 1.56, 1.60, 0.50, 0.06, -0.02, 0.12, "price", 0.0291),
    (False, 75, 70, 0.50, 0.10, 0.05, 0.35, "price", 4.0870),
    (True, 105, 100, 0.50, 0.10, 0.00, 0.36, "delta", 0.5946),
    (False, 105, 100, 0.50, 0.10, 0.00, 0.36, "delta", -0.3566),
    (True, 55, 60, 0.75, 0.10, 0.10, 0.30, "gamma", 0.0278),
    (False, 430, 405, 1 / 12, 0.07, 0.02, 0.20, "theta", -31.1924),
    (True, 72, 75, 1.00, 0.09, 0.09, 0.19, "rho", 38.7325),
]


@pytest.mark.parametrize("row", HAUG, ids=lambda row: f"{row[7]} {row[8]}")
def test_haugs_examples(row: Any) -> None:
    call, spot, strike, years, rate, carry, volatility, name, value = row
    answer = greeks(call, spot, strike, years, rate, volatility, carry=carry)
    # The printed theta uses T = 0.0833.
    tolerance = 2e-2 if name == "theta" else 5.1e-5
    assert getattr(answer, name)[0] == pytest.approx(value, abs=tolerance)


def plain_price(call: bool, s: float, k: float, t: float, r: float, v: float, b: float) -> float:
    d1 = (math.log(s / k) + (b + v * v / 2) * t) / (v * math.sqrt(t))
    d2 = d1 - v * math.sqrt(t)
    sign = 1 if call else -1
    return sign * (s * math.exp((b - r) * t) * N.cdf(sign * d1) - k * math.exp(-r * t) * N.cdf(sign * d2))


def grid(count: int = 400) -> dict[str, np.ndarray]:
    random = np.random.Generator(np.random.SFC64(17))
    return {
        "call": random.random(count) < 0.5,
        "spot": random.uniform(50, 150, count),
        "strike": random.uniform(70, 130, count),
        "years": random.uniform(0.02, 3, count),
        "rate": random.uniform(-0.02, 0.1, count),
        "volatility": random.uniform(0.05, 1.0, count),
        "carry": random.uniform(-0.05, 0.1, count),
    }


def test_prices_equal_the_twin_whatever_the_length() -> None:
    g = grid(131)
    expected = [plain_price(*map(float, row)) for row in zip(*g.values(), strict=True)]
    np.testing.assert_allclose(greeks(**g).price, expected, atol=2e-12)
    one = {name: column[40] for name, column in g.items()}
    assert greeks(**one).price[0] == greeks(**g).price[40]


@pytest.mark.parametrize("name", ["delta", "gamma", "vega", "theta", "rho"])
def test_greeks_are_the_finite_differences_of_the_price(name: str) -> None:
    g = grid()
    steps = {"delta": ("spot", 1e-3), "gamma": ("spot", 1e-2), "vega": ("volatility", 1e-5), "theta": ("years", 1e-5)}
    column, h = steps.get(name, ("rate", 1e-6))
    up, down = dict(g), dict(g)
    up[column], down[column] = g[column] + h, g[column] - h
    if name == "rho":  # moves the carry with the rate
        up["carry"], down["carry"] = g["carry"] + h, g["carry"] - h
    high, here, low = (greeks(**x).price for x in (up, g, down))
    slope = (high - 2 * here + low) / h**2 if name == "gamma" else (high - low) / (2 * h)
    slope = -slope if name == "theta" else slope
    np.testing.assert_allclose(getattr(greeks(**g), name), slope, rtol=2e-4, atol=2e-5)


def test_rho_of_a_future_moves_the_discount_only() -> None:
    g = grid()
    g.pop("carry")
    here = greeks(**g, future=True)
    bump = dict(g)
    bump["rate"] = g["rate"] + 1e-6
    np.testing.assert_allclose(here.rho, (greeks(**bump, future=True).price - here.price) / 1e-6, rtol=1e-3, atol=1e-4)
    with pytest.raises(InvalidValueError, match=r"^carry"):
        greeks(**g, carry=0.1, future=True)


def test_put_call_parity_holds_to_rounding() -> None:
    g = grid()
    g.pop("call")
    call, put = greeks(True, **g), greeks(False, **g)
    forward = g["spot"] * np.exp((g["carry"] - g["rate"]) * g["years"])
    cash = g["strike"] * np.exp(-g["rate"] * g["years"])
    np.testing.assert_allclose(call.price - put.price, forward - cash, atol=1e-11)
    np.testing.assert_array_equal(call.gamma, put.gamma)
    np.testing.assert_array_equal(call.vega, put.vega)


def test_implied_volatility_finds_what_went_in() -> None:
    g = grid(4000)
    volatility = g.pop("volatility")
    price = greeks(**g, volatility=volatility).price
    found = implied_volatility(price=price, **dict(g.items()))
    # Where the option in the money has digits left above its intrinsic value.
    vega = greeks(**g, volatility=volatility).vega
    reachable = 1e-15 * (price + g["strike"]) / np.maximum(vega, 1e-300)
    clear = reachable < 1e-9
    assert clear.mean() > 0.9
    assert (np.abs(found - volatility)[clear] < 1e-12 + 50 * reachable[clear]).all()


@pytest.mark.parametrize("moneyness", [1.0, 1.0 + 1e-9, 1.0001, 1.02, 1.5, 3.0, 20.0])
@pytest.mark.parametrize("volatility", [0.001, 0.01, 0.2, 1.0, 4.0])
def test_implied_volatility_in_every_corner(moneyness: float, volatility: float) -> None:
    price = greeks(True, 100.0, 100.0 * moneyness, 0.5, 0.0, volatility).price
    if price[0] < 1e-290:
        pytest.skip("the price is zero to rounding")
    found = implied_volatility(True, price, 100.0, 100.0 * moneyness, 0.5, 0.0)
    assert found[0] == pytest.approx(volatility, rel=1e-9)


def test_prices_outside_the_bounds_have_no_volatility() -> None:
    spot, strike = np.array([100.0, 100.0, 100.0, 120.0]), 100.0
    price = np.array([100.0, 150.0, 1e-320, 19.9])
    assert np.isnan(implied_volatility(True, price, spot, strike, 1.0, 0.0)[[0, 1, 3]]).all()


def test_bad_inputs_are_refused() -> None:
    for name in ("spot", "strike", "years", "volatility"):
        for bad in (0.0, -1.0, np.nan, np.inf):
            good: dict[str, Any] = {"spot": 1.0, "strike": 1.0, "years": 1.0, "rate": 0.0, "volatility": 0.2}
            good[name] = bad
            with pytest.raises(InvalidValueError, match=f"^{name}"):
                greeks(True, **good)
    with pytest.raises(InvalidArrayError, match=r"^call"):
        greeks(1, 1.0, 1.0, 1.0, 0.0, 0.2)
    with pytest.raises(InvalidArrayError, match=r"^spot"):
        greeks(True, np.ones(3), np.ones(2), 1.0, 0.0, 0.2)
    with pytest.raises(InvalidArrayError, match=r"^spot"):
        greeks(True, np.ones((2, 2)), 1.0, 1.0, 0.0, 0.2)


# Haug (2007), table 3-1: American options on futures by Barone-Adesi and Whaley, r 10%, b 0,
# strike 100; volatility, years, then calls and puts at futures 90, 100, 110.
WHALEY = [
    (0.15, 0.1, (0.0206, 1.8771, 10.0089), (10.0000, 1.8770, 0.0410)),
    (0.25, 0.1, (0.3159, 3.1280, 10.3919), (10.2533, 3.1277, 0.4562)),
    (0.35, 0.1, (0.9495, 4.3777, 11.1679), (10.8787, 4.3777, 1.2402)),
    (0.15, 0.5, (0.8208, 4.0842, 10.8087), (10.5595, 4.0842, 1.0822)),
    (0.25, 0.5, (2.7437, 6.8015, 13.0170), (12.4419, 6.8014, 3.3226)),
    (0.35, 0.5, (5.0063, 9.5106, 15.5689), (14.6945, 9.5104, 5.8823)),
]


@pytest.mark.parametrize("row", WHALEY, ids=lambda row: f"{row[0]} {row[1]}")
def test_barone_adesi_whaley_is_haugs_table(row: Any) -> None:
    """To 3e-3, as in QuantLib's own test of the table: the book stops its iteration early."""
    volatility, years, calls, puts = row
    futures = np.array([90.0, 100.0, 110.0])
    for call, expected in ((True, calls), (False, puts)):
        ours = american.barone_adesi_whaley(call, futures, 100.0, years, 0.1, volatility, carry=0.0)
        np.testing.assert_allclose(ours, expected, atol=3e-3)


def test_the_tree_equals_quantlibs_exact_engine() -> None:
    """Andersen, Lake and Offengenden (2016) in QuantLib, to 1e-4 of the strike."""
    ql = pytest.importorskip("QuantLib", reason="the oracle QuantLib is not installed")
    today = ql.Date(2, 1, 2024)
    ql.Settings.instance().evaluationDate = today
    days = ql.Actual365Fixed()
    random = np.random.Generator(np.random.SFC64(6))
    for _ in range(40):
        call = bool(random.random() < 0.5)
        spot, term = float(random.uniform(75, 125)), int(random.integers(20, 700))
        rate, dividend = float(random.uniform(0.005, 0.09)), float(random.uniform(0, 0.09))
        volatility = float(random.uniform(0.1, 0.5))
        process = ql.BlackScholesMertonProcess(
            ql.QuoteHandle(ql.SimpleQuote(spot)),
            ql.YieldTermStructureHandle(ql.FlatForward(today, dividend, days)),
            ql.YieldTermStructureHandle(ql.FlatForward(today, rate, days)),
            ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), volatility, days)),
        )
        kind = ql.Option.Call if call else ql.Option.Put
        option = ql.VanillaOption(ql.PlainVanillaPayoff(kind, 100.0), ql.AmericanExercise(today, today + term))
        arguments = (call, spot, 100.0, term / 365, rate, volatility)
        option.setPricingEngine(ql.QdFpAmericanEngine(process, ql.QdFpAmericanEngine.accurateScheme()))
        assert american.leisen_reimer(*arguments, carry=rate - dividend)[0] == pytest.approx(option.NPV(), abs=1e-2)
        option.setPricingEngine(ql.BaroneAdesiWhaleyApproximationEngine(process))
        assert american.barone_adesi_whaley(*arguments, carry=rate - dividend)[0] == pytest.approx(
            option.NPV(), abs=5e-4
        )


def test_an_american_call_without_dividends_is_european() -> None:
    calls = (True, 100.0, np.array([80.0, 100.0, 130.0]), 1.0, 0.05, 0.3)
    for price in (american.leisen_reimer, american.barone_adesi_whaley):
        np.testing.assert_allclose(price(*calls), greeks(*calls).price, rtol=2e-5)


def test_an_american_option_is_worth_its_exercise_and_its_european_twin() -> None:
    g = grid(300)
    g["rate"] = np.abs(g["rate"])
    sign = np.where(g["call"], 1.0, -1.0)
    floor = np.maximum(greeks(**g).price, sign * (g["spot"] - g["strike"]))
    for price in (american.leisen_reimer, american.barone_adesi_whaley):
        assert (price(**g) >= floor - 2e-3).all()


def test_bad_trees_are_refused() -> None:
    for steps in (2, 100, -1, 3.0):
        with pytest.raises(InvalidValueError, match=r"^steps"):
            american.leisen_reimer(True, 1.0, 1.0, 1.0, 0.0, 0.2, steps=steps)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 64, 1_000])
def test_threads_change_nothing(count: int) -> None:
    spot = np.linspace(80.0, 120.0, count)
    alone = greeks(True, spot, 100.0, 1.0, 0.03, 0.2)
    together = greeks(True, spot, 100.0, 1.0, 0.03, 0.2, workers=3)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    solved = [implied_volatility(True, alone.price, spot, 100.0, 1.0, 0.03, workers=n) for n in (1, 3)]
    np.testing.assert_array_equal(solved[0], solved[1])
