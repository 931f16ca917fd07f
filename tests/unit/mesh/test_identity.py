"""The authority of a run: who is certified, for how long, and what nobody else can read."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mesh.identity import Authority, spiffe_id

HOUR = timedelta(hours=1)


def test_a_certificate_says_who_its_holder_is_and_nothing_else(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    issued = authority.issue("execution", HOUR)
    certificate = x509.load_pem_x509_certificate(issued.certificate.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://alphamesh.local/execution"]
    assert spiffe_id("execution") == "spiffe://alphamesh.local/execution"
    assert len(list(names)) == 1
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    now = datetime.now(UTC)
    assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc <= now + HOUR
    assert issued.expires == certificate.not_valid_after_utc
    key = load_pem_private_key(issued.key.encode(), password=None)
    assert key.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.trust.encode()))


def test_the_authority_of_a_run_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    first, again = Authority(tmp_path / "authority"), Authority(tmp_path / "authority")
    assert first.trust == again.trust
    certificate = x509.load_pem_x509_certificate(again.issue("risk", HOUR).certificate.encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(first.trust.encode()))
    for path in (tmp_path / "authority").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "authority").stat().st_mode) == 0o700


def test_another_authority_vouches_for_nobody_here(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    certificate = x509.load_pem_x509_certificate(theirs.issue("execution", HOUR).certificate.encode())
    with pytest.raises((ValueError, InvalidSignature)):
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ours.trust.encode()))
