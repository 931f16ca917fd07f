"""Labelled texts as token ids, split by their hashes; and models of ids run in batches."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encoder import IDS, MASK
from .encoder_head import CLASSES
from .errors import TrainingError

Ints = NDArray[np.int64]
SHARES = (0.70, 0.85)
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Distinct texts: ids (ends included), label, row hash (of the ids, so it tells nothing of the text), part 0..2."""

    ids: list[Ints]
    label: Ints
    row_hash: list[str]
    part: Ints
    read: int
    contradictory: int


def read_texts(path: Path, tokenizer: Any) -> Texts:
    """Reads columns text, label; drops repeats (same ids) and texts with two labels. Raises TrainingError."""
    if not path.is_file():
        raise TrainingError("DATA_MISSING", f"{path} is not a file; give --data, a .csv.gz with columns text and label")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        labels = [int(row["label"]) for row in rows]
        encoded = tokenizer.encode_batch([row["text"] for row in rows])
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError("DATA_INVALID", f"{path}: {error}; columns are text and label (0, 1 or 2)") from None
    found: dict[str, tuple[Ints, set[int]]] = {}
    for each, label in zip(encoded, labels, strict=True):
        ids = np.array(each.ids, np.int64)
        found.setdefault(hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(), (ids, set()))[1].add(label)
    kept = {key: (ids, next(iter(said))) for key, (ids, said) in found.items() if len(said) == 1}
    names = sorted(kept)
    label_of = np.array([kept[name][1] for name in names], np.int64)
    part = np.zeros(len(names), np.int64)
    for kind in range(len(CLASSES)):
        members = np.flatnonzero(label_of == kind)  # in the order of their hashes, which is as good as random
        for share in SHARES:
            part[members[round(share * len(members)) :]] += 1
    return Texts(
        ids=[kept[name][0] for name in names],
        label=label_of,
        row_hash=names,
        part=part,
        read=len(rows),
        contradictory=len(found) - len(kept),
    )


def batches(ids: list[Ints], size: int = BATCH) -> Iterator[tuple[Ints, dict[str, Ints]]]:
    """Row numbers and padded inputs, texts of like length together."""
    order = np.argsort([len(each) for each in ids], kind="stable")
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield rows, pad([ids[row] for row in rows])


def pad(ids: list[Ints]) -> dict[str, Ints]:
    """Inputs of the model for some texts: padded to the longest of them."""
    width = max(len(each) for each in ids)
    padded, mask = np.zeros((len(ids), width), np.int64), np.zeros((len(ids), width), np.int64)
    for row, each in enumerate(ids):
        padded[row, : len(each)], mask[row, : len(each)] = each, 1
    return {IDS: padded, MASK: mask}


def session(content: bytes) -> Any:
    """ONNX Runtime in one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(content: bytes, ids: list[Ints], output: str) -> NDArray[np.float32]:
    """One output of a model for every text, in order."""
    model, found = session(content), None
    for rows, inputs in batches(ids):
        values = model.run([output], inputs)[0]
        if found is None:
            found = np.zeros((len(ids), values.shape[1]), np.float32)
        found[rows] = values
    assert found is not None
    return found
