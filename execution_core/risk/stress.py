"""Stress tests of a book: replayed history, hypothetical shocks, and the reverse question.

A book is a vector of exposures (N,) in money; a scenario is a vector of returns (N,). Results
are gains: negative is a loss. Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import gammaincc

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk.covariance import Matrix, Vector, check_covariance, check_returns
from execution_core.risk.var import check_book

Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A stretch of history, bars `first` to `last` inclusive, replayed on today's book."""

    first: int
    last: int
    gain: float
    by_asset: Vector


@dataclass(frozen=True, kw_only=True)
class Reverse:
    """The likeliest returns (N,) that lose the amount asked for.

    distance     Mahalanobis distance: how many deviations out
    likelihood   chance of a scenario at least that far out, were returns normal
    """

    returns: Vector
    distance: float
    likelihood: float


def replay(exposures: Vector, returns: Matrix, *, first: int, last: int) -> Episode:
    """Return what bars `first`..`last` of returns (T, N) would do to the book held unchanged.

    Simple returns are compounded asset by asset.
    """
    returns = check_returns("returns", returns, 1)
    exposures = check_book("exposures", exposures, returns.shape[1])
    if not 0 <= first <= last < returns.shape[0]:
        raise InvalidValueError("first", f"bars {first}..{last}", f"stay within 0..{returns.shape[0] - 1}")
    moves = np.prod(1.0 + returns[first : last + 1], axis=0) - 1.0
    by_asset: Vector = exposures * moves
    return Episode(first=first, last=last, gain=float(by_asset.sum()), by_asset=by_asset)


def worst_episodes(exposures: Vector, returns: Matrix, *, bars: int, count: int = 5) -> list[Episode]:
    """Return the `count` worst stretches of `bars` bars for this book, worst first, disjoint."""
    returns = check_returns("returns", returns, 1)
    exposures = check_book("exposures", exposures, returns.shape[1])
    if not 1 <= bars <= returns.shape[0] or count < 1:
        raise InvalidValueError("bars", f"{bars} bars, {count} episodes", f"pass 1 to {returns.shape[0]} bars")
    if (returns <= -1.0).any():
        raise InvalidValueError("returns", "a loss of everything", "use replay for that stretch")
    # Compounded moves of every window from cumulative logs; the chosen ones are exact again.
    logs = np.vstack([np.zeros(returns.shape[1]), np.cumsum(np.log1p(returns), axis=0)])
    gains = np.expm1(logs[bars:] - logs[:-bars]) @ exposures
    episodes: list[Episode] = []
    for start in np.argsort(gains, kind="stable"):
        if all(abs(int(start) - episode.first) >= bars for episode in episodes):
            episodes.append(replay(exposures, returns, first=int(start), last=int(start) + bars - 1))
        if len(episodes) == count:
            break
    return episodes


def shock(exposures: Vector, shocked: Indices, moves: Vector, covariance: Matrix | None = None) -> Vector:
    """Return the gain of each asset (N,) when the assets `shocked` make `moves`.

    Without `covariance` the others stand still. With it they make the move expected of them given
    the shocked ones, Sigma_21 Sigma_11^-1 moves ("predictive" stress test, Kupiec 1998).
    """
    size = np.asarray(exposures).size
    exposures = check_book("exposures", exposures, size)
    index = np.asarray(shocked)
    if index.ndim != 1 or index.size == 0 or not np.issubdtype(index.dtype, np.integer):
        raise InvalidArrayError("shocked", f"{index.dtype} {index.shape}", "pass (K,) asset numbers")
    if index.min() < 0 or index.max() >= size or np.unique(index).size != index.size:
        raise InvalidValueError("shocked", "out of range or repeated", f"pass distinct 0..{size - 1}")
    moves = check_book("moves", moves, index.size)
    returns = np.zeros(size)
    if covariance is not None:
        covariance = check_covariance("covariance", covariance, size)
        inner = covariance[np.ix_(index, index)]
        try:
            returns = covariance[:, index] @ cho_solve(cho_factor(inner), moves)
        except np.linalg.LinAlgError:
            raise InvalidValueError("covariance", "the shocked assets determine each other", "shock fewer") from None
    returns[index] = moves
    gains: Vector = exposures * returns
    return gains


def reverse(exposures: Vector, covariance: Matrix, loss: float) -> Reverse:
    """Return the likeliest scenario in which the book loses `loss`.

    The closest point to zero, in the covariance's metric, of the plane w'x = -loss:
    x = -loss Sigma w / (w' Sigma w), at distance loss / sqrt(w' Sigma w).
    """
    covariance = check_covariance("covariance", covariance)
    exposures = check_book("exposures", exposures, covariance.shape[0])
    if not (np.isfinite(loss) and loss > 0.0):
        raise InvalidValueError("loss", f"{loss!r}", "pass an amount above zero")
    slope = covariance @ exposures
    variance = float(exposures @ slope)
    if variance <= 0.0:
        raise InvalidValueError("exposures", "a book without risk", "it cannot lose under this covariance")
    distance = loss / float(np.sqrt(variance))
    # The squared distance of a normal vector is chi-square with N degrees.
    likelihood = float(gammaincc(covariance.shape[0] / 2.0, distance * distance / 2.0))
    return Reverse(returns=-loss / variance * slope, distance=distance, likelihood=likelihood)
