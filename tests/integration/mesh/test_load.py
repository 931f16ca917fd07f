"""The short form of tests/chaos/mesh_load.py: no call fails while the system changes."""

from __future__ import annotations

import pytest

from tests.chaos.mesh_load import load


@pytest.mark.timeout(300)
async def test_no_call_fails_while_replicas_weights_and_certificates_change():
    parts = await load(400)
    assert {part.name: part.failures for part in parts if part.failed} == {}
    assert all(part.calls >= 400 for part in parts)
    assert all(part.changes > 0 for part in parts)
    found = {part.name: set(part.replicas) for part in parts}
    assert found["scale 1-3-1"] == {"worker", "worker-2", "worker-3"}
    assert found["drain"] == {"worker", "worker-2"}
    assert found["weights"] >= {"worker@v2"}
