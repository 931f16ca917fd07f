"""Whether one version is better than another, judged after every sample without fooling oneself.

Two test martingales ("e-processes") on differences of losses d in [-bound, bound], champion minus challenger: one bets
on a mean above zero (the challenger is better), one on a mean below. Under "not better" the first one's capital is a
supermartingale that starts at 1, so by Ville's inequality it ever reaches 1/alpha with probability alpha at most: it
may be looked at as often as one likes. Capital and bets: Waudby-Smith and Ramdas, "Estimating means of bounded random
variables by betting", JRSS B 86 (2024), section 4 (aGRAPA bets, for the mean 0).

Outcomes of one block of time depend on each other (the same market, overlapping horizons), so one block is one sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LARGEST_BET = 0.5  # of the capital that a sample can lose; keeps the capital above zero


@dataclass(kw_only=True)
class EProcess:
    """Capital of a bettor who believes that the mean of x in [-1, 1] is above 0."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.25
    log_capital: float = 0.0
    log_highest: float = 0.0

    def add(self, x: float) -> None:
        """Takes one sample; the bet on it was fixed by those before."""
        mean = self.total / (self.count + 1)
        variance = self.squares / (self.count + 1)
        bet = min(max(mean / (variance + mean * mean), 0.0), LARGEST_BET)
        self.log_capital += math.log1p(bet * x)
        self.log_highest = max(self.log_highest, self.log_capital)
        self.count += 1
        self.total += x
        centred = x - self.total / (self.count + 1)
        self.squares += centred * centred

    @property
    def evidence(self) -> float:
        """Highest capital so far: reaches e by chance with probability 1/e at most."""
        return math.exp(min(self.log_highest, 700.0))


@dataclass(kw_only=True)
class PairedTest:
    """Champion against challenger on the same questions. `block_ns` 0: every pair is a sample of its own."""

    bound: float
    block_ns: int
    pairs: int = 0
    total: float = 0.0
    better: EProcess = field(default_factory=EProcess)
    worse: EProcess = field(default_factory=EProcess)
    block: int = -1
    block_sum: float = 0.0
    block_count: int = 0

    def add(self, ts_event_ns: int, differences: NDArray[np.float64]) -> None:
        """Pairs of a question: the champion's losses minus the challenger's. A block counts once a later one begins."""
        if not len(differences):
            return
        block = ts_event_ns // self.block_ns if self.block_ns else 0
        if block > self.block:
            self._close()
            self.block = block
        for difference in np.minimum(np.maximum(differences, -self.bound), self.bound).tolist():
            self.pairs += 1
            self.total += difference
            self.block_sum += difference
            self.block_count += 1
            if not self.block_ns:
                self._close()

    def _close(self) -> None:
        if self.block_count:
            x = self.block_sum / self.block_count / self.bound
            self.better.add(x)
            self.worse.add(-x)
        self.block_sum, self.block_count = 0.0, 0

    @property
    def advantage(self) -> float | None:
        """Mean of the champion's loss minus the challenger's."""
        return self.total / self.pairs if self.pairs else None
