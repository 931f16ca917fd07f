"""The registry's own files, named after their content, and how an artifact gets in: read once, checked, kept.

What is shipped with AlphaMesh stays where it is and is only remembered by its hash: a run makes no copy of it. Whoever
reads a file gets bytes that have the hash asked for, or an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import grpc
import orjson

from alphamesh.model.v1 import model_pb2
from python_services.kit.errors import ServiceError, invalid, not_found, precondition
from python_services.kit.files import replace_file
from python_services.kit.ids import content_id

from . import cards, formats, onnx_graph, signing
from .signing import Manifest, SignatureError, Signer

MODEL, CARD, READING, GOLDEN, SIGNATURE = "model.onnx", "card.json", "card.md", "golden.json", "model.sig"
LARGEST_BYTES = 2 << 30
_OWN = frozenset({MODEL, CARD, READING, GOLDEN, SIGNATURE})
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


class DamagedError(RuntimeError):
    """A file that is gone, or does not have its hash any more."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """An artifact that was checked. Hashes are "" where there is no such file."""

    sha256: str
    card_sha256: str = ""
    golden_sha256: str = ""


class Store:
    """Files by hex sha256, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Path] = {}

    def remember(self, path: Path) -> bytes:
        """A file that stays where it is. Raises OSError."""
        content = path.read_bytes()
        self._known[content_id(content)] = path
        return content

    def add(self, content: bytes) -> str:
        """Keeps `content`; its hash."""
        sha256 = content_id(content)
        path = self._folder / sha256[:2] / sha256
        if sha256 not in self._known and not path.exists():
            replace_file(path, content)
            path.chmod(0o400)
        return sha256

    def read(self, sha256: str) -> bytes:
        """The content with that hash. Raises DamagedError."""
        path = self._known.get(sha256, self._folder / sha256[:2] / sha256)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DamagedError(f"the file with the hash {sha256[:16]} cannot be read: {error.strerror}") from error
        if content_id(content) != sha256:
            raise DamagedError(f"the file with the hash {sha256[:16]} has another one now: its content was changed")
        return content


class Intake:
    """Checks of what is to be registered. All of it is file work: call it in a thread."""

    def __init__(self, store: Store, inbox: Path, signer: Signer) -> None:
        self._store = store
        self._inbox = inbox
        self._signer = signer

    def take(self, request: model_pb2.RegisterModelVersionRequest, version: int, *, keep: bool) -> Taken:
        """Checks the artifact and what lies beside it, and keeps them with `keep`. Raises ServiceError.

        What the request leaves to the card is filled in.
        """
        path = self._inside(request.artifact.path)
        content = _read(path)
        beside = {name: _optional(path.with_name(name)) for name in (CARD, READING, GOLDEN, SIGNATURE)}
        check(content, request, beside[CARD])
        taken = Taken(
            sha256=request.artifact.sha256,
            card_sha256=content_id(beside[CARD]) if beside[CARD] else "",
            golden_sha256=content_id(beside[GOLDEN]) if beside[GOLDEN] else "",
        )
        further = [_further(path.with_name(name), sha256) for name, sha256 in companions(beside[CARD]).items()]
        if beside[SIGNATURE]:
            self._check_signature(request, version, taken, beside[SIGNATURE])
        if keep:
            for kept in (content, beside[CARD], beside[READING], beside[GOLDEN], *further):
                if kept:
                    self._store.add(kept)
        return taken

    def _inside(self, text: str) -> Path:
        inbox = self._inbox.resolve()
        path = (inbox / text).resolve()
        if not path.is_relative_to(inbox):
            raise invalid("artifact.path", "leads out of the inbox", "put the file itself there, not a link to it")
        return path

    def _check_signature(
        self, request: model_pb2.RegisterModelVersionRequest, version: int, taken: Taken, content: bytes
    ) -> None:
        """A publisher signs its own bytes before the registry gives the number, so 0 stands for any."""
        try:
            manifest = self._signer.verify(*signing.from_file(content))
            if manifest.version not in (0, version):
                raise SignatureError(f"model.sig is for version {manifest.version}, and this would be {version}")
            if manifest != manifest_of(request.model_id, manifest.version, taken):
                raise SignatureError("model.sig is for other content, or for another model")
        except SignatureError as error:
            raise refused("BAD_SIGNATURE", str(error)) from error


def check(content: bytes, request: model_pb2.RegisterModelVersionRequest, card: bytes) -> None:
    """Size, hash, format and signature of the content; fills in what the request leaves to the card.

    Raises ServiceError.
    """
    artifact = request.artifact
    if len(content) != artifact.size_bytes:
        raise precondition(
            "SIZE_MISMATCH",
            f"artifact.size_bytes is {artifact.size_bytes} and the file has {len(content)}; write it again",
        )
    if content_id(content) != artifact.sha256:
        raise precondition(
            "CHECKSUM_MISMATCH",
            f"artifact.sha256 is {artifact.sha256[:16]}... and the file has {content_id(content)[:16]}...; "
            "it was damaged on the way: write it again",
        )
    try:
        formats.detect(content)
        cards.complete(request, content, orjson.loads(card) if card else {})
        formats.check(content, artifact.format, request.signature)
    except orjson.JSONDecodeError as error:
        raise _bad_card(error) from error
    except (formats.FormatError, onnx_graph.GraphError) as error:
        raise invalid("artifact.format", str(error), "nothing was registered") from error


def companions(card: bytes) -> dict[str, str]:
    """Hashes of further files of a version, by name, as its card lists them under `files`. Raises ServiceError.

    The card is signed, so its hashes hold them too.
    """
    try:
        listed = orjson.loads(card).get("files", {}) if card else {}
        found = {str(name): str(sha256) for name, sha256 in listed.items()}
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise _bad_card(error) from error
    for name, sha256 in found.items():
        if not _NAME.fullmatch(name) or name in _OWN or not _HASH.fullmatch(sha256):
            raise precondition("BAD_CARD", f"card.json lists the file {name!r}; use a plain name and its sha256")
    return found


def _bad_card(error: Exception) -> ServiceError:
    return precondition("BAD_CARD", f"card.json cannot be read: {error}; write it again")


def manifest_of(model_id: str, version: int, taken: Taken) -> Manifest:
    """What is signed."""
    return Manifest(
        model_id=model_id,
        version=version,
        sha256=taken.sha256,
        card_sha256=taken.card_sha256,
        golden_sha256=taken.golden_sha256,
    )


def refused(reason: str, message: str) -> ServiceError:
    """PERMISSION_DENIED: somebody whom nobody trusts."""
    return ServiceError(grpc.StatusCode.PERMISSION_DENIED, reason, message)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise invalid("artifact.path", "the file is larger than 2 GiB", "save the model smaller")
        return path.read_bytes()
    except OSError as error:
        raise not_found("artifact", path.name, f"it cannot be read in the inbox ({error.strerror})") from error


def _further(path: Path, sha256: str) -> bytes:
    content = _read(path)
    if content_id(content) != sha256:
        raise precondition("CHECKSUM_MISMATCH", f"{path.name} does not have the hash that card.json states")
    return content


def _optional(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
