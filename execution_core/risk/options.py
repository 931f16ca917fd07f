"""European options in bulk: Black-Scholes-Merton prices, Greeks and implied volatilities.

Generalised Black-Scholes-Merton (Haug 2007, section 1.1): spot S, strike K, T in years, rate r
and carry b, all continuous; b = r for a stock, r - q with dividend yield q, 0 for a future,
r - r_foreign for a currency. One SIMD pass over contiguous arrays. American options are in
``american.py``. Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.jit import kernel
from execution_core.risk.covariance import Vector
from execution_core.risk.fastmath import exp, log, normal_density, normal_tail

Flags = NDArray[np.bool_]


class Greeks(NamedTuple):
    """Each (n,). vega per 1.00 of volatility, theta per year of time passing, rho per 1.00 of r.

    rho moves r and b together (a stock's rate); for a future, b = 0 stays and rho is -T * price.
    """

    price: Vector
    delta: Vector
    gamma: Vector
    vega: Vector
    theta: Vector
    rho: Vector


@kernel(fastmath={"contract"})
def _greeks(
    call: Flags,
    spot: Vector,
    strike: Vector,
    years: Vector,
    rate: Vector,
    carry: Vector,
    volatility: Vector,
    future: bool,
    out: Any,
) -> None:
    """Fill out (6, n). The second half of a formula is that of the other side of the strike."""
    price, delta, gamma, vega, theta, rho = out[0], out[1], out[2], out[3], out[4], out[5]
    block = np.empty((5, 64))
    for begin in range(0, spot.size, 64):
        width = min(64, spot.size - begin)
        ones, twos, forwards, discounts, roots = block[0], block[1], block[2], block[3], block[4]
        for i in range(width):
            at = begin + i
            t, sigma = years[at], volatility[at]
            deviation = sigma * np.sqrt(t)
            drift = carry[at] * t
            d1 = (log(spot[at] / strike[at]) + drift) / deviation + 0.5 * deviation
            ones[i] = d1
            twos[i] = d1 - deviation
            growth = exp((carry[at] - rate[at]) * t)
            forwards[i] = growth
            discounts[i] = exp(-rate[at] * t)
            roots[i] = deviation
        for i in range(width):
            at = begin + i
            d1, d2 = ones[i], twos[i]
            density = normal_density(d1)
            tail1 = normal_tail(d1, density)
            # density(d2) = density(d1) * F / K: one exponential less.
            density2 = normal_density(d2)
            tail2 = normal_tail(d2, density2)
            positive = call[at]
            above1 = (d1 > 0.0) == positive
            above2 = (d2 > 0.0) == positive
            n1 = 1.0 - tail1 if above1 else tail1
            n2 = 1.0 - tail2 if above2 else tail2
            sign = 1.0 if positive else -1.0
            s = spot[at]
            asset = s * forwards[i] * n1
            cash = strike[at] * discounts[i] * n2
            value = sign * (asset - cash)
            t, r, b = years[at], rate[at], carry[at]
            curve = forwards[i] * density
            price[at] = value
            delta[at] = sign * forwards[i] * n1
            gamma[at] = curve / (s * roots[i])
            vega[at] = s * curve * np.sqrt(t)
            theta[at] = -0.5 * s * curve * roots[i] / t - sign * ((b - r) * asset + r * cash)
            rho[at] = -t * value if future else sign * t * cash


@kernel(inline="always")
def _black(x: float, s: float) -> tuple[float, float]:
    """Undiscounted out-of-the-money Black price over sqrt(F K), and its derivative by s.

    x = -|ln(F / K)|, s = sigma sqrt(T). exp(x/2) N(x/s + s/2) - exp(-x/2) N(x/s - s/2).
    """
    h, t = x / s, 0.5 * s
    d1, d2 = h + t, h - t
    density1, density2 = normal_density(d1), normal_density(d2)
    tail1, tail2 = normal_tail(d1, density1), normal_tail(d2, density2)
    n1 = tail1 if d1 < 0.0 else 1.0 - tail1
    half = exp(0.5 * x)
    return half * n1 - tail2 / half, half * density1


@kernel
def _implied(target: float, x: float) -> float:
    """Solve _black(x, s) = target for s; x <= 0. NaN outside the arbitrage bounds.

    Newton from the inflection point sqrt(2 |x|) converges without overshooting (Manaster and
    Koehler 1982). Below it the price is so flat that 1 / ln(price) is solved instead (Jaeckel
    2015); both with Halley's third-order term.
    """
    limit = np.exp(0.5 * x)
    if not (target > 0.0 and target < limit):
        return np.nan
    if x == 0.0:
        # 2 N(s / 2) - 1 = target: start from the straight line of small s.
        s = target * 2.5066282746310002
    else:
        s = np.sqrt(-2.0 * x)
    value, slope = _black(x, s)
    low = x < 0.0 and target < value
    lowest, highest = 0.0, np.inf
    if low:
        highest = s
        # Where the target is far out: price ~ exp(-x^2 / (2 s^2)) gives a start near the root.
        ratio = np.log(value) - np.log(target)
        s = 1.0 / np.sqrt(1.0 / (s * s) + 2.0 * ratio / (x * x))
        value, slope = _black(x, s)
    else:
        lowest = s if x < 0.0 else 0.0
    for _ in range(60):
        if value > target:
            highest = min(highest, s)
        else:
            lowest = max(lowest, s)
        if low:
            if value > 0.0 and slope > 0.0:
                # g = 1 / ln value - 1 / ln target, with its first two derivatives by s.
                lv = np.log(value)
                g = 1.0 / lv - 1.0 / np.log(target)
                relative = slope / value
                g1 = -relative / (lv * lv)
                bend = x * x / (s * s * s) - 0.25 * s
                g2 = g1 * (bend - relative - 2.0 * relative / lv)
                newton = -g / g1
                step = newton / (1.0 + 0.5 * newton * g2 / g1)
            else:
                step = np.nan
        else:
            newton = (target - value) / slope
            bend = x * x / (s * s * s) - 0.25 * s
            step = newton / max(1.0 + 0.5 * newton * bend, 0.5)
        ahead = s + step
        if not (ahead > lowest and ahead < highest):
            ahead = 0.5 * (lowest + highest) if highest < np.inf else 2.0 * s
        if abs(ahead - s) <= 1e-14 * s:
            return ahead
        moved = abs(ahead - s) / s
        s = ahead
        # Third order: a step below 1e-6 leaves an error below 1e-16.
        if moved < 1e-6:
            return s
        value, slope = _black(x, s)
    return s


@kernel
def _implied_all(
    call: Flags,
    price: Vector,
    spot: Vector,
    strike: Vector,
    years: Vector,
    rate: Vector,
    carry: Vector,
    out: Vector,
) -> None:
    for i in range(price.size):
        forward = spot[i] * np.exp(carry[i] * years[i])
        value = price[i] * np.exp(rate[i] * years[i])
        x = np.log(forward / strike[i])
        # Put-call parity turns an option in the money into the one out of it.
        inside = forward - strike[i] if call[i] else strike[i] - forward
        if inside > 0.0:
            value -= inside
        s = _implied(value / np.sqrt(forward * strike[i]), -abs(x))
        out[i] = s / np.sqrt(years[i])


def _columns(call: Any, positive: dict[str, Any], finite: dict[str, Any]) -> tuple[Flags, dict[str, Vector]]:
    """Broadcast the inputs to one length and check them."""
    values = {name: np.asarray(value, dtype=np.float64) for name, value in (positive | finite).items()}
    flags = np.asarray(call)
    if flags.dtype != np.bool_:
        raise InvalidArrayError("call", f"{flags.dtype}", "pass bool: True for a call")
    try:
        shape = np.broadcast_shapes(flags.shape, *(value.shape for value in values.values()))
    except ValueError:
        raise InvalidArrayError("spot", "lengths differ", "pass (n,) or single numbers") from None
    if len(shape) > 1:
        raise InvalidArrayError("spot", f"shape {shape}", "pass (n,) or single numbers")
    length = shape[0] if shape else 1
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise InvalidValueError(name, "NaN or infinity", "pass finite numbers")
        if name in positive and (value <= 0.0).any():
            raise InvalidValueError(name, "at or below zero", "pass numbers above zero")
    full = {name: np.ascontiguousarray(np.broadcast_to(value, (length,))) for name, value in values.items()}
    return np.ascontiguousarray(np.broadcast_to(flags, (length,))), full


def greeks(
    call: Any,
    spot: Any,
    strike: Any,
    years: Any,
    rate: Any,
    volatility: Any,
    *,
    carry: Any = None,
    future: bool = False,
) -> Greeks:
    """Return price and five Greeks of n European options; every argument is (n,) or one number.

    carry   b, the rate itself when None; with `future` b must stay 0 and rho changes meaning
    """
    if future and carry is not None and np.any(np.asarray(carry) != 0.0):
        raise InvalidValueError("carry", "not zero", "a future has no carry")
    costs = (0.0 if future else rate) if carry is None else carry
    flags, c = _columns(
        call,
        {"spot": spot, "strike": strike, "years": years, "volatility": volatility},
        {"rate": rate, "carry": costs},
    )
    out = np.empty((6, flags.size))
    _greeks(flags, c["spot"], c["strike"], c["years"], c["rate"], c["carry"], c["volatility"], future, out)
    return Greeks(*out)


def implied_volatility(
    call: Any, price: Any, spot: Any, strike: Any, years: Any, rate: Any, *, carry: Any = None
) -> Vector:
    """Return the volatility (n,) at which each option has its price; NaN where none does.

    None does at or outside the bounds of no arbitrage: at intrinsic value or below, or at the
    asset's value or above. Accurate to about 1e-12 of itself where the price has that many
    digits left above intrinsic value.
    """
    flags, c = _columns(
        call,
        {"price": price, "spot": spot, "strike": strike, "years": years},
        {"rate": rate, "carry": rate if carry is None else carry},
    )
    out = np.empty(flags.size)
    _implied_all(flags, c["price"], c["spot"], c["strike"], c["years"], c["rate"], c["carry"], out)
    return out


def warm() -> None:
    """Compile every kernel of this module."""
    answer = greeks(True, 100.0, 100.0, 1.0, 0.05, 0.2)
    implied_volatility(True, answer.price, 100.0, 100.0, 1.0, 0.05)
