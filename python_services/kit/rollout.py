"""Who answers a question: champion or canary, by the hash of a key that stays, and who is asked beside them.

Triton splits no traffic, and a random choice per request would show one account two models on one day. So a key such
as ``f"{account or decision}|{instrument}|{day}"`` is hashed together with the model's name: the same key always meets
the same version while the shares stay, and a larger share only adds keys to the canary's.
"""

from __future__ import annotations

import hashlib

from alphamesh.model.v1 import model_pb2

WHOLE = 10_000  # basis points


def key_sha256(key: str) -> str:
    """Hex sha256 of a key: what `Observation.key_sha256` holds."""
    return hashlib.sha256(key.encode()).hexdigest()


def slot(model_id: str, key: str) -> int:
    """Where the key falls among 10,000 equal slots. Models share keys, not slots: each has its own canary's keys."""
    return int.from_bytes(hashlib.sha256(f"{model_id}|{key}".encode()).digest()[:8], "big") % WHOLE


def choose(rollout: model_pb2.Rollout, key: str) -> int:
    """The version whose answer counts for `key`; 0 while the model has no champion."""
    canary = rollout.canary_version
    if canary and slot(rollout.model_id, key) < rollout.config.canary_basis_points:
        return canary
    return rollout.champion_version


def asked(rollout: model_pb2.Rollout) -> tuple[int, ...]:
    """Every version that is asked each question, champion first.

    Versions are compared on the same questions, so a canary is asked beside the champion and the champion beside the
    canary; `choose` says whose answer is used.
    """
    found = (rollout.champion_version, rollout.canary_version, *rollout.shadow_versions)
    return tuple(version for version in found if version)
