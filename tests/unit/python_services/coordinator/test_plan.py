"""From targets and a verdict to quantities."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from python_services.coordinator.plan import Change, planned_changes

LOT = 10**9


def test_sells_come_before_buys() -> None:
    changes = [Change("A", 0, 10 * LOT, LOT), Change("B", 10 * LOT, 0, LOT)]
    assert planned_changes(changes, scale=1.0, reductions_only=False) == [("B", -10 * LOT), ("A", 10 * LOT)]


def test_scaling_cuts_to_whole_lots_towards_zero() -> None:
    changes = [Change("A", 0, 15 * LOT, LOT), Change("B", 15 * LOT, 0, LOT)]
    assert dict(planned_changes(changes, scale=0.5, reductions_only=False)) == {"A": 7 * LOT, "B": -7 * LOT}


@given(st.integers(-50, 50), st.integers(-50, 50))
def test_reductions_never_grow_or_flip_a_position(held: int, target: int) -> None:
    changes = [Change("A", held * LOT, target * LOT, LOT)]
    for _, quantity in planned_changes(changes, scale=1.0, reductions_only=True):
        after = held + quantity // LOT
        assert abs(after) < abs(held)
        assert after * held >= 0
