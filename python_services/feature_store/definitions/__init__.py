"""Features as code: a module for each family, and the sets that models are trained on and served with."""

from __future__ import annotations

from . import oscillators, ranges, returns, trend, volatility, volume
from .base import COLUMNS, Definition, FeatureSet, Floats, Kernel, Parameters, Window

__all__ = [
    "COLUMNS",
    "DAILY_TECHNICAL",
    "FEATURES",
    "KERNELS",
    "SETS",
    "Definition",
    "FeatureSet",
    "Floats",
    "Kernel",
    "Parameters",
    "Window",
]

# Inputs before what is computed from them; of two versions of a feature the newer one later.
FEATURES: tuple[Definition, ...] = (
    *returns.FEATURES,
    *trend.FEATURES,
    *oscillators.FEATURES,
    *volatility.FEATURES,
    *volume.FEATURES,
    *ranges.FEATURES,
)

KERNELS: dict[str, Kernel] = {feature.kernel.name: feature.kernel for feature in FEATURES}

DAILY_TECHNICAL = FeatureSet(
    display_name="daily_technical",
    features=tuple(feature for feature in FEATURES if feature is not volatility.VOLATILITY_20_CLOSES),
)

SETS: tuple[FeatureSet, ...] = (DAILY_TECHNICAL,)
