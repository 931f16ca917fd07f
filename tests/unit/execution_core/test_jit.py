"""The kernel cache: a change anywhere behind a kernel gives it another place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from execution_core import jit


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small core: book imports layout and then sides, layout imports words; other stands alone."""
    folder = tmp_path / "execution_core"
    (folder / "book").mkdir(parents=True)
    (tmp_path / "examples_of_it").mkdir()
    for path, text in {
        "__init__.py": "",
        "words.py": "SIZE = 8\n",
        "layout.py": "from execution_core import words\n",
        "sides.py": "BUY = 1\n",
        "other.py": "X = 1\n",
        "book/__init__.py": "",
        "book/match.py": "import numpy as np\nfrom execution_core.layout import (\n    A,\n    B,\n)\n"
        "from execution_core.words import SIZE\nfrom execution_core.sides import BUY\n",
        "../examples_of_it/strategy.py": "from execution_core.book import match\n\nRUN = match\n",
    }.items():
        (folder / path).write_text(text)
    monkeypatch.setattr(jit, "_CORE", folder)
    return folder


def digest(source: Path) -> str:
    jit._digest.cache_clear()
    jit._file.cache_clear()
    return jit._digest(source)


@pytest.mark.parametrize("changed", ["book/match.py", "layout.py", "words.py", "sides.py"])
def test_a_change_behind_a_kernel_changes_its_place(core: Path, changed: str) -> None:
    before = digest(core / "book/match.py")
    with (core / changed).open("a") as file:
        file.write("Y = 2\n")
    assert digest(core / "book/match.py") != before


def test_a_kernel_outside_the_core_follows_the_core_that_it_calls(core: Path) -> None:
    strategy = core.parent / "examples_of_it" / "strategy.py"
    before = digest(strategy)
    (core / "sides.py").write_text("BUY = 2\n")
    assert digest(strategy) != before


def test_a_change_elsewhere_does_not(core: Path) -> None:
    before = digest(core / "book/match.py")
    (core / "other.py").write_text("X = 2\n")
    assert digest(core / "book/match.py") == before


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Digests of the test's files must not outlive it."""
    yield
    jit._digest.cache_clear()
    jit._file.cache_clear()
