"""Signatures: whose count, what they cover, and a key that others can read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from python_services.kit.config import ConfigError
from python_services.model_registry import signing
from python_services.model_registry.signing import Manifest, SignatureError, Signer

MANIFEST = Manifest(model_id="m", version=1, sha256="a" * 64, card_sha256="b" * 64, golden_sha256="")


def test_a_key_is_made_once_for_its_owner_and_verifies_what_it_signed(tmp_path: Path) -> None:
    first = Signer(tmp_path)
    again = Signer(tmp_path)
    assert (first.key_id, (tmp_path / "signing.key").stat().st_mode & 0o777) == (again.key_id, 0o600)
    assert again.verify(MANIFEST.text(), first.sign(MANIFEST), first.key_id) == MANIFEST
    assert signing.from_file(signing.to_file(MANIFEST.text(), first.sign(MANIFEST), first.key_id)) == (
        MANIFEST.text(), first.sign(MANIFEST), first.key_id,
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"model_id": "n"}, {"version": 2}, {"sha256": "c" * 64}, {"card_sha256": ""}, {"golden_sha256": "d" * 64}],
)
def test_nothing_of_it_can_be_exchanged(tmp_path: Path, change: dict[str, object]) -> None:
    signer = Signer(tmp_path)
    other = replace(MANIFEST, **change)  # type: ignore[arg-type]
    with pytest.raises(SignatureError, match="does not fit"):
        signer.verify(other.text(), signer.sign(MANIFEST), signer.key_id)


def test_a_strangers_key_does_not_count_and_canonical_form_is_asked_for(tmp_path: Path) -> None:
    signer, stranger = Signer(tmp_path / "own"), Signer(tmp_path / "other")
    with pytest.raises(SignatureError, match="not trusted"):
        signer.verify(MANIFEST.text(), stranger.sign(MANIFEST), stranger.key_id)
    with pytest.raises(SignatureError, match="canonical"):
        Manifest.parse(MANIFEST.text().replace(":", ": "))
    with pytest.raises(SignatureError, match=r"model\.sig"):
        signing.from_file(b"not JSON")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    Signer(tmp_path)
    (tmp_path / "signing.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Signer(tmp_path)
