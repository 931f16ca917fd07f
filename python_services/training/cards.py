"""Model cards: what a version is, what it was made from, how good it is and what it must not be used for.

`card.json` is for programs, `card.md` says the same to people. Sections follow Mitchell et al. 2019, "Model Cards for
Model Reporting".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson


@dataclass(kw_only=True)
class Card:
    """Everything a reader or a validator of a model version asks for. Numbers that were not computed are absent.

    data              names and hashes of what was read: at least {"source", "sha256", "rows"}
    metrics           out of sample, by name; the numbers that a test recomputes
    baseline          the same figures of the naive answer, by name
    evaluation        how the metrics were made: {"method", ...}
    inputs, outputs   {"name", "datatype", "shape"}; shape with -1 for rows
    onnx_difference   largest difference between the training library and the ONNX file on held-out rows
    trained_until_ns  newest moment whose data was used, labels included, Unix nanoseconds UTC; 0 for undated text
    """

    model_id: str
    title: str
    purpose: str
    engine: str
    engine_version: str
    seed: int
    data: Mapping[str, Any]
    label: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    limits: Sequence[str]
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]
    trained_until_ns: int
    onnx_difference: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    feature_set_version: str = ""
    features: Sequence[str] = ()
    licence: str = "Apache-2.0"
    libraries: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # name -> sha256, beside model.onnx
    onnx_sha256: str = ""
    golden_sha256: str = ""
    code_version: str = ""

    def to_json(self) -> bytes:
        """Sorted, indented, with a final newline: equal cards have equal bytes."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(asdict(self), option=options)

    @classmethod
    def from_json(cls, content: bytes) -> Card:
        """Raises TypeError for a key that is not known, or one that is missing."""
        return cls(**orjson.loads(content))

    def to_markdown(self) -> str:
        """The same for people."""
        until = (
            datetime.fromtimestamp(self.trained_until_ns // 10**9, UTC).isoformat() if self.trained_until_ns else "–"
        )
        parts = [
            f"# {self.model_id}",
            f"{self.title}. {self.purpose}",
            _table(
                ("", ""),
                [
                    ("engine", f"{self.engine} {self.engine_version}"),
                    ("seed", str(self.seed)),
                    ("trained on data until", until),
                    ("feature set", f"`{self.feature_set_version}`" if self.feature_set_version else "–"),
                    ("code", f"`{self.code_version}`"),
                    ("sha256 of model.onnx", f"`{self.onnx_sha256}`"),
                    ("ONNX against the library", f"{self.onnx_difference:.2g}"),
                    ("licence", self.licence),
                ],
            ),
            "## Inputs and outputs",
            _table(
                ("", "name", "type", "shape"),
                [
                    (kind, f"`{each['name']}`", each["datatype"], str(list(each["shape"])))
                    for kind, tensors in (("input", self.inputs), ("output", self.outputs))
                    for each in tensors
                ],
            ),
            "## Data",
            _listed(self.data),
            "## Label",
            _listed(self.label),
            "## Evaluation",
            _listed(self.evaluation),
            _table(
                ("metric", "model", "naive"),
                [
                    (name, f"{value:.5g}", f"{self.baseline[name]:.5g}" if name in self.baseline else "–")
                    for name, value in self.metrics.items()
                ],
            ),
            "## Limits",
            "\n".join(f"- {limit}" for limit in self.limits),
        ]
        if self.features:
            parts += ["## Features", ", ".join(f"`{name}`" for name in self.features)]
        if self.parameters:
            parts += ["## Parameters", _listed(self.parameters)]
        return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _listed(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    if isinstance(value, str) and len(value) == 64 and " " not in value:
        return f"`{value}`"
    return ", ".join(map(_shown, value)) if isinstance(value, list | tuple) else str(value)
