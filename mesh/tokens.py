"""Bearer tokens for the edge: JSON Web Tokens (RFC 7519) signed with ES256 by a key of the run's own.

A token says who its bearer is (`sub`) and which role of the topology it plays (`role`), and it always ends. The edge
checks it with the public key alone; the private one stays in the run directory, readable by its owner.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from .errors import MeshError
from .identity import write_secret

ISSUER = "alphamesh"
AUDIENCE = "alphamesh-edge"
ALGORITHM = "ES256"
# It travels in a header and stands in logs.
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


class TokenError(MeshError):
    """A token that cannot be given."""


class Tokens:
    """Signs tokens. The key is made on first use in `folder`, and read from there afterwards."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "tokens.key"
        if path.exists():
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._key = key
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            private = self._key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_secret(path, private.decode("ascii"), durable=True)

    @classmethod
    def of_run(cls, run: Path) -> Tokens:
        """The tokens of the run directory `run`."""
        return cls(run / "mesh" / "tokens")

    @property
    def jwks(self) -> str:
        """The public key as a JSON Web Key Set (RFC 7517)."""
        key = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return orjson.dumps({"keys": [{**key, "kid": self._key_id, "alg": ALGORITHM, "use": "sig"}]}).decode()

    def issue(self, subject: str, role: str, lifetime: timedelta) -> str:
        """A token for `lifetime` from now. Raises TokenError."""
        if not _SUBJECT.fullmatch(subject):
            raise TokenError(f"--subject {subject!r}: use 1 to 64 letters, digits and . _ @ + -, for example alice")
        if lifetime <= timedelta():
            raise TokenError("--hours must be more than 0")
        now = datetime.now(UTC)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "role": role,
            "iat": now,
            "exp": now + lifetime,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self._key_id})

    @property
    def _key_id(self) -> str:
        numbers = self._key.public_key().public_numbers()
        return f"{numbers.x:064x}"[:16]
