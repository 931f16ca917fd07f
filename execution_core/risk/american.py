"""American options: Leisen and Reimer's tree, and Barone-Adesi and Whaley's approximation.

Arguments as in ``options.py``. The tree (Leisen and Reimer 1996, Peizer-Pratt inversion 2) is the
accurate one: odd steps n, error about 1 / n^2 for European options and 1 / n for American ones,
near 1e-4 of the strike at 401. The approximation (Barone-Adesi and Whaley 1987; Haug 2007, section
3.1) takes a microsecond and is good to about 0.1% of the strike for terms below a year.
Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from execution_core.errors import InvalidValueError
from execution_core.jit import kernel
from execution_core.risk.covariance import Vector
from execution_core.risk.fastmath import normal_cdf, normal_density
from execution_core.risk.options import Flags, columns


@kernel
def _peizer_pratt(z: float, n: int) -> float:
    """Return the binomial probability whose distribution meets the normal one at z."""
    scaled = z / (n + 1.0 / 3.0 + 0.1 / (n + 1.0))
    root: float = 0.5 * np.sqrt(1.0 - np.exp(-scaled * scaled * (n + 1.0 / 6.0)))
    return 0.5 + root if z >= 0.0 else 0.5 - root


@kernel(fastmath={"contract"})
def _tree(
    call: bool,
    spot: float,
    strike: float,
    years: float,
    rate: float,
    carry: float,
    volatility: float,
    values: Vector,
    nodes: Vector,
) -> float:
    n = values.size - 1
    step = years / n
    sign = 1.0 if call else -1.0
    deviation = volatility * np.sqrt(years)
    d1 = np.log(spot / strike) / deviation + carry * years / deviation + 0.5 * deviation
    up_chance = _peizer_pratt(d1 - deviation, n)
    growth = np.exp(carry * step)
    if up_chance < 1e-12 or up_chance > 1.0 - 1e-12:
        # So far from the strike that the tree degenerates: what it is worth at once, or at the end.
        end = spot * np.exp((carry - rate) * years) - strike * np.exp(-rate * years)
        worth: float = max(sign * (spot - strike), sign * end, 0.0)
        return worth
    up = growth * _peizer_pratt(d1, n) / up_chance
    down = (growth - up_chance * up) / (1.0 - up_chance)
    discount = np.exp(-rate * step)
    rise, fall = discount * up_chance, discount * (1.0 - up_chance)
    for i in range(n + 1):
        nodes[i] = spot * np.exp(i * np.log(up) + (n - i) * np.log(down))
        values[i] = max(sign * (nodes[i] - strike), 0.0)
    back = 1.0 / down
    for level in range(n, 0, -1):
        for i in range(level):
            node = nodes[i] * back
            nodes[i] = node
            held = rise * values[i + 1] + fall * values[i]
            now = sign * (node - strike)
            values[i] = held if held > now else now
    answer: float = values[0]
    return answer


@kernel
def _trees(
    call: Flags,
    spot: Vector,
    strike: Vector,
    years: Vector,
    rate: Vector,
    carry: Vector,
    volatility: Vector,
    steps: int,
    out: Vector,
) -> None:
    values, nodes = np.empty(steps + 1), np.empty(steps + 1)
    for i in range(out.size):
        out[i] = _tree(call[i], spot[i], strike[i], years[i], rate[i], carry[i], volatility[i], values, nodes)


@kernel
def _european(
    sign: float, spot: float, strike: float, years: float, rate: float, carry: float, volatility: float
) -> float:
    deviation = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + carry * years) / deviation + 0.5 * deviation
    asset = spot * np.exp((carry - rate) * years) * normal_cdf(sign * d1)
    cash = strike * np.exp(-rate * years) * normal_cdf(sign * (d1 - deviation))
    value: float = sign * (asset - cash)
    return value


@kernel
def _whaley(
    call: bool, spot: float, strike: float, years: float, rate: float, carry: float, volatility: float
) -> float:
    sign = 1.0 if call else -1.0
    european: float = _european(sign, spot, strike, years, rate, carry, volatility)
    # Never exercised early: a call whose carry is the rate or more; a put when money is free.
    if (call and carry >= rate) or (not call and rate <= 0.0):
        return european
    variance = volatility * volatility
    n = 2.0 * carry / variance
    k = 2.0 * rate / variance / (1.0 - np.exp(-rate * years)) if rate != 0.0 else 2.0 / (variance * years)
    root = np.sqrt((n - 1.0) * (n - 1.0) + 4.0 * k)
    q = 0.5 * (1.0 - n + sign * root)
    # Seed of the critical price: Barone-Adesi and Whaley's interpolation from its limit for T = infinity.
    endless = 0.5 * (1.0 - n + sign * np.sqrt((n - 1.0) * (n - 1.0) + 8.0 * rate / variance))
    deviation = volatility * np.sqrt(years)
    limit = strike / (1.0 - 1.0 / endless) if abs(endless) > 1e-12 else strike
    if call:
        reach = -(carry * years + 2.0 * deviation) * strike / (limit - strike)
        critical = strike + (limit - strike) * (1.0 - np.exp(reach))
    else:
        reach = (carry * years - 2.0 * deviation) * strike / (strike - limit)
        critical = limit + (strike - limit) * np.exp(reach)
    critical = max(critical, 1e-8 * strike)
    decay = np.exp((carry - rate) * years)
    for _ in range(100):
        d1 = (np.log(critical / strike) + carry * years) / deviation + 0.5 * deviation
        chance, density = normal_cdf(sign * d1), normal_density(d1)
        rest = 1.0 - decay * chance
        value = _european(sign, critical, strike, years, rate, carry, volatility)
        gap = value + sign * rest * critical / q - sign * (critical - strike)
        slope = sign * (decay * chance + rest / q - 1.0) - decay * density / (deviation * q)
        ahead = critical - gap / slope
        if not ahead > 0.0:
            ahead = 0.5 * critical
        moved = abs(ahead - critical)
        critical = ahead
        if moved <= 1e-12 * strike:
            break
    if sign * (spot - critical) >= 0.0:
        return sign * (spot - strike)
    d1 = (np.log(critical / strike) + carry * years) / deviation + 0.5 * deviation
    premium = sign * critical / q * (1.0 - decay * normal_cdf(sign * d1)) * (spot / critical) ** q
    answer: float = max(european + premium, sign * (spot - strike))
    return answer


@kernel
def _whaleys(
    call: Flags,
    spot: Vector,
    strike: Vector,
    years: Vector,
    rate: Vector,
    carry: Vector,
    volatility: Vector,
    out: Vector,
) -> None:
    for i in range(out.size):
        out[i] = _whaley(call[i], spot[i], strike[i], years[i], rate[i], carry[i], volatility[i])


def leisen_reimer(
    call: Any,
    spot: Any,
    strike: Any,
    years: Any,
    rate: Any,
    volatility: Any,
    *,
    carry: Any = None,
    steps: int = 401,
) -> Vector:
    """Return American prices (n,) from a tree of `steps`, an odd number of at least 3."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 3 or steps % 2 == 0:
        raise InvalidValueError("steps", f"{steps!r}", "pass an odd integer >= 3")
    flags, c = columns(
        call,
        {"spot": spot, "strike": strike, "years": years, "volatility": volatility},
        {"rate": rate, "carry": rate if carry is None else carry},
    )
    out = np.empty(flags.size)
    _trees(flags, c["spot"], c["strike"], c["years"], c["rate"], c["carry"], c["volatility"], steps, out)
    return out


def barone_adesi_whaley(
    call: Any, spot: Any, strike: Any, years: Any, rate: Any, volatility: Any, *, carry: Any = None
) -> Vector:
    """Return approximate American prices (n,)."""
    flags, c = columns(
        call,
        {"spot": spot, "strike": strike, "years": years, "volatility": volatility},
        {"rate": rate, "carry": rate if carry is None else carry},
    )
    out = np.empty(flags.size)
    _whaleys(flags, c["spot"], c["strike"], c["years"], c["rate"], c["carry"], c["volatility"], out)
    return out


def warm() -> None:
    """Compile every kernel of this module."""
    leisen_reimer(True, 100.0, 100.0, 1.0, 0.05, 0.2, steps=3)
    barone_adesi_whaley(False, 100.0, 100.0, 1.0, 0.05, 0.2)
