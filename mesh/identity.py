"""Who is who: a local certificate authority, and an identity for every service and client.

An identity is a SPIFFE id, spiffe://alphamesh.local/<name>, in the URI of an X.509 certificate (SPIFFE X509-SVID,
sections 2 and 4): P-256 keys, one URI and nothing else to be known by, short-lived. The authority belongs to one run:
its key lies in the run directory, readable by its owner, and vouches for nothing outside.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from python_services.kit.client import TRUST_DOMAIN

AUTHORITY_DAYS = 365
# A certificate is valid from a little before now: clocks of two machines differ.
SKEW = timedelta(minutes=5)


def spiffe_id(name: str) -> str:
    """The identity of a service or client."""
    return f"{TRUST_DOMAIN}{name}"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A certificate and its key, PEM."""

    certificate: str
    key: str

    @property
    def expires(self) -> datetime:
        """End of the certificate's validity."""
        return x509.load_pem_x509_certificate(self.certificate.encode()).not_valid_after_utc


class Authority:
    """Signs certificates. Made on first use in `folder`, and read from there afterwards."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key_path, self._certificate_path = folder / "authority.key", folder / "authority.pem"
        if self._key_path.exists() and self._certificate_path.exists():
            key = serialization.load_pem_private_key(self._key_path.read_bytes(), password=None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._key = key
            self._certificate = x509.load_pem_x509_certificate(self._certificate_path.read_bytes())
        else:
            self._make()

    @property
    def path(self) -> Path:
        """Where the certificate lies that others trust."""
        return self._certificate_path

    @property
    def trust(self) -> str:
        """The certificate that others trust, PEM."""
        return _pem(self._certificate)

    def issue(self, name: str, lifetime: timedelta, *, address: str = "") -> Credentials:
        """A new key, and a certificate that its holder is `name`, for `lifetime` from now.

        `address`: an IP address, for servers whose clients look for one instead of a SPIFFE id.
        """
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(spiffe_id(name))]
        if address:
            names.append(_host(address))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(names, usages, lifetime)

    def issue_server(self, names: Sequence[str], lifetime: timedelta) -> Credentials:
        """The same for a server that clients outside the mesh reach by host names or addresses; it proves no identity
        inside."""
        return self._issue([_host(name) for name in names], [ExtendedKeyUsageOID.SERVER_AUTH], lifetime)

    def _issue(
        self, names: list[x509.GeneralName], usages: list[x509.ObjectIdentifier], lifetime: timedelta
    ) -> Credentials:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(x509.Name([]), self._certificate.subject, key.public_key(), lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Credentials(certificate=_pem(certificate), key=_key_pem(key))

    def _make(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "AlphaMesh run authority")])
        self._certificate = (
            _builder(subject, subject, self._key.public_key(), timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(TRUST_DOMAIN)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        write_secret(self._key_path, _key_pem(self._key), durable=True)
        write_secret(self._certificate_path, self.trust, durable=True)


def write_secret(path: Path, text: str, *, durable: bool = False) -> None:
    """Replaces a file that only its owner reads, in one step; with `durable`, a power cut afterwards takes nothing."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")
