"""Returns over several horizons. All are simple returns of adjusted closes."""

from __future__ import annotations

from .base import Definition, Floats, Parameters, Window, kernel


@kernel("simple_return", ("close",), ("bars",), shortest=lambda p: int(p["bars"]) + 1)
def simple_return(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Close over the close `bars` ago, less 1."""
    values: Floats = window.close[-1] / window.close[-1 - int(p["bars"])] - 1.0
    return values


@kernel("skip_momentum", ("close",), ("bars", "skip"), shortest=lambda p: int(p["bars"]) + 1)
def skip_momentum(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Return from `bars` ago to `skip` ago: the last month, which tends to reverse, is left out.

    Source: Jegadeesh and Titman, Returns to Buying Winners and Selling Losers, 1993 (12 months less 1, here 6 less 1).
    """
    values: Floats = window.close[-1 - int(p["skip"])] / window.close[-1 - int(p["bars"])] - 1.0
    return values


@kernel("overnight_gap", ("open", "close"), shortest=lambda p: 2)
def overnight_gap(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Open over the close before, less 1."""
    values: Floats = window.open[-1] / window.close[-2] - 1.0
    return values


def _return(bars: int) -> Definition:
    return Definition(
        feature_id=f"return_{bars}",
        description=f"Simple return over {bars} bar{'s' if bars > 1 else ''}.",
        unit="1",
        kernel=simple_return,
        parameters={"bars": bars},
        minimum_bars=bars + 1,
    )


RETURN_1, RETURN_5, RETURN_10, RETURN_20, RETURN_60 = map(_return, (1, 5, 10, 20, 60))
MOMENTUM_120_20 = Definition(
    feature_id="momentum_120_20",
    description="Return from 120 bars ago to 20 bars ago: half a year without the last month.",
    unit="1",
    kernel=skip_momentum,
    parameters={"bars": 120, "skip": 20},
    minimum_bars=121,
)
GAP = Definition(
    feature_id="gap",
    description="Open of the newest bar against the close before it.",
    unit="1",
    kernel=overnight_gap,
    minimum_bars=2,
)

FEATURES = (RETURN_1, RETURN_5, RETURN_10, RETURN_20, RETURN_60, MOMENTUM_120_20, GAP)
