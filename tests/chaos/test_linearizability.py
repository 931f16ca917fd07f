"""The history checker itself, on histories by hand that are and are not linearizable, and against brute force."""

from __future__ import annotations

import itertools
import math
import time
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .linearizability import Interval, check, check_each, respects_time


class Access(NamedTuple):
    """A write of a value, or a read that returned one."""

    kind: str
    value: int
    key: str = "x"


class Register:
    """The object of the classical examples."""

    def initial(self) -> int:
        return 0

    def step(self, state: int, operation: Access) -> int | None:
        if operation.kind == "write":
            return operation.value
        return state if state == operation.value else None


def history(*rows: tuple[float, float, str, int]) -> list[Interval[Access]]:
    return [Interval(called, answered, Access(kind, value)) for called, answered, kind, value in rows]


LINEARIZABLE = {
    "nothing happened": [],
    "one after the other": [(0, 1, "write", 1), (2, 3, "read", 1)],
    "the read may come first": [(0, 10, "write", 1), (1, 2, "read", 0), (3, 4, "read", 1)],
    "three overlap": [(0, 9, "write", 1), (0, 9, "write", 2), (1, 8, "read", 2), (2, 7, "read", 1)],
    "never answered, yet seen": [(0, math.inf, "write", 1), (1, 2, "read", 0), (3, 4, "read", 1)],
    "never answered, and not seen": [(0, math.inf, "write", 1), (1, 2, "read", 0), (3, 4, "read", 0)],
    # Herlihy & Wing 1990, figure 1(a) as a register: the writes overlap, so either order will do.
    "writes overlap": [(0, 4, "write", 1), (1, 3, "write", 2), (5, 6, "read", 1)],
}
NOT_LINEARIZABLE = {
    "a stale read": [(0, 1, "write", 1), (2, 3, "read", 0)],
    "a value from nowhere": [(0, 1, "read", 7)],
    "a lost write": [(0, 1, "write", 1), (2, 3, "write", 2), (4, 5, "read", 1)],
    "seen, then not": [(0, 10, "write", 1), (1, 2, "read", 1), (3, 4, "read", 0)],
    "two readers see two orders": [
        (0, 9, "write", 1),
        (0, 9, "write", 2),
        (10, 11, "read", 1),
        (12, 13, "read", 2),
    ],
}


@pytest.mark.parametrize("rows", LINEARIZABLE.values(), ids=LINEARIZABLE)
def test_a_linearizable_history_is_explained(rows: list[tuple[float, float, str, int]]) -> None:
    verdict = check(Register(), history(*rows))
    assert verdict.linearizable is True
    state = 0
    for operation in verdict.longest:  # the order that it found is one
        state = Register().step(state, operation)
        assert state is not None
    assert len(verdict.longest) == len(rows)


@pytest.mark.parametrize("rows", NOT_LINEARIZABLE.values(), ids=NOT_LINEARIZABLE)
def test_a_history_that_is_not_linearizable_is_refused(rows: list[tuple[float, float, str, int]]) -> None:
    verdict = check(Register(), history(*rows))
    assert verdict.linearizable is False
    assert verdict.stuck is not None


def brute_force(rows: list[Interval[Access]]) -> bool:
    """Every order that respects real time."""
    for order in itertools.permutations(rows):
        state: int | None = 0
        for i, interval in enumerate(order):
            if any(later.answered < interval.called for later in order[i + 1 :]):
                state = None
            if state is not None:
                state = Register().step(state, interval.operation)
            if state is None:
                break
        else:
            return True
    return False


operations = st.tuples(
    st.integers(0, 12), st.integers(0, 6), st.sampled_from(["write", "read"]), st.integers(0, 2)
).map(lambda row: Interval(row[0], row[0] + row[1], Access(row[2], row[3])))


@given(st.lists(operations, max_size=6))
@settings(max_examples=400, deadline=None)
def test_it_agrees_with_trying_every_order(rows: list[Interval[Access]]) -> None:
    assert check(Register(), rows).linearizable is brute_force(rows)


def test_keys_are_checked_by_themselves() -> None:
    rows = [
        Interval(0, 1, Access("write", 1, "good")),
        Interval(2, 3, Access("read", 1, "good")),
        Interval(0, 1, Access("write", 1, "bad")),
        Interval(2, 3, Access("read", 0, "bad")),
    ]
    verdicts = check_each(lambda _: Register(), rows, lambda operation: operation.key)
    assert {name: verdict.linearizable for name, verdict in verdicts.items()} == {"good": True, "bad": False}


def test_a_long_history_with_little_overlap_is_quick() -> None:
    rows = []
    for i in range(4_000):
        rows.append(Interval(i, i + 3.5, Access("write", i)))
        rows.append(Interval(i + 0.1, i + 3.6, Access("read", i)))
    began = time.perf_counter()
    assert check(Register(), rows).linearizable is True
    assert time.perf_counter() - began < 10


def test_a_search_that_takes_too_long_is_given_up_and_says_so() -> None:
    rows = [Interval(0, 100, Access("write", i)) for i in range(14)] + [Interval(101, 102, Access("read", 99))]
    assert check(Register(), rows, limit=1_000).linearizable is None


def test_the_witness_is_refused_when_it_turns_time_around() -> None:
    first, second = Interval(0, 1, "a"), Interval(2, 3, "b")
    overlapping = Interval(0.5, 2.5, "c")
    assert respects_time([first, overlapping, second]) is None
    assert respects_time([overlapping, first, second]) is None
    assert respects_time([second, first]) == ("b", "a")
    assert respects_time([second, overlapping, first]) == ("b", "a")


def test_an_operation_that_ends_before_it_begins_is_an_error() -> None:
    with pytest.raises(ValueError, match="answered at 1"):
        check(Register(), history((2, 1, "read", 0)))
