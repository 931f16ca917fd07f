"""Hold the direction of knowledge (see `make check`): who may import whom.

Contracts and core know nothing of each other; only python_services/kit/convert.py joins them. Services import
the generated code, the kit and the core, and never each other. The mesh reads contracts and topology, never
service code. Tests and benchmarks may import anything.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

CONTRACTS = ("alphamesh", "buf", "inference")
WIRE = (*CONTRACTS, "google", "grpc", "grpc_health", "grpc_reflection", "grpc_status", "protovalidate")
CORE = "execution_core"
SERVICES = "python_services"
KIT = "python_services.kit"
MESH = "mesh"
CONVERT = "python_services.kit.convert"
COMPOSITION_ROOT = "python_services.local"
OUTSIDE = ("tests", "benchmarks", "tools", "examples")
IMPURE = ("grpc", "nats", "socket", "sqlite3", "time")
CHECKED = (CORE, SERVICES, MESH)


def find_violations(root: Path) -> list[str]:
    """Every import under `root` against the rules, as 'file:line: what: rule'; empty when all is well."""
    found: list[str] = []
    for top in CHECKED:
        for path in sorted((root / top).rglob("*.py")):
            relative = path.relative_to(root)
            module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            imports = list(imported(ast.parse(path.read_text(encoding="utf-8"), str(path)), package))
            found += [
                f"{relative}:{line}: imports {target}: {rule}"
                for line, target in imports
                if (rule := broken_rule(module, target))
            ]
            found += joined(str(relative), module, imports)
    return found


def broken_rule(module: str, target: str) -> str | None:
    """The rule that `module` breaks by importing `target`, or None."""
    if within(target, *OUTSIDE):
        return "the product imports no tests, benchmarks, tools or examples"
    if within(module, CORE):
        if within(target, *WIRE, SERVICES, MESH):
            return "the core imports no proto, no gRPC, no service and no mesh"
    elif within(module, MESH):
        if within(target, SERVICES) and target != SERVICES and not within(target, KIT, COMPOSITION_ROOT):
            return "the mesh reads contracts and topology and may use the kit, never service code"
    elif within(module, COMPOSITION_ROOT):
        return None
    elif within(target, MESH):
        return "services and the kit know nothing of the mesh"
    elif within(target, SERVICES) and target != SERVICES and not within(target, KIT, own_package(module)):
        return "services import the generated code, the kit and the core, never each other"
    elif module.rpartition(".")[2] == "logic" and within(target, *IMPURE):
        return "logic is pure decisions: no gRPC, no clock, no I/O"
    return None


def joined(file: str, module: str, imports: list[tuple[int, str]]) -> list[str]:
    """Modules that know both contracts and core: kit/convert.py alone may."""
    if not within(module, SERVICES) or within(module, CONVERT, COMPOSITION_ROOT):
        return []
    core = [line for line, target in imports if within(target, CORE)]
    contracts = [target for _, target in imports if within(target, *CONTRACTS)]
    if not core or not contracts:
        return []
    rule = "contracts and core are joined only in python_services/kit/convert.py"
    return [f"{file}:{core[0]}: imports both {CORE} and {contracts[0]}: {rule}"]


def own_package(module: str) -> str:
    """The service that a module belongs to: python_services.<service>."""
    return ".".join(module.split(".")[:2])


def within(name: str, *packages: str) -> bool:
    """Whether a dotted name is one of `packages` or lies inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imported(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a module imports, also inside functions and by import_module."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package.rsplit(".", level - 1)[0] if level else ""
                origin = ".".join(part for part in (base, module) if part)
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in names)
            case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"), args=[first, *_]):
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield node.lineno, first.value


def main() -> int:
    violations = find_violations(Path(__file__).resolve().parent.parent)
    print(*violations, sep="\n", end="\n" if violations else "", file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
