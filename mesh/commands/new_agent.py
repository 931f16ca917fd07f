"""alphamesh agent new."""

from __future__ import annotations

from pathlib import Path

from .. import scaffold
from ..tables import console


async def run(name: str, folder: Path) -> int:
    """Writes the package, and says what to do with it."""
    package = scaffold.write(name, folder)
    where = "" if folder == Path() else f"cd {folder} && "
    console.print(f"made {package}: agent.py is the agent, one function over a window of bars", markup=False)
    console.print("test it, alone and against the contract:\n", markup=False)
    console.print(f"  {where}python -m pytest {name}", markup=False)
    console.print(f"  {where}alphamesh conformance --module {name}\n", markup=False)
    console.print("register it, in a file my_topology.yaml:\n", markup=False)
    console.print(scaffold.topology(name), markup=False)
    console.print("and trade with it:\n", markup=False)
    console.print(f"  {where}alphamesh session --up --topology my_topology.yaml", markup=False)
    return 0
