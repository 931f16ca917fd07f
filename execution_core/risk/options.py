"""European options in bulk: Black-Scholes-Merton prices, Greeks and implied volatilities.

Generalised Black-Scholes-Merton (Haug 2007, section 1.1): spot S, strike K, T in years, rate r
and carry b, all continuous; b = r for a stock, r - q with dividend yield q, 0 for a future,
r - r_foreign for a currency. One SIMD pass over contiguous arrays. American options are in
``american.py``. Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.jit import kernel
from execution_core.risk.covariance import Matrix, Vector
from execution_core.risk.fastmath import exp, log, normal_density, normal_tail
from execution_core.risk.random import in_threads

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


OWNED: Final[tuple[Literal["C"], Literal["W"]]] = ("C", "W")

BLOCK: Final = 64  # options whose numbers lie together in one scratch buffer of L1


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
    out: Matrix,
    first: int,
    end: int,
) -> None:
    """Fill out (6, n) for the blocks first..end - 1.

    Inputs are copied to one buffer at constant distances: the compiler need not prove thirteen
    arrays apart, and vectorises the formulas.
    """
    w = np.ones(13 * BLOCK)
    for begin in range(first * BLOCK, min(end * BLOCK, spot.size), BLOCK):
        width = min(BLOCK, spot.size - begin)
        for i in range(width):
            w[i] = 1.0 if call[begin + i] else -1.0
        w[BLOCK : BLOCK + width] = spot[begin : begin + width]
        w[2 * BLOCK : 2 * BLOCK + width] = strike[begin : begin + width]
        w[3 * BLOCK : 3 * BLOCK + width] = years[begin : begin + width]
        w[4 * BLOCK : 4 * BLOCK + width] = rate[begin : begin + width]
        w[5 * BLOCK : 5 * BLOCK + width] = carry[begin : begin + width]
        w[6 * BLOCK : 6 * BLOCK + width] = volatility[begin : begin + width]
        for i in range(BLOCK):
            sign, s, k, t = w[i], w[BLOCK + i], w[2 * BLOCK + i], w[3 * BLOCK + i]
            r, b, sigma = w[4 * BLOCK + i], w[5 * BLOCK + i], w[6 * BLOCK + i]
            root = np.sqrt(t)
            deviation = sigma * root
            d1 = (log(s / k) + b * t) / deviation + 0.5 * deviation
            d2 = d1 - deviation
            growth = exp((b - r) * t)
            discount = exp(-r * t)
            density = normal_density(d1)
            tail1 = normal_tail(d1, density)
            # density(d2) = density(d1) F / K, but far out only one of them underflows.
            tail2 = normal_tail(d2, normal_density(d2))
            n1 = 1.0 - tail1 if sign * d1 > 0.0 else tail1
            n2 = 1.0 - tail2 if sign * d2 > 0.0 else tail2
            asset = s * growth * n1
            cash = k * discount * n2
            curve = growth * density
            value = sign * (asset - cash)
            w[7 * BLOCK + i] = value
            w[8 * BLOCK + i] = sign * growth * n1
            w[9 * BLOCK + i] = curve / (s * deviation)
            w[10 * BLOCK + i] = s * curve * root
            w[11 * BLOCK + i] = -0.5 * s * curve * sigma / root - sign * ((b - r) * asset + r * cash)
            w[12 * BLOCK + i] = -t * value if future else sign * t * cash
        for row in range(6):
            start = (7 + row) * BLOCK
            out[row, begin : begin + width] = w[start : start + width]


@kernel(forceinline=True, fastmath={"contract"})
def _black(x: float, s: float) -> tuple[float, float]:
    """Undiscounted out-of-the-money Black price over sqrt(F K), and its derivative by s.

    x = -|ln(F / K)|, s = sigma sqrt(T): exp(x/2) N(x/s + s/2) - exp(-x/2) N(x/s - s/2).
    """
    h, t = x / s, 0.5 * s
    d1, d2 = h + t, h - t
    density1 = normal_density(d1)
    tail1, tail2 = normal_tail(d1, density1), normal_tail(d2, normal_density(d2))
    n1 = tail1 if d1 < 0.0 else 1.0 - tail1
    half = exp(0.5 * x)
    return half * n1 - tail2 / half, half * density1


@kernel(forceinline=True, fastmath={"contract"})
def _step(x: float, s: float, target: float, low: bool) -> float:
    """The third-order step (Halley) from s towards _black(x, s) = target.

    Below the inflection point sqrt(2 |x|) the price is so flat that 1 / ln(price) is solved
    instead (Jaeckel 2015, "Let's be rational"), which is nearly a straight line in s^2 there.
    """
    value, slope = _black(x, s)
    bend = x * x / (s * s * s) - 0.25 * s  # second over first derivative
    newton = (target - value) / slope
    high_step: float = newton / max(1.0 + 0.5 * newton * bend, 0.5)
    level, aim = log(value), log(target)
    relative = slope / value
    # g = 1 / level - 1 / aim: newton = -g / g', and g'' / g'.
    newton = (aim - level) * level / (relative * aim)
    low_step: float = newton / max(1.0 + 0.5 * newton * (bend - relative - 2.0 * relative / level), 0.5)
    return low_step if low else high_step


@kernel
def _bisect(x: float, target: float) -> float:
    """The safe way for what the fast way leaves: halve the bracket in ln s."""
    low, high = 1e-12, 1.0
    while _black(x, high)[0] < target and high < 1e6:
        high *= 2.0
    for _ in range(200):
        middle = np.sqrt(low * high)
        if _black(x, middle)[0] < target:
            low = middle
        else:
            high = middle
        if high - low <= 1e-15 * high:
            break
    return 0.5 * (low + high)


STEPS: Final = 6  # nearly all options need three or four


@kernel(fastmath={"contract"})
def _implied(
    call: Flags,
    price: Vector,
    spot: Vector,
    strike: Vector,
    years: Vector,
    rate: Vector,
    carry: Vector,
    out: Vector,
    first: int,
    end: int,
) -> None:
    """All options of a block take their steps together, SIMD; stragglers are bisected after. Blocks first..end - 1."""
    x, target, s, last = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    low = np.empty(BLOCK, np.bool_)
    x[:], target[:] = -1.0, 0.1
    for begin in range(first * BLOCK, min(end * BLOCK, price.size), BLOCK):
        width = min(BLOCK, price.size - begin)
        for i in range(width):
            at = begin + i
            forward = spot[at] * exp(carry[at] * years[at])
            value = price[at] * exp(rate[at] * years[at])
            # Put-call parity turns an option in the money into the one out of it.
            inside = forward - strike[at] if call[at] else strike[at] - forward
            value -= inside if inside > 0.0 else 0.0
            target[i] = value / np.sqrt(forward * strike[at])
            x[i] = -abs(log(forward / strike[at]))
        for i in range(BLOCK):
            # Start at the inflection point, from where Newton converges (Manaster and Koehler
            # 1982); at the money the price is nearly a straight line through zero.
            turning = np.sqrt(-2.0 * x[i])
            near = turning < 1e-3
            start = max(turning, 2.5066282746310002 * target[i]) if near else turning
            value, _ = _black(x[i], start)
            below = (target[i] < value) & (not near)
            # Far below, ln(price) ~ -x^2 / (2 s^2): start on that curve through the turning point.
            ratio = log(value) - log(target[i])
            guess = 1.0 / np.sqrt(1.0 / (start * start) + 2.0 * ratio / (x[i] * x[i]))
            low[i] = below
            s[i] = guess if below else start
        for _ in range(STEPS):
            waiting = 0
            for i in range(BLOCK):
                step = _step(x[i], s[i], target[i], low[i])
                ahead = min(max(s[i] + step, 0.25 * s[i]), 4.0 * s[i])
                moved = abs(ahead - s[i]) / s[i]
                last[i] = moved
                s[i] = ahead
                # Third order: after a step below 1e-5 the error is below 1e-15.
                waiting += 0 if moved < 1e-5 else 1
            if waiting == 0:
                break
        for i in range(width):
            at = begin + i
            if not (target[i] > 0.0 and target[i] < np.exp(0.5 * x[i])):
                out[at] = np.nan
            else:
                found = s[i] if last[i] < 1e-5 else _bisect(x[i], target[i])
                out[at] = found / np.sqrt(years[at])


@kernel
def _flaws(x: Vector, floor: float) -> int:
    """Count the values that are not finite, or not above `floor`, in one pass."""
    flaws = 0
    for i in range(x.size):
        flaws += 0 if (x[i] > floor) & (x[i] < np.inf) else 1
    return flaws


def columns(call: Any, positive: dict[str, Any], finite: dict[str, Any]) -> tuple[Flags, dict[str, Vector]]:
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
        flat = np.require(value, requirements=OWNED).reshape(-1)
        if _flaws(flat, 0.0 if name in positive else -np.inf):
            if not np.isfinite(flat).all():
                raise InvalidValueError(name, "NaN or infinity", "pass finite numbers")
            raise InvalidValueError(name, "at or below zero", "pass numbers above zero")
    # Read-only arrays, as broadcasting makes them, are other types for Numba, and would compile anew.
    full = {name: np.require(np.broadcast_to(value, (length,)), requirements=OWNED) for name, value in values.items()}
    return np.require(np.broadcast_to(flags, (length,)), requirements=OWNED), full


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
    workers: int = 1,
) -> Greeks:
    """Return price and five Greeks of n European options; every argument is (n,) or one number.

    carry   b, the rate itself when None; with `future` b must stay 0 and rho changes meaning
    workers threads; the result does not depend on them
    """
    if future and carry is not None and np.any(np.asarray(carry) != 0.0):
        raise InvalidValueError("carry", "not zero", "a future has no carry")
    costs = (0.0 if future else rate) if carry is None else carry
    flags, c = columns(
        call,
        {"spot": spot, "strike": strike, "years": years, "volatility": volatility},
        {"rate": rate, "carry": costs},
    )
    out = np.empty((6, flags.size))
    values = [c[name] for name in ("spot", "strike", "years", "rate", "carry", "volatility")]
    in_threads(lambda a, b: _greeks(flags, *values, future, out, a, b), -(-flags.size // BLOCK), workers)
    return Greeks(*out)


def implied_volatility(
    call: Any, price: Any, spot: Any, strike: Any, years: Any, rate: Any, *, carry: Any = None, workers: int = 1
) -> Vector:
    """Return the volatility (n,) at which each option has its price; NaN where none does.

    None does at or outside the bounds of no arbitrage: at intrinsic value or below, or at the
    asset's value or above. Accurate to about 1e-12 of itself where the price has that many
    digits left above intrinsic value.
    """
    flags, c = columns(
        call,
        {"price": price, "spot": spot, "strike": strike, "years": years},
        {"rate": rate, "carry": rate if carry is None else carry},
    )
    out = np.empty(flags.size)
    values = [c[name] for name in ("price", "spot", "strike", "years", "rate", "carry")]
    in_threads(lambda a, b: _implied(flags, *values, out, a, b), -(-flags.size // BLOCK), workers)
    return out


def warm() -> None:
    """Compile every kernel of this module."""
    answer = greeks(True, 100.0, 100.0, 1.0, 0.05, 0.2)
    implied_volatility(True, answer.price, 100.0, 100.0, 1.0, 0.05)
