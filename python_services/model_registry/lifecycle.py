"""The life of a version as a state machine. Pure: stages in, moves or a typed refusal out.

REGISTERED → VALIDATED → SHADOW → CANARY (5 → 25 → 50 % of the questions) → CHAMPION → RETIRED; any → ROLLED_BACK, which
is the end. A RETIRED version becomes champion again only because the one after it was rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from alphamesh.model.v1 import model_pb2

Stage = model_pb2.ModelStage
REGISTERED = model_pb2.MODEL_STAGE_REGISTERED
VALIDATED = model_pb2.MODEL_STAGE_VALIDATED
SHADOW = model_pb2.MODEL_STAGE_SHADOW
CANARY = model_pb2.MODEL_STAGE_CANARY
CHAMPION = model_pb2.MODEL_STAGE_CHAMPION
RETIRED = model_pb2.MODEL_STAGE_RETIRED
ROLLED_BACK = model_pb2.MODEL_STAGE_ROLLED_BACK
STAGES = (REGISTERED, VALIDATED, SHADOW, CANARY, CHAMPION, RETIRED, ROLLED_BACK)

ALLOWED: Mapping[int, frozenset[int]] = {
    REGISTERED: frozenset({VALIDATED, ROLLED_BACK}),
    VALIDATED: frozenset({SHADOW, ROLLED_BACK}),
    SHADOW: frozenset({CANARY, RETIRED, ROLLED_BACK}),
    CANARY: frozenset({CHAMPION, RETIRED, ROLLED_BACK}),
    CHAMPION: frozenset({RETIRED, ROLLED_BACK}),
    RETIRED: frozenset({CHAMPION, ROLLED_BACK}),
    ROLLED_BACK: frozenset(),
}
NEXT: Mapping[int, int] = {REGISTERED: VALIDATED, VALIDATED: SHADOW, SHADOW: CANARY, CANARY: CHAMPION}
STEPS = (500, 2_500, 5_000)  # basis points of the questions that a canary answers, one after the other


class LifecycleError(ValueError):
    """A move that is not allowed. `held`: only because another version holds the place."""

    def __init__(self, reason: str, message: str, *, held: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.held = held


@dataclass(frozen=True, kw_only=True)
class Move:
    """One version from one stage to another."""

    version: int
    source: int
    target: int


@dataclass(frozen=True, kw_only=True)
class Places:
    """Who holds which place of one model. 0: nobody. `previous` is what a rollback of the champion restores."""

    stages: Mapping[int, int] = field(default_factory=dict)
    champion: int = 0
    canary: int = 0
    shadows: tuple[int, ...] = ()
    previous: int = 0

    def stage(self, version: int) -> int:
        """Raises LifecycleError for a version that does not exist."""
        if version not in self.stages:
            raise LifecycleError("MODEL_VERSION_NOT_FOUND", f"there is no version {version}; list them first")
        return self.stages[version]


def name(stage: int) -> str:
    """ "CANARY"."""
    return Stage.Name(Stage.ValueType(stage)).removeprefix("MODEL_STAGE_")


def validate(places: Places, version: int) -> list[Move]:
    """REGISTERED to VALIDATED. Raises LifecycleError."""
    stage = places.stage(version)
    if stage != REGISTERED:
        raise LifecycleError(
            "NOT_REGISTERED", f"version {version} is {name(stage)}; only REGISTERED ones are validated"
        )
    return [Move(version=version, source=stage, target=VALIDATED)]


def promote(places: Places, version: int, target: int) -> list[Move]:
    """One stage on; a new champion retires the old one. Raises LifecycleError."""
    stage = places.stage(version)
    if NEXT.get(stage) != target or stage == REGISTERED:
        following = name(NEXT[stage]) if stage in NEXT else "nothing"
        remedy = (
            "record its validation first" if stage == REGISTERED else f"the stage after {name(stage)} is {following}"
        )
        raise LifecycleError(
            "NOT_NEXT_STAGE", f"version {version} is {name(stage)}, not before {name(target)}; {remedy}"
        )
    if target == CANARY and places.canary:
        raise LifecycleError(
            "CANARY_HELD", f"version {places.canary} is the canary; promote it or take it out first", held=True
        )
    moves = [Move(version=version, source=stage, target=target)]
    if target == CHAMPION and places.champion:
        moves.append(Move(version=places.champion, source=CHAMPION, target=RETIRED))
    return moves


def roll_back(places: Places) -> list[Move]:
    """The canary, or else the champion, for which the one before answers again. Raises LifecycleError."""
    if places.canary:
        return [Move(version=places.canary, source=CANARY, target=ROLLED_BACK)]
    if not places.champion or not places.previous:
        raise LifecycleError("NOTHING_TO_ROLL_BACK_TO", "there is no canary, and no champion before this one")
    return [
        Move(version=places.champion, source=CHAMPION, target=ROLLED_BACK),
        Move(version=places.previous, source=RETIRED, target=CHAMPION),
    ]


def take_out(places: Places, version: int) -> list[Move]:
    """`version` to ROLLED_BACK, from any stage: a champion only when there is one before it. Raises LifecycleError."""
    stage = places.stage(version)
    if stage == ROLLED_BACK:
        raise LifecycleError("ALREADY_ROLLED_BACK", f"version {version} is out of service already")
    if stage == CHAMPION:
        return roll_back(replace(places, canary=0))
    return [Move(version=version, source=stage, target=ROLLED_BACK)]


def retire(places: Places, version: int) -> list[Move]:
    """A shadow or canary out of use. Raises LifecycleError."""
    stage = places.stage(version)
    if stage not in (SHADOW, CANARY):
        why = "promote another one or roll it back" if stage == CHAMPION else "only shadows and canaries are retired"
        raise LifecycleError("CANNOT_RETIRE", f"version {version} is {name(stage)}; {why}")
    return [Move(version=version, source=stage, target=RETIRED)]


def after(places: Places, moves: Iterable[Move]) -> Places:
    """The places once `moves` are made, in order. Raises LifecycleError for one that is not allowed."""
    stages, found = dict(places.stages), places
    for move in moves:
        if stages.get(move.version) != move.source or move.target not in ALLOWED[move.source]:
            raise LifecycleError(
                "NOT_ALLOWED", f"version {move.version} cannot go from {name(move.source)} to {name(move.target)}"
            )
        stages[move.version] = move.target
        restored = move.source == RETIRED and move.target == CHAMPION
        previous = found.previous
        if move.target == CHAMPION:
            previous = 0 if restored else found.champion
        elif move.version == found.previous and move.source == RETIRED:
            previous = 0
        shadows = {*found.shadows, move.version} if move.target == SHADOW else {*found.shadows} - {move.version}
        found = Places(
            stages=stages,
            champion=move.version if move.target == CHAMPION else _unless(found.champion, move.version),
            canary=move.version if move.target == CANARY else _unless(found.canary, move.version),
            shadows=tuple(sorted(shadows)),
            previous=previous,
        )
    return found


def _unless(holder: int, version: int) -> int:
    return 0 if holder == version else holder


def step_after(basis_points: int) -> int | None:
    """The next share of a canary; None at the last one."""
    return next((step for step in STEPS if step > basis_points), None)
