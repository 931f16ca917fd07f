"""Computing features: the one code path, online and offline. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .definitions import COLUMNS, KERNELS, FeatureSet, Floats, Kernel, Window

NARROWEST = 8  # columns: below this NumPy may add in another order, which changes the last bit


@dataclass(frozen=True, kw_only=True, eq=False)
class Computable:
    """A feature version as it is computed. `inputs`: the features that its kernel takes."""

    feature_id: str
    version: str
    kernel: Kernel
    parameters: Mapping[str, float]
    minimum_bars: int
    maximum_age_ns: int
    inputs: tuple[Computable, ...] = field(default=())


def longest(features: Sequence[Computable]) -> int:
    """Bars that a window needs for all of these to have values."""
    return max(max(feature.minimum_bars, longest(feature.inputs) if feature.inputs else 0) for feature in features)


def compute(features: Sequence[Computable], window: Window, held: NDArray[np.int64]) -> Floats:
    """Values, rows x features: one row per column of the window, NaN where there is none.

    held: bars that each column has, newest last; a feature that needs more has no value there. What a kernel answers
    that is not a finite number is no value either.
    """
    rows = window.close.shape[1]
    if rows == 0:
        return np.empty((0, len(features)))
    if rows < NARROWEST:
        window = Window(**{name: _widened(getattr(window, name)) for name in COLUMNS})
    done: dict[str, Floats] = {}
    tails: dict[int, Window] = {}
    with np.errstate(all="ignore"):
        found = np.stack([_one(feature, window, tails, done)[:rows] for feature in features])
    needed = np.array([feature.minimum_bars for feature in features])
    found[~np.isfinite(found) | (held < needed[:, None])] = np.nan
    return found.T


def _one(feature: Computable, window: Window, tails: dict[int, Window], done: dict[str, Floats]) -> Floats:
    found = done.get(feature.version)
    if found is None:
        bars = feature.minimum_bars
        if bars > window.bars:  # nobody has that many
            found = np.full(window.close.shape[1], np.nan)
        else:
            tail = tails.get(bars)
            if tail is None:
                tail = tails[bars] = window.tail(bars)
            inputs = tuple(_one(needed, window, tails, done) for needed in feature.inputs)
            found = feature.kernel.compute(tail, feature.parameters, inputs)
        done[feature.version] = found
    return found


def _widened(panel: Floats) -> Floats:
    wide = np.full((panel.shape[0], NARROWEST), np.nan)
    wide[:, : panel.shape[1]] = panel
    return wide


@cache
def of_code(feature_set: FeatureSet) -> tuple[Computable, ...]:
    """A set of the code as it is computed."""
    from .definitions.base import Definition

    def made(feature: Definition) -> Computable:
        return Computable(
            feature_id=feature.feature_id,
            version=feature.version,
            kernel=feature.kernel,
            parameters=feature.parameters,
            minimum_bars=feature.minimum_bars,
            maximum_age_ns=feature.maximum_age_ns,
            inputs=tuple(made(needed) for needed in feature.inputs),
        )

    return tuple(made(feature) for feature in feature_set.features)


def warm() -> None:
    """Runs every kernel once on made-up bars, so that no request ever compiles or loads one."""
    from .definitions import SETS

    for feature_set in SETS:
        features = of_code(feature_set)
        bars = longest(features)
        steps = np.sin(np.arange(bars * 3, dtype=np.float64)).reshape(bars, 3)
        close = 100.0 * np.exp(0.01 * steps.cumsum(axis=0))
        window = Window(open=close * 0.999, high=close * 1.01, low=close * 0.99, close=close, volume=close * 1e4)
        compute(features, window, np.full(3, bars))


def known_kernel(name: str) -> Kernel | None:
    """A kernel by its name."""
    return KERNELS.get(name)
