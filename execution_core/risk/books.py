"""Historical VaR and ES of many books at once, with double-precision answers at single-precision cost.

The gains of all books in all scenarios are one matrix product, and nearly all of them are far from
the tail. So the product is taken in float32, where it costs half; its error is bounded, which leaves
a few dozen scenarios that may belong to the tail; only their gains are computed in float64.

The bound: a float32 dot product of N terms is off by at most (N + 3) 2^-24 |w| |r| (Higham 2002,
section 3.1, with the rounding of the inputs). The answer
is the exact one, not an approximation of it.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.jit import kernel
from execution_core.risk.covariance import Matrix, Vector
from execution_core.risk.random import in_threads
from execution_core.risk.tail import beyond, check_level

Single: TypeAlias = NDArray[np.float32]

# Bytes of gains at a time: large enough for the product's full speed, small enough for the cache.
BLOCK: Final = 2**24


@kernel
def _sift(heap: Any, place: int, size: int) -> None:
    """Move the value at `place` of a min-heap of `size` down to where it belongs."""
    value = heap[place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = value


@kernel
def _largest(values: Any, count: int, keep: int, heap: Any) -> None:
    """Leave the `keep` largest of values[:count] in `heap`, a min-heap: its root is the smallest."""
    for i in range(keep):
        heap[i] = values[i]
    for i in range(keep // 2 - 1, -1, -1):
        _sift(heap, i, keep)
    for i in range(keep, count):
        if values[i] > heap[0]:
            heap[0] = values[i]
            _sift(heap, 0, keep)


@kernel
def _bound(row: Any, keep: int, lanes: int, tops: Any, heap: Any) -> Any:
    """Return a loss that at least `keep` scenarios reach, and few more.

    Scenarios are dealt to `lanes` groups; the keep-th largest of the groups' largest losses.
    """
    for j in range(lanes):
        tops[j] = -row[j]
    for start in range(lanes, row.size - lanes + 1, lanes):
        block = row[start : start + lanes]
        for j in range(lanes):
            loss = -block[j]
            tops[j] = loss if loss > tops[j] else tops[j]
    _largest(tops, lanes, keep, heap)
    return heap[0]


@kernel(fastmath={"reassoc", "contract"})
def _gain(book: Vector, scenario: Vector) -> float:
    total = 0.0
    for i in range(book.size):
        total += book[i] * scenario[i]
    return total


@kernel
def _screen(
    gains: Single,
    margins: Vector,
    books: Matrix,
    returns: Matrix,
    keep: int,
    lanes: int,
    var: Vector,
    total: Vector,
) -> None:
    """For every book: VaR and the sum of the losses beyond it, `keep` counting both.

    A scenario of the tail loses at least what `keep` scenarios are sure to lose, the bound less
    its margin; its float32 loss may be another margin below that.
    """
    scenarios = gains.shape[1]
    heap, tops = np.empty(keep, np.float32), np.empty(max(lanes, 1), np.float32)
    losses, exact = np.empty(scenarios), np.empty(keep)
    places = np.empty(scenarios, np.int64)
    for book in range(gains.shape[0]):
        row = gains[book]
        found = scenarios
        if lanes > 0:
            edge = np.float32(-_bound(row, keep, lanes, tops, heap) + 2.0 * margins[book])
            found = 0
            for t in range(scenarios):
                # Written always, kept only when it counts: no branch to mispredict.
                places[found] = t
                found += 1 if row[t] <= edge else 0
        for i in range(found):
            losses[i] = -_gain(books[book], returns[places[i] if lanes > 0 else i])
        _largest(losses, found, keep, exact)
        var[book] = exact[0]
        together = 0.0
        for i in range(1, keep):
            together += exact[i]
        total[book] = together


def _lanes(keep: int, scenarios: int) -> int:
    """Return how many groups bound the tail well; 0 when it is too large a part of the scenarios."""
    for lanes in (64, 256, 1024):
        if 2 * keep <= lanes and 4 * lanes <= scenarios:
            return lanes
    return 0


def _checked(field: str, array: Any) -> Matrix:
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        raise InvalidArrayError(field, "not float64", "convert it")
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidArrayError(field, f"shape {array.shape}", "pass (books, N) and (T, N)")
    if not np.isfinite(array.sum()) and not np.isfinite(array).all():
        raise InvalidValueError(field, "NaN or infinity", "drop or fill those rows")
    # Strided or read-only arrays are other types for Numba, and would compile kernels anew.
    return np.require(array, requirements=("C", "W"))


@kernel(fastmath={"reassoc", "contract", "nnan", "nsz"})
def _reduce(x: Matrix, together: bool, out: Single, norms: Vector) -> None:
    """Write x in float32 with the largest number of each row one, or of all rows `together`.

    float32 then neither overflows nor vanishes. `norms` are the rows' norms after scaling.
    """
    rows, columns = x.shape
    largest = np.empty(rows)
    for i in range(rows):
        row = x[i]
        top, bottom = 0.0, 0.0
        for j in range(columns):
            top = max(top, row[j])
            bottom = min(bottom, row[j])
        largest[i] = max(top, -bottom)
    if together:
        largest[:] = largest.max()
    for i in range(rows):
        row, write = x[i], out[i]
        scale = 1.0 / largest[i] if largest[i] > 0.0 else 1.0
        squares = 0.0
        for j in range(columns):
            value = row[j] * scale
            write[j] = value
            squares += value * value
        norms[i] = np.sqrt(squares)


def _single(x: Matrix, *, together: bool) -> tuple[Single, Vector]:
    out, norms = np.empty(x.shape, np.float32), np.empty(x.shape[0])
    _reduce(x, together, out, norms)
    return out, norms


def historical_books(
    exposures: Matrix, returns: Matrix, *, level: float = 0.99, workers: int = 1
) -> tuple[Vector, Vector]:
    """Return (VaR, ES), each (books,), of exposures (books, N) over returns (T, N), both float64.

    As ``tail.tail`` of each book alone. `workers` threads search the tails; the product has NumPy's.

    Raises InvalidArrayError, InvalidValueError.
    """
    level = check_level(level)
    exposures, returns = _checked("exposures", exposures), _checked("returns", returns)
    if exposures.shape[1] != returns.shape[1]:
        raise InvalidArrayError("returns", f"{returns.shape[1]} assets", f"pass {exposures.shape[1]}")
    books, (scenarios, assets) = exposures.shape[0], returns.shape
    keep = beyond(scenarios, level) + 1
    lanes = _lanes(keep, scenarios)
    var, total = np.empty(books), np.empty(books)
    across, reach = _single(returns, together=True)
    unit, sizes = _single(exposures, together=False)
    margins = (assets + 3) * 2.0**-24 * float(reach.max()) * sizes
    size = max(1, min(books, BLOCK // (scenarios * 4)))
    gains = np.empty((size, scenarios), np.float32)
    for first in range(0, books, size):
        block = gains[: min(size, books - first)]
        if lanes > 0:
            np.matmul(unit[first : first + size], across.T, out=block)

        def search(a: int, b: int, block: Single = block, first: int = first) -> None:
            part = slice(first + a, first + b)
            _screen(block[a:b], margins[part], exposures[part], returns, keep, lanes, var[part], total[part])

        in_threads(search, block.shape[0], workers)
    share = scenarios * (1.0 - level)
    return var, np.maximum(var, (total + (share - keep + 1) * var) / share)


def warm() -> None:
    """Compile every kernel of this module."""
    historical_books(np.ones((2, 3)), np.ones((300, 3)))
