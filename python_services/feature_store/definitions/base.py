"""What a feature is made of: a window of bars, a kernel, and a definition that names both.

A kernel sees exactly the `minimum_bars` newest bars that its definition asks for, never more. So a value depends on
those bars alone: not on how long the window is that somebody happens to hold, and not on which other instruments are
in it. That is what makes the value served online and the value of a training row the same number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from alphamesh.feature.v1 import feature_pb2

from ..source import code_sha256

Floats: TypeAlias = NDArray[np.float64]

COLUMNS = ("open", "high", "low", "close", "volume")
DAY_NS = 86_400 * 1_000_000_000
STALE_AFTER_NS = 5 * DAY_NS  # a long weekend, and a day more
OWNER = "research"


@dataclass(frozen=True, kw_only=True)
class Window:
    """Bars x rows, C-contiguous, oldest bar first, adjusted for what was known at the cut; NaN before the first bar.

    A row is one instrument at one cut. Prices are in the instrument's currency, volume in units traded.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    @property
    def bars(self) -> int:
        """Length in bars."""
        return len(self.close)

    def tail(self, bars: int) -> Window:
        """The newest `bars` bars; a view."""
        if bars == self.bars:
            return self
        return Window(**{name: getattr(self, name)[-bars:] for name in COLUMNS})

    @cached_property
    def returns(self) -> Floats:
        """Natural logarithms of close over the close before: (bars - 1) x rows."""
        log_close = np.log(self.close)
        return np.ascontiguousarray(log_close[1:] - log_close[:-1])


Parameters: TypeAlias = Mapping[str, float]
Compute: TypeAlias = Callable[[Window, Parameters, tuple[Floats, ...]], Floats]


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel:
    """Code that computes a feature: one value per row of the window.

    compute     (window of exactly minimum_bars bars, parameters, values of the input features) -> values; NaN is absent
    columns     of the bars that it reads
    parameters  that it needs, all of them
    features    how many input features it takes
    shortest    bars that it needs with given parameters; its definition may ask for more, never for fewer
    """

    name: str
    compute: Compute
    columns: tuple[str, ...]
    parameters: tuple[str, ...]
    features: int
    shortest: Callable[[Parameters], int]

    @cached_property
    def sha256(self) -> str:
        """Of its source, and of all code of this project that it calls."""
        return code_sha256(self.compute)


@dataclass(frozen=True, kw_only=True, eq=False)
class Definition:
    """One version of one feature, as code. `inputs`: other features, in the order in which the kernel takes them."""

    feature_id: str
    description: str
    unit: str
    kernel: Kernel
    minimum_bars: int
    parameters: Parameters = field(default_factory=dict)
    inputs: tuple[Definition, ...] = ()
    owner: str = OWNER
    maximum_age_ns: int = STALE_AFTER_NS

    @cached_property
    def message(self) -> feature_pb2.FeatureDefinition:
        """As the contract has it."""
        return feature_pb2.FeatureDefinition(
            description=self.description,
            owner=self.owner,
            unit=self.unit,
            kernel=self.kernel.name,
            parameters=self.parameters,
            code_sha256=self.kernel.sha256,
            inputs=[
                *(feature_pb2.FeatureInput(bar_column=name) for name in self.kernel.columns),
                *(feature_pb2.FeatureInput(feature=feature.reference) for feature in self.inputs),
            ],
            minimum_bars=self.minimum_bars,
            maximum_age_ns=self.maximum_age_ns,
        )

    @cached_property
    def version(self) -> str:
        """Hex sha256 of what it is."""
        return feature_version(self.feature_id, self.message)

    @property
    def reference(self) -> feature_pb2.FeatureReference:
        """By name."""
        return feature_pb2.FeatureReference(feature_id=self.feature_id, version=self.version)


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureSet:
    """An ordered list of features: the columns of a model's input."""

    display_name: str
    features: tuple[Definition, ...]

    @cached_property
    def version(self) -> str:
        """Hex sha256 of the ordered references."""
        return set_version([feature.reference for feature in self.features])

    @property
    def feature_ids(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(feature.feature_id for feature in self.features)


def feature_version(feature_id: str, definition: feature_pb2.FeatureDefinition) -> str:
    """Hex sha256 of a definition. Inputs are named by their versions, so a change of one changes all behind it."""
    return hash_of(feature_id.encode(), definition.SerializeToString(deterministic=True))


def set_version(references: list[feature_pb2.FeatureReference]) -> str:
    """Hex sha256 of ordered references."""
    return hash_of(*(f"{reference.feature_id}@{reference.version}".encode() for reference in references))


def hash_of(*parts: bytes) -> str:
    """Hex sha256 of parts, each with its length, so that no two lists of parts look the same."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def kernel(
    name: str,
    columns: tuple[str, ...] = (),
    parameters: tuple[str, ...] = (),
    *,
    features: int = 0,
    shortest: Callable[[Parameters], int],
) -> Callable[[Compute], Kernel]:
    """Makes a function a kernel."""
    return lambda compute: Kernel(
        name=name, compute=compute, columns=columns, parameters=parameters, features=features, shortest=shortest
    )
