"""The one way to compile a kernel: ``@kernel``.

Compiled code is cached on disk, so no request path ever compiles. The cache lives in
``NUMBA_CACHE_DIR`` or, when that is unset, in ``.cache/numba-<versions>`` beside the package (or
under the user's cache directory when that place is read-only). ``make warm`` fills it; see
``execution_core/warm.py``.

``error_model="numpy"``: the Python model's zero-division check blocks vectorisation. Kernels must
therefore check divisors themselves where zero is possible.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


def _cache_directory() -> str:
    tag = f"numba-{version('numba')}-py{sys.version_info.major}{sys.version_info.minor}"
    beside = Path(__file__).resolve().parent.parent / ".cache"
    writable = beside if os.access(beside.parent, os.W_OK) else Path.home() / ".cache" / "alphamesh"
    return str(writable / tag)


# Numba reads the variable once, at import.
os.environ.setdefault("NUMBA_CACHE_DIR", _cache_directory())

import numba  # noqa: E402


def kernel(function: _F | None = None, /, **options: Any) -> Any:
    """Compile `function` with the house's options; keyword arguments override them."""
    settings: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True} | options
    decorator = numba.njit(**settings)
    return decorator if function is None else decorator(function)
