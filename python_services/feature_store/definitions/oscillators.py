"""Oscillators: whether the price is stretched."""

from __future__ import annotations

from execution_core import indicators

from .base import Definition, Floats, Parameters, Window, kernel


@kernel("relative_strength_index", ("close",), ("bars",), shortest=lambda p: int(p["bars"]) + 1)
def relative_strength_index(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """RSI (Wilder 1978)."""
    values: Floats = indicators.rsi(window.close, int(p["bars"]))[-1]
    return values


@kernel("bollinger_z", ("close",), ("bars",), shortest=lambda p: int(p["bars"]))
def bollinger_z(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Close less its average, in standard deviations: 2 is the upper Bollinger band."""
    bars = int(p["bars"])
    values: Floats = indicators.zscore(window.close[-bars:], bars)[-1]
    return values


RSI_14 = Definition(
    feature_id="rsi_14",
    description="Relative strength index of 14 bars, 0 to 100; its averages begin 100 bars ago.",
    unit="point",
    kernel=relative_strength_index,
    parameters={"bars": 14},
    minimum_bars=100,
)
BOLLINGER_Z_20 = Definition(
    feature_id="bollinger_z_20",
    description="Close against its 20-bar average, in standard deviations of those closes.",
    unit="1",
    kernel=bollinger_z,
    parameters={"bars": 20},
    minimum_bars=20,
)

FEATURES = (RSI_14, BOLLINGER_Z_20)
