"""topology.yaml: services, who may call what, and limits. Read once, checked completely, then immutable.

Every mistake is refused with file and line: unknown keys, names that do not exist, methods that no
contract has, services that wait for each other in a circle.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from .topology_model import (
    SENSITIVITIES,
    STABLE,
    Call,
    Client,
    EventLog,
    Journals,
    Limits,
    Mesh,
    Service,
    Stream,
    Supervision,
    Topology,
    TopologyError,
    Tracing,
    Version,
)
from .topology_reader import LONGEST_NAME, LONGEST_VERSION, MOST_REPLICAS, RESERVED, ROOT, Reader, place

__all__ = [
    "DEFAULT_PATH",
    "LONGEST_NAME",
    "LONGEST_VERSION",
    "MOST_REPLICAS",
    "RESERVED",
    "ROOT",
    "SENSITIVITIES",
    "STABLE",
    "Call",
    "Client",
    "EventLog",
    "Journals",
    "Limits",
    "Mesh",
    "Service",
    "Stream",
    "Supervision",
    "Topology",
    "TopologyError",
    "Tracing",
    "Version",
    "load",
]
DEFAULT_PATH = Path(__file__).with_name("topology.yaml")
EXTENDS, DEFAULT = "extends", "default"
# What a topology adds to, name by name; it replaces everything else that it has.
_ADDED_TO = ("services", "clients")


def load(path: Path = DEFAULT_PATH) -> Topology:
    """Reads and checks a topology. Raises TopologyError."""
    return Reader(path.absolute()).topology(_whole(path.absolute(), ()))


def _whole(path: Path, extending: tuple[Path, ...]) -> yaml.Node:
    """The file, with what it extends below it."""
    node = _compose(path)
    if not isinstance(node, yaml.MappingNode):
        return node
    base = next((value for key, value in node.value if key.value == EXTENDS), None)
    if base is None:
        return node
    wanted = DEFAULT_PATH if base.value == DEFAULT else path.parent / str(base.value)
    if wanted in (*extending, path):
        raise TopologyError(f"{place(base)}: topologies extend each other in a circle; remove one `{EXTENDS}`")
    below = _whole(wanted, (*extending, path))
    own = [(key, value) for key, value in node.value if key.value != EXTENDS]
    node.value = _over(own, below.value if isinstance(below, yaml.MappingNode) else [], _ADDED_TO)
    return node


def _over(
    own: list[tuple[yaml.Node, yaml.Node]], below: list[tuple[yaml.Node, yaml.Node]], added_to: tuple[str, ...]
) -> list[tuple[yaml.Node, yaml.Node]]:
    names = {key.value: value for key, value in own}
    merged = [(key, value) for key, value in below if key.value not in names]
    under = {key.value: value for key, value in below}
    for key, value in own:
        both = value, under.get(key.value)
        if key.value in added_to and all(isinstance(each, yaml.MappingNode) for each in both):
            value.value = _over(value.value, under[key.value].value, ())
        merged.append((key, value))
    return merged


def _compose(path: Path) -> yaml.Node:
    try:
        with path.open(encoding="utf-8") as file:
            node = yaml.compose(file, Loader=yaml.CSafeLoader)
    except OSError as error:
        raise TopologyError(f"{path}: cannot be read: {error.strerror}; give the path of a topology") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TopologyError(f"{path}:{line}: not YAML: {error.problem}; correct the syntax") from error
    if node is None:
        raise TopologyError(f"{path}:1: empty; list at least one service")
    return node
