"""Track records: exponentially weighted sums of scores, by agent, version and market regime. Pure.

**Information coefficient.** Pooled and about zero: sum(x y) / sqrt(sum(x x) sum(y y)). It rewards picking instruments
and picking moments; the mean cross-sectional correlation is kept beside it, for people.

**Independent observations.** Forecasts over h bars made at every bar overlap, and instruments move together, so a
decision about N instruments counts as N / (1 + (N - 1) 0.3) / h observations (the design effect; Kish 1965).

**Shrinkage.** With n observations of mean m and a prior m0 worth n0, the posterior mean is (n m + n0 m0) / (n + n0):
the normal model with known variance. First all regimes towards the prior, then the regime of now towards that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .scoring import BINS, Score

COMMON_MOVEMENT = 0.3  # correlation of instruments that a decision's observations are discounted with
COIN = 0.25  # Brier score of p = 1/2

Key = tuple[str, str, str | None]  # agent, version, regime; None: all regimes


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Weighted sums, but for `forecasts`."""

    forecasts: int = 0
    observations: float = 0.0
    weight: float = 0.0
    xy: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    cross: float = 0.0
    cross_weight: float = 0.0
    brier: float = 0.0
    absolute_error: float = 0.0
    stated: tuple[float, ...] = (0.0,) * BINS
    hits: tuple[float, ...] = (0.0,) * BINS
    p: tuple[float, ...] = (0.0,) * BINS

    def after(self, score: Score, keep: float) -> Tally:
        """With one more score; what was before counts `keep` of what it did."""
        breadth = score.forecasts / (1.0 + (score.forecasts - 1) * COMMON_MOVEMENT)
        scored = score.cross_sectional is not None
        return Tally(
            forecasts=self.forecasts + score.forecasts,
            observations=keep * self.observations + breadth / score.horizon_bars,
            weight=keep * self.weight + score.forecasts,
            xy=keep * self.xy + score.sum_xy,
            xx=keep * self.xx + score.sum_xx,
            yy=keep * self.yy + score.sum_yy,
            cross=keep * self.cross + (score.cross_sectional or 0.0),
            cross_weight=keep * self.cross_weight + scored,
            brier=keep * self.brier + score.sum_brier,
            absolute_error=keep * self.absolute_error + score.sum_absolute_error,
            stated=_decayed(self.stated, score.stated, keep),
            hits=_decayed(self.hits, score.hits, keep),
            p=_decayed(self.p, score.sum_p, keep),
        )

    @property
    def information_coefficient(self) -> float | None:
        """In [-1, 1]; None when nothing was forecast or nothing moved."""
        scale = math.sqrt(self.xx * self.yy)
        return self.xy / scale if scale > 0 else None

    @property
    def cross_sectional_coefficient(self) -> float | None:
        """Mean over decisions."""
        return self.cross / self.cross_weight if self.cross_weight else None

    @property
    def hit_rate(self) -> float | None:
        """Share of stated directions that came true."""
        return sum(self.hits) / stated if (stated := sum(self.stated)) else None

    @property
    def brier_score(self) -> float | None:
        """Mean squared error of the stated probabilities."""
        return self.brier / stated if (stated := sum(self.stated)) else None

    @property
    def mean_absolute_error(self) -> float | None:
        """Of the expected return."""
        return self.absolute_error / self.weight if self.weight else None


NOTHING = Tally()


@dataclass(frozen=True, kw_only=True)
class Skill:
    """What an agent's record is taken for, shrunk."""

    observations: float
    information_coefficient: float
    brier: float
    skill: float


@dataclass(frozen=True, kw_only=True)
class Prior:
    """See Weighting in the contract."""

    information_coefficient: float
    strength: float
    floor: float
    cap: float


@dataclass(frozen=True)
class Record:
    """All tallies. Immutable: a decision weighs with the next one before it is durable."""

    tallies: Mapping[Key, Tally] = field(default_factory=dict)

    def settled(self, scores: Iterable[Score], half_life: float) -> Record:
        """With more scores."""
        keep, tallies = 0.5 ** (1.0 / half_life), dict(self.tallies)
        for score in scores:
            for regime in {None, score.regime}:
                key = (score.agent_id, score.version, regime)
                tallies[key] = tallies.get(key, NOTHING).after(score, keep)
        return Record(tallies)

    def of(self, agent_id: str, version: str, regime: str | None = None) -> Tally:
        """The tally of a version; empty when nothing was scored."""
        return self.tallies.get((agent_id, version, regime), NOTHING)

    def skill(self, agent_id: str, version: str, regime: str | None, prior: Prior) -> Skill:
        """Shrunk twice: all regimes towards the prior, the regime of now towards all regimes."""
        everywhere = self.of(agent_id, version)
        here = self.of(agent_id, version, regime) if regime is not None else NOTHING

        def shrunk(mean: float | None, tally: Tally, towards: float) -> float:
            if mean is None:
                return towards
            n = tally.observations
            return (n * mean + prior.strength * towards) / (n + prior.strength)

        coefficient = shrunk(everywhere.information_coefficient, everywhere, prior.information_coefficient)
        coefficient = shrunk(here.information_coefficient, here, coefficient)
        brier = shrunk(here.brier_score, here, shrunk(everywhere.brier_score, everywhere, COIN))
        raw = coefficient / prior.information_coefficient * min(1.0, COIN / brier if brier > 0 else 1.0)
        return Skill(
            observations=everywhere.observations,
            information_coefficient=coefficient,
            brier=brier,
            skill=min(max(raw, prior.floor), prior.cap),
        )


def _decayed(before: tuple[float, ...], more: tuple[float, ...], keep: float) -> tuple[float, ...]:
    return tuple(keep * old + new for old, new in zip(before, more, strict=True))
