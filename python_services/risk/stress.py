"""What stress scenarios do to a portfolio: a matrix of moves for all that are linear in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scenarios import Historical, Hypothetical, Scenario

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

KEPT = 64  # sets of instruments whose moves are kept


@dataclass(frozen=True, kw_only=True)
class Moves:
    """Returns (scenarios, instruments) of some instruments; NaN where a scenario says nothing of one."""

    scenarios: tuple[str, ...]
    returns: Matrix

    def gains(self, weights: Vector) -> Vector:
        """Gain of each scenario, a share of equity; NaN where it says nothing of something held."""
        unknown = np.isnan(self.returns)
        gains: Vector = np.where(unknown, 0.0, self.returns) @ weights
        gains[(unknown & (weights != 0.0)).any(axis=1)] = np.nan
        return gains

    def worst(self, weights: Vector) -> tuple[str, float] | None:
        """(scenario, loss) of the worst; no loss counts as 0. None when nothing can be said."""
        losses = -self.gains(weights)
        if np.isnan(losses).all():
            return None
        index = int(np.nanargmax(losses))
        return self.scenarios[index], max(float(losses[index]), 0.0)


NO_MOVES = Moves(scenarios=(), returns=np.empty((0, 0)))


class Stress:
    """All scenarios, and what instruments did in the stretches of history that are replayed.

    windows: scenario -> instrument -> simple return over it; an instrument that has no price at both
    ends, or was split in between, is not there.
    """

    def __init__(
        self, scenarios: Sequence[Scenario], windows: Mapping[str, Mapping[str, float]], sectors: Mapping[str, str]
    ) -> None:
        self.scenarios = tuple(scenarios)
        self._windows = windows
        self._sectors = dict(sectors)
        self._known_sectors = frozenset(self._sectors.values())
        self._made: dict[tuple[tuple[str, ...], tuple[str, ...]], Moves] = {}

    def moves(self, names: tuple[str, ...], as_of_ns: int) -> Moves:
        """The linear scenarios that were known at `as_of_ns`, on `names`."""
        linear = [
            scenario
            for scenario in self.scenarios
            if isinstance(scenario.kind, Historical | Hypothetical) and not self.reason(scenario, as_of_ns)
        ]
        key = (names, tuple(scenario.name for scenario in linear))
        moves = self._made.get(key)
        if moves is None:
            rows = [[self._move(scenario, name) for name in names] for scenario in linear]
            returns = np.array(rows, dtype=np.float64).reshape(len(linear), len(names))
            moves = Moves(scenarios=key[1], returns=returns)
            if len(self._made) >= KEPT:
                self._made.clear()
            self._made[key] = moves
        return moves

    def reason(self, scenario: Scenario, as_of_ns: int) -> str:
        """Why a scenario says nothing about any portfolio at `as_of_ns`; empty when it does."""
        kind = scenario.kind
        if isinstance(kind, Historical) and kind.end_ns > as_of_ns:
            return f"it ends on {kind.end}, after the snapshot"
        if isinstance(kind, Hypothetical):
            for sector in kind.sectors:
                if sector not in self._known_sectors:
                    return f"no instrument is of sector {sector!r}"
        return ""

    def _move(self, scenario: Scenario, name: str) -> float:
        if isinstance(scenario.kind, Hypothetical):
            return scenario.kind.move(name, self._sectors.get(name, ""))
        return self._windows.get(scenario.name, {}).get(name, np.nan)
