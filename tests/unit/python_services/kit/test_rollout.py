"""Who answers: the same key the same version, and the share that was asked for."""

from __future__ import annotations

from alphamesh.model.v1 import model_pb2
from python_services.kit.rollout import asked, choose, slot

KEYS = [f"account-{i % 50}|INSTRUMENT-{i % 20}|{i}" for i in range(20_000)]


def rollout(basis_points: int, model: str = "direction", canary: int = 2) -> model_pb2.Rollout:
    return model_pb2.Rollout(
        model_id=model,
        champion_version=1,
        canary_version=canary,
        shadow_versions=[3],
        config=model_pb2.RolloutConfig(canary_basis_points=basis_points),
    )


def test_the_canary_gets_its_share_and_keeps_its_keys_when_it_grows() -> None:
    held: set[str] = set()
    for basis_points in (500, 2_500, 5_000):
        found = {key for key in KEYS if choose(rollout(basis_points), key) == 2}
        assert abs(len(found) / len(KEYS) - basis_points / 10_000) < 0.01
        assert held < found
        held = found


def test_the_same_key_always_meets_the_same_version_and_models_choose_apart() -> None:
    assert [choose(rollout(2_500), key) for key in KEYS[:500]] == [choose(rollout(2_500), key) for key in KEYS[:500]]
    assert slot("direction", "demo|AAPL|2009-07-01") == 4911  # a change would move running canaries
    both = [(slot("direction", key) < 2_500, slot("sentiment", key) < 2_500) for key in KEYS]
    assert abs(sum(one and other for one, other in both) / len(KEYS) - 0.0625) < 0.01


def test_without_a_canary_the_champion_answers_and_everybody_there_is_asked() -> None:
    assert {choose(rollout(5_000, canary=0), key) for key in KEYS[:100]} == {1}
    assert asked(rollout(500)) == (1, 2, 3)
    assert choose(model_pb2.Rollout(), "key") == 0
    assert asked(model_pb2.Rollout()) == ()
