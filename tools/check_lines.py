"""Print the lines of each component and fail when one is over its cap (see `make check`).

A component is a folder that one person can hold in their head: a service, the kit, the core, the mesh.
Generated code, bundles and vendored files do not count.
"""

from __future__ import annotations

import sys
from pathlib import Path

CAP = 10_000
SUFFIXES = frozenset({".py", ".ts", ".svelte", ".css", ".html", ".js"})
SKIPPED = frozenset({"__pycache__", "node_modules", "dist", "static"})


def components(root: Path) -> list[Path]:
    """The folders under `root` that are held to the cap."""
    services = root / "python_services"
    parts = sorted(path for path in services.glob("*") if path.is_dir() and path.name not in SKIPPED)
    return [path for path in [root / "execution_core", root / "mesh", *parts] if path.is_dir()]


def count_lines(component: Path) -> int:
    """The lines of every source file of a component, comments and blank lines included."""
    return sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in component.rglob("*")
        if path.suffix in SUFFIXES and not SKIPPED & set(path.relative_to(component).parts)
    )


def find_violations(root: Path) -> list[str]:
    """One line for each component over the cap, naming it and the rule."""
    counts = {path: count_lines(path) for path in components(root)}
    return [
        f"{path.relative_to(root)}: {lines:,} lines, over the cap of {CAP:,} for one component"
        for path, lines in counts.items()
        if lines > CAP
    ]


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    print(f"{'component':<36}{'lines':>8}   of {CAP:,}")
    for path in components(root):
        lines = count_lines(path)
        print(f"{path.relative_to(root)!s:<36}{lines:>8,}   {lines / CAP:>5.0%}")
    violations = find_violations(root)
    print(*violations, sep="\n", end="\n" if violations else "", file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
