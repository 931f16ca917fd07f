"""The one way to compile a kernel: ``@kernel``.

Compiled code is cached on disk, so no request path ever compiles. ``make warm`` fills the cache; see
``execution_core/warm.py``. It lives under ``ALPHAMESH_KERNEL_CACHE`` or, when that is unset, in
``.cache/kernels`` beside the package (in the user's cache directory when that place is read-only).

Numba's own cache notices a change of the file that a kernel stands in, but not of the files that this
one imports: after a change of a shared layout it would run old machine code on new memory. So each
kernel is cached in a folder named after the content of its file and of every file of this project
that it imports, directly or not, and after the versions of Numba, NumPy and Python.

``error_model="numpy"``: the Python model's zero-division check blocks vectorisation. Kernels must
therefore check divisors themselves where zero is possible.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

_CORE = Path(__file__).resolve().parent
_IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+([\w.]+)(?:[ \t]+import[ \t]+(\([^)]*\)|[^\n]*))?", re.MULTILINE)
_VERSIONS = "-".join(
    (f"py{sys.version_info.major}{sys.version_info.minor}", f"numba{version('numba')}", f"numpy{version('numpy')}")
)


def cache_root() -> Path:
    """Where compiled kernels are kept."""
    chosen = os.environ.get("ALPHAMESH_KERNEL_CACHE")
    if chosen:
        return Path(chosen)
    beside = _CORE.parent
    return beside / ".cache" / "kernels" if os.access(beside, os.W_OK) else Path.home() / ".cache/alphamesh/kernels"


import numba  # noqa: E402


def kernel(function: _F | None = None, /, **options: Any) -> Any:
    """Compile `function` with the house's options; keyword arguments override them."""
    settings: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True} | options

    def compile_(target: _F) -> Any:
        # Read by Numba when the function is decorated.
        settings_of_numba: Any = numba.config
        settings_of_numba.CACHE_DIR = str(cache_root() / f"{_VERSIONS}-{_digest(Path(target.__code__.co_filename))}")
        return numba.njit(**settings)(target)

    return compile_ if function is None else compile_(function)


@cache
def _digest(source: Path) -> str:
    """Names the content of the file `source` and of all files of this project behind it."""
    found: dict[Path, bytes] = {}
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = path.read_bytes()
        for module, names in _IMPORT.findall(found[path].decode()):
            # An imported name may be a module itself.
            for imported in (module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))):
                file = _file(imported)
                if file is not None:
                    waiting.append(file)
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(hashlib.sha256(found[path]).digest())
    return digest.hexdigest()[:16]


@cache
def _file(module: str) -> Path | None:
    """Source of a module of this project; None for any other name."""
    path = _CORE.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
