"""The `triton:` part of a topology: whether models are served, and which."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from .topology_reader import Reader

NAME = "triton"
BUNDLED = "bundled:"
_ROOT = Path(__file__).resolve().parents[1]
SERVICE = "inference.GRPCInferenceService"
# What changes what is served: with the key only.
ADMINISTRATION = ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload")


@dataclass(frozen=True, kw_only=True)
class Triton:
    """The inference server beside the services, which they call as `triton`.

    `models`: the folder of models that are served from the start: one shipped with AlphaMesh ("bundled:triton_models"),
    or a path, from the topology's folder if it is relative. Not `enabled`: nothing is started, and calls to it are
    UNAVAILABLE. `probe_s`: pause between two rounds of golden rows, each awaited `probe_timeout_s`. Who lets
    `probe_failures` of them in a row pass is loaded, or started, again.
    """

    enabled: bool = True
    sensitivity: str = "confidential"
    models: str = f"{BUNDLED}triton_models"
    probe_s: float = 2.0
    probe_timeout_s: float = 5.0
    probe_failures: int = 3


def read(reader: Reader, node: yaml.Node | None, sensitivity: str) -> Triton | None:
    """None without the part. Raises TopologyError."""
    if node is None:
        return None
    body = reader.mapping(node, NAME, None)
    triton: Triton = reader.record(Triton, node, NAME)
    for key in ("probe_s", "probe_timeout_s", "probe_failures"):
        if getattr(triton, key) <= 0:
            raise reader.error(body[key], f"{NAME}.{key} must be more than 0", "leave it out for the default")
    folder = Path(node.start_mark.name).parent
    shipped = triton.models.startswith(BUNDLED)
    models = _ROOT / triton.models.removeprefix(BUNDLED) if shipped else (folder / triton.models).resolve()
    if triton.enabled and not models.is_dir():
        where = body.get("models", node)
        raise reader.error(where, f"{NAME}.models: there is no folder {models}", "name the folder of the models")
    return dataclasses.replace(triton, models=str(models), sensitivity=sensitivity)


def administers(methods: tuple[str, ...]) -> bool:
    """Whether one of these methods needs the key."""
    return any(method in (f"{SERVICE}/*", *(f"{SERVICE}/{name}" for name in ADMINISTRATION)) for method in methods)
