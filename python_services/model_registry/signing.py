"""Signatures of artifacts: Ed25519 (RFC 8032) over canonical JSON, by a key that the registry makes once per run.

The manifest binds model and version to the bytes, the card and the golden rows: nothing of them can be exchanged, and
no version can pass for another. `model.sig` beside a served model holds manifest, signature and key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from python_services.kit.config import ConfigError


class SignatureError(ValueError):
    """A signature that does not fit; the message says what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is signed. Hashes are hex sha256; "" where there is no such file."""

    model_id: str
    version: int
    sha256: str
    card_sha256: str
    golden_sha256: str

    def text(self) -> str:
        """Canonical: keys sorted, no blanks."""
        return orjson.dumps(self.__dict__, option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Raises SignatureError."""
        try:
            read = cls(**orjson.loads(text))
        except (orjson.JSONDecodeError, TypeError) as error:
            raise SignatureError("the manifest cannot be read") from error
        if read.text() != text:
            raise SignatureError("the manifest is not canonical JSON")
        return read


def key_id(public: Ed25519PublicKey) -> str:
    """Hex sha256 of the raw public key."""
    return hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


class Signer:
    """The registry's key, and the keys that it trusts."""

    def __init__(self, folder: Path, publishers: Iterable[str] = ()) -> None:
        """Makes the key in `folder` when there is none, readable by its owner only. Raises ConfigError."""
        self._private = _load(folder / "signing.key")
        public = self._private.public_key()
        self.key_id = key_id(public)
        self._trusted = {self.key_id: public}
        for text in publishers:
            publisher = Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
            self._trusted[key_id(publisher)] = publisher

    def sign(self, manifest: Manifest) -> bytes:
        """64 bytes."""
        return self._private.sign(manifest.text().encode())

    def verify(self, text: str, signature: bytes, key: str) -> Manifest:
        """The manifest, when a trusted key signed it. Raises SignatureError."""
        public = self._trusted.get(key)
        if public is None:
            raise SignatureError(f"the key {key[:16]} is not trusted; add it to `publishers`, or sign with one that is")
        try:
            public.verify(signature, text.encode())
        except InvalidSignature:
            raise SignatureError("the signature does not fit the manifest") from None
        return Manifest.parse(text)


def to_file(manifest: str, signature: bytes, key: str) -> bytes:
    """Content of `model.sig`."""
    return orjson.dumps(
        {"key_id": key, "manifest": manifest, "signature": signature.hex()}, option=orjson.OPT_SORT_KEYS
    )


def from_file(content: bytes) -> tuple[str, bytes, str]:
    """(manifest, signature, key). Raises SignatureError."""
    try:
        read: dict[str, Any] = orjson.loads(content)
        return str(read["manifest"]), bytes.fromhex(read["signature"]), str(read["key_id"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise SignatureError("model.sig cannot be read; it is JSON with key_id, manifest and signature") from error


def _load(path: Path) -> Ed25519PrivateKey:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        made = Ed25519PrivateKey.generate()
        content = made.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()).hex().encode()
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others; `chmod 600` it, or remove it and register the models again")
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except ValueError as error:
        raise ConfigError(f"{path} is no key; restore it, or remove it and register the models again") from error
