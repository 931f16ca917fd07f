"""How much two agents say the same, from what they said: five copies of one idea are one voice. Pure.

The similarity of two agents is the share of what one says that the other says, too: the squared cosine of their
forecasts in units of volatility, over the instruments that both estimated, exponentially weighted over decisions. About
zero, not about the mean, because to lean the same way everywhere is to say the same; squared, because chance gives
every pair a small cosine, and a crowd of copies must not crowd out a stranger. With n common estimates it is taken for
n / (n + strength) of what was measured; who contradicts is no copy. An agent's effective share is 1 / (1 + sum of its
similarities with the others that are heard): k agents with common similarity s count k / (1 + (k - 1) s) together, as
many as independent voices have their mean's variance (the design effect).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from .estimates import Estimate, Floats


def _nothing() -> Floats:
    return np.zeros((0, 0))


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Weighted sums over pairs of agents: products, squares of the row's agent where both spoke, common estimates."""

    agent_ids: tuple[str, ...] = ()
    products: Floats = None  # type: ignore[assignment]
    squares: Floats = None  # type: ignore[assignment]
    common: Floats = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """No agents at first."""
        for name in ("products", "squares", "common"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, _nothing())

    def after(self, estimates: Sequence[Estimate], instruments: int, half_life: float) -> Similarity:
        """With one more decision."""
        speaking = [estimate for estimate in estimates if estimate.speaks]
        ids = (*self.agent_ids, *(e.agent_id for e in speaking if e.agent_id not in self.agent_ids))
        said = np.zeros((len(ids), instruments))
        spoke = np.zeros((len(ids), instruments))
        place = {agent_id: row for row, agent_id in enumerate(ids)}
        for estimate in speaking:
            row = place[estimate.agent_id]
            said[row, estimate.instrument_index] = estimate.expected_return / estimate.volatility
            spoke[row, estimate.instrument_index] = 1.0
        keep, known = 0.5 ** (1.0 / half_life), len(self.agent_ids)

        def add(before: Floats, left: Floats, right: Floats) -> Floats:
            # einsum, not BLAS: the same bits whatever number of threads BLAS has in this process
            now = np.asarray(np.einsum("ai,bi->ab", left, right))
            now[:known, :known] += keep * before
            return now

        return Similarity(
            agent_ids=ids,
            products=add(self.products, said, said),
            squares=add(self.squares, said * said, spoke),
            common=add(self.common, spoke, spoke),
        )

    def matrix(self, strength: float) -> Floats:
        """Agents x agents, in [0, 1], 1 on the diagonal."""
        scale = np.sqrt(self.squares * self.squares.T)
        cosine = np.divide(self.products, scale, out=np.zeros_like(scale), where=scale > 0)
        believed = np.divide(self.common, self.common + strength, out=np.zeros_like(scale), where=self.common > 0)
        found = np.clip(cosine, 0.0, 1.0) ** 2 * believed
        np.fill_diagonal(found, 1.0)
        return found

    def shares(self, heard: Collection[str], strength: float) -> dict[str, float]:
        """Effective share of each of `heard`; 1 for one that has said nothing yet."""
        rows = [row for row, agent_id in enumerate(self.agent_ids) if agent_id in heard]
        among = self.matrix(strength)[np.ix_(rows, rows)].sum(axis=1)
        found = {self.agent_ids[row]: 1.0 / float(total) for row, total in zip(rows, among, strict=True)}
        return {agent_id: found.get(agent_id, 1.0) for agent_id in heard}
