"""Every move from every stage: those of the contract are made, all others refused."""

from __future__ import annotations

from itertools import product

import pytest

from python_services.model_registry import lifecycle
from python_services.model_registry.lifecycle import (
    CANARY,
    CHAMPION,
    REGISTERED,
    RETIRED,
    ROLLED_BACK,
    SHADOW,
    STAGES,
    VALIDATED,
    LifecycleError,
    Move,
    Places,
)

ALLOWED = {
    (REGISTERED, VALIDATED),
    (VALIDATED, SHADOW),
    (SHADOW, CANARY),
    (CANARY, CHAMPION),
    (CHAMPION, RETIRED),
    (SHADOW, RETIRED),
    (CANARY, RETIRED),
    (RETIRED, CHAMPION),  # restored
    *((stage, ROLLED_BACK) for stage in STAGES if stage != ROLLED_BACK),
}


def one(stage: int, version: int = 1, **others: int) -> Places:
    """A model with one version in `stage`, which holds the place that goes with it."""
    return Places(
        stages={version: stage, **{int(name[1:]): value for name, value in others.items()}},
        champion=version if stage == CHAMPION else 0,
        canary=version if stage == CANARY else 0,
        shadows=(version,) if stage == SHADOW else (),
    )


@pytest.mark.parametrize(("source", "target"), list(product(STAGES, STAGES)))
def test_every_pair_of_stages_is_allowed_or_refused(source: int, target: int) -> None:
    move = Move(version=1, source=source, target=target)
    if (source, target) in ALLOWED:
        assert lifecycle.after(one(source), [move]).stages[1] == target
    else:
        with pytest.raises(LifecycleError) as raised:
            lifecycle.after(one(source), [move])
        assert raised.value.reason == "NOT_ALLOWED"


@pytest.mark.parametrize(("stage", "target"), list(product(STAGES, (SHADOW, CANARY, CHAMPION))))
def test_a_promotion_is_one_step_and_never_out_of_a_dead_end(stage: int, target: int) -> None:
    steps = {VALIDATED: SHADOW, SHADOW: CANARY, CANARY: CHAMPION}
    if steps.get(stage) == target:
        assert lifecycle.after(one(stage), lifecycle.promote(one(stage), 1, target)).stages[1] == target
    else:
        with pytest.raises(LifecycleError) as raised:
            lifecycle.promote(one(stage), 1, target)
        assert raised.value.reason == "NOT_NEXT_STAGE"


@pytest.mark.parametrize("stage", STAGES)
def test_each_operation_says_what_it_cannot_do(stage: int) -> None:
    places = one(stage)
    for operation, good in (
        (lambda: lifecycle.validate(places, 1), stage == REGISTERED),
        (lambda: lifecycle.retire(places, 1), stage in (SHADOW, CANARY)),
        (lambda: lifecycle.take_out(places, 1), stage not in (ROLLED_BACK, CHAMPION)),
    ):
        if good:
            lifecycle.after(places, operation())
        else:
            with pytest.raises(LifecycleError):
                operation()


def test_a_new_champion_retires_the_old_one_and_a_rollback_brings_it_back() -> None:
    places = Places(stages={1: CHAMPION, 2: CANARY}, champion=1, canary=2)
    places = lifecycle.after(places, lifecycle.promote(places, 2, CHAMPION))
    assert (places.champion, places.canary, places.previous, places.stages) == (2, 0, 1, {1: RETIRED, 2: CHAMPION})
    places = lifecycle.after(places, lifecycle.roll_back(places))
    assert (places.champion, places.previous, places.stages) == (1, 0, {1: CHAMPION, 2: ROLLED_BACK})
    with pytest.raises(LifecycleError) as raised:
        lifecycle.roll_back(places)
    assert raised.value.reason == "NOTHING_TO_ROLL_BACK_TO"


def test_a_rollback_takes_the_canary_first_and_only_one_can_be_canary() -> None:
    places = Places(stages={1: CHAMPION, 2: CANARY, 3: SHADOW}, champion=1, canary=2, shadows=(3,))
    with pytest.raises(LifecycleError) as raised:
        lifecycle.promote(places, 3, CANARY)
    assert (raised.value.reason, raised.value.held) == ("CANARY_HELD", True)
    places = lifecycle.after(places, lifecycle.roll_back(places))
    assert (places.champion, places.canary, places.stages[2]) == (1, 0, ROLLED_BACK)
    assert lifecycle.after(places, lifecycle.promote(places, 3, CANARY)).canary == 3


def test_a_previous_champion_that_is_taken_out_is_nothing_to_go_back_to() -> None:
    places = Places(stages={1: RETIRED, 2: CHAMPION}, champion=2, previous=1)
    assert lifecycle.after(places, lifecycle.take_out(places, 1)).previous == 0


def test_a_canary_answers_more_step_by_step() -> None:
    steps, share = [], 0
    while (step := lifecycle.step_after(share)) is not None:
        steps.append(share := step)
    assert steps == [500, 2500, 5000]
