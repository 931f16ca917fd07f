"""The panel: the one array shape of the indicators, and the checks at their public boundary.

A panel is float64, C-contiguous, shape (bars, symbols): time down, symbols across, so that one
bar of all symbols is one run of memory and a kernel's inner loop is SIMD across symbols.

Two rules hold for every indicator:

- NaN means "not defined". The first values, which look back further than the data reach, are NaN.
- A missing bar (NaN in any input) ends a segment. Every run of present bars is a series of its
  own: the indicator starts again after a gap, exactly as if the data began there. Nothing is
  carried across a gap and nothing is filled in; fill forward first if that is what you want.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.jit import kernel

Panel: TypeAlias = NDArray[np.float64]

_SMALLEST = float(np.nextafter(0.0, 1.0))


@kernel
def _flaws(x: Panel, floor: float) -> int:
    """Count the infinite values and those at or below `floor`; integers, so that it is SIMD."""
    flaws = 0
    flat = x.reshape(x.size)
    for i in range(flat.size):
        flaws += 1 if (flat[i] <= floor) | (flat[i] == np.inf) else 0
    return flaws


def _checked(field: str, x: Any, like: Panel | None, floor: float, problem: str) -> Panel:
    if not isinstance(x, np.ndarray) or x.dtype != np.float64:
        raise InvalidArrayError(field, "not a float64 array", "pass numpy.float64, NaN for missing")
    if x.ndim != 2 or x.shape[1] == 0:
        raise InvalidArrayError(field, f"shape {x.shape}", "pass (bars, symbols)")
    if not x.flags.c_contiguous:
        raise InvalidArrayError(field, "not C-contiguous", "pass numpy.ascontiguousarray(x)")
    if not x.flags.writeable:
        # For Numba a read-only array is another type: it would compile every kernel anew.
        x = x.copy()
    if like is not None and x.shape != like.shape:
        raise InvalidArrayError(field, f"shape {x.shape}", f"all inputs must have {like.shape}")
    if _flaws(x, floor):
        if np.isinf(x).any():
            raise InvalidValueError(field, "infinite value", "use NaN for a missing bar")
        raise InvalidValueError(field, problem, "use NaN for a missing bar")
    panel: Panel = x
    return panel


def check_panel(field: str, x: Any, like: Panel | None = None) -> Panel:
    """Return `x` as a panel, or raise InvalidArrayError or InvalidValueError naming `field`."""
    return _checked(field, x, like, -np.inf, "")


def check_layout(field: str, x: Panel, like: Panel | None = None) -> Panel:
    """`check_panel` of all but the values: for kernels that count flaws in the pass that they make anyway."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float64 or x.ndim != 2 or x.shape[1] == 0:
        raise InvalidArrayError(field, "not a float64 panel", "pass numpy.float64 of (bars, symbols), NaN for missing")
    if not x.flags.c_contiguous:
        raise InvalidArrayError(field, "not C-contiguous", "pass numpy.ascontiguousarray(x)")
    if like is not None and x.shape != like.shape:
        raise InvalidArrayError(field, f"shape {x.shape}", f"all inputs must have {like.shape}")
    return x if x.flags.writeable else x.copy()  # to Numba a read-only array is another type


def check_prices(field: str, x: Any, like: Panel | None = None) -> Panel:
    """`check_panel`, and every present value must be above zero."""
    return _checked(field, x, like, 0.0, "price at or below zero")


def check_volumes(field: str, x: Any, like: Panel | None = None) -> Panel:
    """`check_panel`, and no present value may be below zero."""
    return _checked(field, x, like, -_SMALLEST, "below zero")


def check_window(field: str, n: int, at_least: int = 1) -> int:
    """Return `n` when it is an integer window of at least `at_least` bars."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < at_least:
        raise InvalidValueError(field, f"{n!r}", f"pass an integer >= {at_least}")
    return int(n)


def warm() -> None:
    """Compile the kernel."""
    check_panel("x", np.ones((2, 2)))


def result(like: Panel, out: Panel | None = None, field: str = "out") -> Panel:
    """Return `out` after a check, or a new panel shaped like `like`.

    Passing `out` again and again saves the page faults of a fresh array, which for large panels
    cost as much as the arithmetic.
    """
    if out is None:
        return np.empty_like(like)
    if (
        not isinstance(out, np.ndarray)
        or out.dtype != np.float64
        or out.shape != like.shape
        or not out.flags.c_contiguous
        or not out.flags.writeable
    ):
        raise InvalidArrayError(field, "cannot hold the result", f"pass writeable {like.shape}")
    if np.may_share_memory(out, like):
        raise InvalidArrayError(field, "overlaps an input", "pass an array of its own")
    return out


def distinct(like: Panel, *outputs: Panel) -> None:
    """Check that `outputs` can hold the results and do not overlap each other."""
    for number, panel in enumerate(outputs):
        result(like, panel)
        if any(np.may_share_memory(panel, other) for other in outputs[:number]):
            raise InvalidArrayError("out", "its panels overlap", "pass arrays of their own")
