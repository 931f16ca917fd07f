"""The kernel cache: a change anywhere behind a kernel gives it another place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from execution_core import jit


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small core: book imports layout, which imports words; other stands alone."""
    folder = tmp_path / "execution_core"
    (folder / "book").mkdir(parents=True)
    for path, text in {
        "__init__.py": "",
        "words.py": "SIZE = 8\n",
        "layout.py": "from execution_core import words\n",
        "other.py": "X = 1\n",
        "book/__init__.py": "",
        "book/match.py": "import numpy as np\nfrom execution_core.layout import (\n    A,\n    B,\n)\n",
    }.items():
        (folder / path).write_text(text)
    monkeypatch.setattr(jit, "_CORE", folder)
    return folder


def digest(module: str) -> str:
    jit._digest.cache_clear()
    jit._file.cache_clear()
    return jit._digest(module)


@pytest.mark.parametrize("changed", ["book/match.py", "layout.py", "words.py"])
def test_a_change_behind_a_kernel_changes_its_place(core: Path, changed: str) -> None:
    before = digest("execution_core.book.match")
    with (core / changed).open("a") as file:
        file.write("Y = 2\n")
    assert digest("execution_core.book.match") != before


def test_a_change_elsewhere_does_not(core: Path) -> None:
    before = digest("execution_core.book.match")
    (core / "other.py").write_text("X = 2\n")
    assert digest("execution_core.book.match") == before


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Digests of the test's files must not outlive it."""
    yield
    jit._digest.cache_clear()
    jit._file.cache_clear()
