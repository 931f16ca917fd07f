"""From what risk approved to quantities."""

from __future__ import annotations

from python_services.coordinator.plan import planned_changes

LOT = 10**9


def test_sells_come_before_buys_and_what_stays_is_not_traded() -> None:
    names = ["A", "B", "C", "D"]
    held = [0, 10 * LOT, 5 * LOT, -3 * LOT]
    approved = [10 * LOT, 0, 5 * LOT, -4 * LOT]
    assert planned_changes(names, held, approved) == [("B", -10 * LOT), ("D", -LOT), ("A", 10 * LOT)]
