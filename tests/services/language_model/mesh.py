"""The shipped topology with the one entry that turns the analyst on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesh import topology

_BEFORE = "  feature_store:\n    sensitivity: public\n"
MODELS = frozenset({"feature_store", "learned_agent", "model_registry", "training"})


def with_analyst(folder: Path, config: Mapping[str, Any], *, only: frozenset[str] = frozenset()) -> topology.Topology:
    """Without what has to do with Triton's models; with `only` these services."""
    text = topology.DEFAULT_PATH.read_text(encoding="utf-8")
    entry = f"  llm_agent:\n    agent: true\n    sensitivity: public\n    config: {json.dumps(dict(config))}\n"
    assert text.count(_BEFORE) == 1
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "topology.yaml"
    file.write_text(text.replace(_BEFORE, entry + _BEFORE), encoding="utf-8")
    whole = topology.load(file).without_triton()
    agents = [name for name in whole.service("coordinator").config["agents"] if name not in MODELS]
    whole = whole.with_config("coordinator", {"agents": agents})
    return dataclasses.replace(
        whole,
        services=tuple(s for s in whole.services if s.name not in MODELS and (not only or s.name in only)),
    )
