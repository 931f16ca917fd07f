"""What an artifact really is, by its content: what can run code when it is loaded is refused, whatever its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest

from alphamesh.model.v1 import model_pb2

from . import onnx_graph

Format = model_pb2.Artifact.Format
_CODE = (
    (b"PK\x03\x04", "a zip archive, as torch and NumPy write them, with pickles inside"),
    (b"\x1f\x8b", "a gzip stream, as joblib writes around a pickle"),
    (b"BZh", "a bzip2 stream, as joblib writes around a pickle"),
    (b"\xfd7zXZ", "an xz stream, as joblib writes around a pickle"),
    (b"\x89HDF", "an HDF5 file, which Keras fills with code"),
    (b"\x7fELF", "a program"),
    (b"#!", "a script"),
)
_ARROW = b"ARROW1"
_HEADER_BYTES = 100_000_000


class FormatError(ValueError):
    """The content is not of the stated format, or of one that is refused."""


def check(content: bytes, stated: int, signature: model_pb2.Signature) -> None:
    """Raises FormatError unless `content` is of the `stated` format and does what `signature` says."""
    found = detect(content)
    if found != stated:
        names = [Format.Name(Format.ValueType(kind)).removeprefix("FORMAT_") for kind in (found, stated)]
        raise FormatError(f"the content is {names[0]}, not {names[1]}")
    if found == model_pb2.Artifact.FORMAT_ONNX:
        try:
            graph = onnx_graph.read(content)
        except onnx_graph.GraphError as error:
            raise FormatError(str(error)) from error
        _compare("input", graph.inputs, signature.inputs)
        _compare("output", graph.outputs, signature.outputs)


def detect(content: bytes) -> int:
    """The format. Raises FormatError for one that is refused or not known."""
    for magic, what in _CODE:
        if content.startswith(magic):
            raise FormatError(f"the content is {what}; export the model as ONNX")
    if _pickled(content):
        raise FormatError("the content is a pickle, which runs code when it is loaded; export the model as ONNX")
    if content.startswith(_ARROW) and content.endswith(_ARROW):
        return model_pb2.Artifact.FORMAT_ARROW_COEFFICIENTS
    if _safetensors(content):
        return model_pb2.Artifact.FORMAT_SAFETENSORS
    if content[:1] == b"\x08":  # ir_version, the first field that every writer writes
        return model_pb2.Artifact.FORMAT_ONNX
    raise FormatError("the content is none of ONNX, safetensors and Arrow; export the model as ONNX")


def _pickled(content: bytes) -> bool:
    """Protocols 2 to 5 begin with PROTO, 0 and 1 end with STOP; joblib puts zlib around them."""
    if content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if content[:2] in (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
        return True
    return content[:1] in (b"(", b"c", b"]", b"}") and content.rstrip(b"\n").endswith(b".")


def _safetensors(content: bytes) -> bool:
    """Eight bytes of length, little endian, then a JSON header of that length (safetensors, format)."""
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(_HEADER_BYTES, len(content) - 8) or content[8:9] != b"{":
        return False
    try:
        return isinstance(json.loads(content[8 : 8 + length]), dict)
    except ValueError:
        return False


def _compare(kind: str, found: Sequence[model_pb2.TensorSpec], stated: Sequence[model_pb2.TensorSpec]) -> None:
    for one, other in zip_longest(found, stated):
        if one is None or other is None or one.name != other.name:
            names = ", ".join(spec.name for spec in found)
            raise FormatError(f"the model's {kind}s are {names}; the signature says otherwise")
        if one.data_type != other.data_type or not _fits(one.shape, other.shape):
            raise FormatError(
                f"{kind} {one.name!r} of the model is {describe(one)}, of the signature {describe(other)}"
            )


def _fits(found: Sequence[int], stated: Sequence[int]) -> bool:
    """The same number of dimensions, and none that contradicts; a length that the file leaves open fits any."""
    return len(found) == len(stated) and all(
        -1 in (length, wanted) or length == wanted for length, wanted in zip(found, stated, strict=True)
    )


def describe(spec: model_pb2.TensorSpec) -> str:
    """ "FP32 [-1, 3]"."""
    return f"{model_pb2.TensorSpec.DataType.Name(spec.data_type).removeprefix('DATA_TYPE_')} {list(spec.shape)}"
