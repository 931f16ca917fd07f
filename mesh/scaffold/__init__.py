"""The files of a new agent; $name, $module and $title are filled in."""

from __future__ import annotations

import keyword
import string
from pathlib import Path

from ..errors import MeshError
from ..topology import LONGEST_NAME, RESERVED

FOLDER = Path(__file__).parent
SUFFIX = ".txt"


def write(name: str, parent: Path) -> Path:
    """Makes the package `name` below `parent`; nothing that exists is touched. Raises MeshError."""
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or not name[0].isalpha():
        raise MeshError(f"{name!r} is no name of a package; use lower-case letters, digits and _, like gap_agent")
    if len(name) > LONGEST_NAME or name in RESERVED:
        raise MeshError(f"{name!r} cannot be a service; use another name of at most {LONGEST_NAME} characters")
    package = parent / name
    if package.exists():
        raise MeshError(f"{package} exists already; choose another name, or another --dir")
    filled = {"name": name, "module": name, "title": name.replace("_", " ").capitalize()}
    texts = {
        path.name.removesuffix(SUFFIX): string.Template(path.read_text()).substitute(filled)
        for path in sorted(FOLDER.glob(f"*{SUFFIX}"))
    }
    package.mkdir(parents=True)
    for file, text in texts.items():
        (package / file).write_text(text)
    return package


def topology(name: str) -> str:
    """What registers it: one entry."""
    entry = f"  {name}:\n    module: {name}\n    agent: true\n    sensitivity: public\n"
    return f"version: 1\nextends: default\nservices:\n{entry}"
