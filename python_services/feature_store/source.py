"""The hash of a kernel's source: a change of code is a change of version.

It covers the function and every function, constant and compiled kernel of this project that it reaches by name. Only
tokens count: a comment, a docstring or another line break changes nothing.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

OURS = ("python_services.feature_store", "execution_core")
_SPACE = frozenset({tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT})
_FORMAT_START, _FORMAT_END = (getattr(tokenize, name, -1) for name in ("FSTRING_START", "FSTRING_END"))
_PLAIN = (bool, int, float, str, tuple, frozenset)


def code_sha256(function: Callable[..., Any]) -> str:
    """Hex sha256 of the function's tokens and of all that it reaches, by name."""
    parts: dict[str, str] = {}
    _collect(_plain(function), parts)
    # Without the names of the modules: moving code is no change of it.
    return hashlib.sha256("\n".join(sorted(parts.values())).encode()).hexdigest()


def _collect(function: FunctionType, parts: dict[str, str]) -> None:
    name = f"{function.__module__}.{function.__qualname__}"
    if name in parts:
        return
    parts[name] = _tokens(function)
    names = set(_names(function.__code__))
    for used in sorted(names):
        value = function.__globals__.get(used)
        if isinstance(value, ModuleType) and _ours(value.__name__):
            # What of the module is used: names are not tied to modules in compiled code, so each is tried.
            for attribute in sorted(names):
                _follow(getattr(value, attribute, None), f"{value.__name__}.{attribute}", parts)
        else:
            _follow(value, f"{function.__module__}.{used}", parts)


def _follow(value: Any, name: str, parts: dict[str, str]) -> None:
    if isinstance(value, _PLAIN):
        parts[name] = f"{name.rpartition('.')[2]} = {value!r}"
        return
    function = _plain(value)
    if isinstance(function, FunctionType) and _ours(function.__module__):
        _collect(function, parts)


def _plain(value: Any) -> Any:
    """The Python function of a compiled kernel."""
    return getattr(value, "py_func", value)


def _ours(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in OURS)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@cache
def _tokens(function: FunctionType) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    kept: list[str] = []
    fresh = True  # at the start of a statement, where a string alone is a docstring
    depth = 0  # of formatted strings, which Python 3.12 gives in parts: they are words, not arithmetic
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == _FORMAT_START:
            depth += 1
        elif token.type == _FORMAT_END:
            depth -= 1
        if depth or token.type in (*_SPACE, _FORMAT_END):
            fresh = fresh or token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            continue
        if token.type == tokenize.STRING and (fresh or token.string[0] in "fF"):
            continue
        fresh = False
        kept.append(token.string)
    return " ".join(kept)
