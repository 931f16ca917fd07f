"""Range: where the close stands between the extremes of the last bars."""

from __future__ import annotations

from .base import Definition, Floats, Parameters, Window, kernel


@kernel("range_position", ("high", "low", "close"), ("bars",), shortest=lambda p: int(p["bars"]))
def range_position(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """0 at the lowest low of the last `bars`, 1 at the highest high."""
    bars = int(p["bars"])
    low = window.low[-bars:].min(axis=0)
    values: Floats = (window.close[-1] - low) / (window.high[-bars:].max(axis=0) - low)
    return values


@kernel("drawdown", ("close",), ("bars",), shortest=lambda p: int(p["bars"]))
def drawdown(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Close against the highest close of the last `bars`, less 1: 0 at a high, below it elsewhere."""
    values: Floats = window.close[-1] / window.close[-int(p["bars"]) :].max(axis=0) - 1.0
    return values


def _position(bars: int, feature_id: str, what: str) -> Definition:
    return Definition(
        feature_id=feature_id,
        description=f"Where the close stands in the range of {what}: 0 at its low, 1 at its high.",
        unit="1",
        kernel=range_position,
        parameters={"bars": bars},
        minimum_bars=bars,
    )


CLOSE_LOCATION = _position(1, "close_location", "its own bar")
RANGE_POSITION_20 = _position(20, "range_position_20", "the last 20 bars")
RANGE_POSITION_60 = _position(60, "range_position_60", "the last 60 bars")
DRAWDOWN_60 = Definition(
    feature_id="drawdown_60",
    description="Close against the highest close of the last 60 bars.",
    unit="1",
    kernel=drawdown,
    parameters={"bars": 60},
    minimum_bars=60,
)

FEATURES = (CLOSE_LOCATION, RANGE_POSITION_20, RANGE_POSITION_60, DRAWDOWN_60)
