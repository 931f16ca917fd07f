"""topology: checked, listed, drawn."""

from __future__ import annotations

from pathlib import Path

import orjson

from .. import diagram
from .. import topology as topologies
from ..errors import MeshError


async def topology(svg: Path | None, file: Path | None, as_json: bool) -> int:
    """Reads the topology, which checks it, and shows it. Raises MeshError."""
    mesh = topologies.load(file or topologies.DEFAULT_PATH)
    if svg is not None:
        _draw(mesh, svg)
    facts = diagram.data(mesh)
    if as_json:
        print(orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode())
        return 0
    for kind in ("clients", "services"):
        for name, owner in facts[kind].items():
            label = owner.get("sensitivity", "client")
            print(f"{name} ({label}, clearance {owner['clearance']})")
            for callee, methods in owner["calls"].items():
                short = ", ".join(method.rpartition(".")[2] for method in methods)
                print(f"  calls {callee}: {short}")
            if owner["reads"]:
                print(f"  reads {', '.join(owner['reads'])}")
    if svg is not None:
        print(f"drawn in {svg}")
    return 0


def _draw(mesh: topologies.Topology, svg: Path) -> None:
    try:
        svg.write_text(diagram.svg(mesh), encoding="utf-8")
    except OSError as error:
        raise MeshError(f"{svg}: {error.strerror}; give --svg another path") from error
