"""Print the lines of each component and fail when one is over its cap (see `make check`).

A component is a folder that one person can hold in their head: a service, the kit, the core, the mesh.
The core is two: execution (matching, gate, simulation, algorithms, with the modules that all share) and
risk (risk, portfolio construction, indicators). Neither half imports the other's kernels. So are the mesh's guests.
Generated code, bundles and vendored files do not count.
"""

from __future__ import annotations

import sys
from pathlib import Path

CAP = 10_000
SUFFIXES = frozenset({".py", ".ts", ".svelte", ".css", ".html", ".js"})
SKIPPED = frozenset({"__pycache__", "node_modules", "dist", "static"})


CORE = "execution_core"
# The command line, the drills and the conformance kit use the mesh; nothing of the mesh uses them.
MESH_ROOMS = frozenset({"commands", "conformance", "drills"})
RISK_HALF = frozenset({"risk", "construction", "indicators", "performance.py"})


def components(root: Path) -> dict[str, list[Path]]:
    """What is held to the cap: names, and the files and folders that belong to each."""
    found = {
        f"{CORE} (execution)": [path for path in sorted((root / CORE).glob("*")) if path.name not in RISK_HALF],
        f"{CORE} (risk)": [root / CORE / name for name in sorted(RISK_HALF)],
        "mesh": [path for path in sorted((root / "mesh").glob("*")) if path.name not in MESH_ROOMS],
        **{f"mesh/{name}": [root / "mesh" / name] for name in sorted(MESH_ROOMS)},
    }
    for path in sorted((root / "python_services").glob("*")):
        if path.is_dir() and path.name not in SKIPPED:
            found[str(path.relative_to(root))] = [path]
    return found


def count_lines(paths: list[Path]) -> int:
    """The lines of every source file, comments and blank lines included."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sum(
        len(file.read_text(encoding="utf-8").splitlines())
        for file in files
        if file.suffix in SUFFIXES and not SKIPPED & set(file.parts)
    )


def find_violations(root: Path) -> list[str]:
    """One line for each component over the cap, naming it and the rule."""
    counts = {name: count_lines(paths) for name, paths in components(root).items()}
    return [
        f"{name}: {lines:,} lines, over the cap of {CAP:,} for one component"
        for name, lines in counts.items()
        if lines > CAP
    ]


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    print(f"{'component':<36}{'lines':>8}   of {CAP:,}")
    for name, paths in components(root).items():
        lines = count_lines(paths)
        print(f"{name:<36}{lines:>8,}   {lines / CAP:>5.0%}")
    violations = find_violations(root)
    print(*violations, sep="\n", end="\n" if violations else "", file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
