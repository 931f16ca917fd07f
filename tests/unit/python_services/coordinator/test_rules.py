"""Conflict rules: who steps back, and what a veto leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_services.coordinator.rules import LONG, SHORT, Priority, Veto, allowed, priorities, vetoes

from .voices import voice

KINDS = {"f.balance": "FUNDAMENTAL", "f.value": "FUNDAMENTAL", "s.news": "SENTIMENT", "t.trend": "TECHNICAL"}


def test_who_has_priority_silences_those_who_contradict_where_it_is_sure() -> None:
    said = [
        voice("f.value", [0.02, 0.02, 0.02], [0.9, 0.9, 0.1]),
        voice("s.news", [-0.02, 0.02, -0.02], [0.9, 0.9, 0.9]),
        voice("t.trend", [-0.02, -0.02, -0.02], [0.9, 0.9, 0.9]),
    ]
    rule = Priority(name="accounts", who="FUNDAMENTAL", over="SENTIMENT", minimum_confidence=0.5)
    unheard, applied = priorities([rule], said, KINDS, 3)
    assert {agent: rows.tolist() for agent, rows in unheard.items()} == {"s.news": [True, False, False]}
    assert [(a.rule, a.agent_ids, a.rows.tolist()) for a in applied] == [
        ("accounts", ("f.value",), [True, False, False])
    ]


def test_a_side_that_is_divided_has_no_priority_and_who_was_silenced_does_not_speak_for_a_rule() -> None:
    said = [
        voice("f.value", [0.02], [0.9]),
        voice("f.balance", [-0.02], [0.9]),
        voice("s.news", [-0.02], [0.9]),
        voice("t.trend", [0.02], [0.9]),
    ]
    first = Priority(name="one", who="FUNDAMENTAL", over="SENTIMENT", minimum_confidence=0.5)
    assert priorities([first], said, KINDS, 1) == ({}, [])
    silenced = Priority(name="two", who="f.value", over="s.news", minimum_confidence=0.5)
    then = Priority(name="three", who="SENTIMENT", over="TECHNICAL", minimum_confidence=0.5)
    unheard, applied = priorities([silenced, then], said, KINDS, 1)
    assert set(unheard) == {"s.news"}
    assert [a.rule for a in applied] == ["two"]


def test_a_veto_needs_confidence_and_names_who_said_it() -> None:
    said = [voice("f.balance", [-0.02, -0.02, 0.02], [0.9, 0.3, 0.9]), voice("t.trend", [0.02] * 3, [1.0] * 3)]
    rule = Veto(name="weak", who="f.balance", side=LONG, minimum_confidence=0.7)
    forbidden, applied = vetoes([rule], said, KINDS, 3)
    assert forbidden[LONG].tolist() == [True, False, False]
    assert not forbidden[SHORT].any()
    assert applied[0].agent_ids == ("f.balance",)
    short = Veto(name="no-shorts", who="TECHNICAL", side=SHORT, minimum_confidence=0.7)
    assert vetoes([short], said, KINDS, 3)[0][SHORT].all()
    assert vetoes([rule], [], KINDS, 3)[1] == []


@pytest.mark.parametrize(
    ("held", "wanted", "left"), [(0, 5, 0), (3, 5, 3), (5, 3, 3), (5, -2, -2), (-4, 2, 0), (-4, -6, -6)]
)
def test_a_veto_on_longs_lets_reductions_pass(held: int, wanted: int, left: int) -> None:
    assert allowed(held, wanted, no_long=True, no_short=False) == left
    assert allowed(-held, -wanted, no_long=False, no_short=True) == -left


@given(st.integers(-9, 9), st.integers(-9, 9), st.booleans(), st.booleans())
def test_no_veto_enlarges_a_trade_or_opens_what_it_forbids(held: int, wanted: int, long: bool, short: bool) -> None:
    left = allowed(held, wanted, no_long=long, no_short=short)
    assert min(held, wanted) <= left <= max(held, wanted)
    if long:
        assert left <= max(held, 0)
    if short:
        assert left >= min(held, 0)


def test_a_rule_about_nobody_does_nothing() -> None:
    rule = Priority(name="x", who="LLM", over="TECHNICAL", minimum_confidence=0.0)
    assert priorities([rule], [voice("t.trend", [0.1], [1.0])], KINDS, 1) == ({}, [])
    assert np.array_equal(vetoes([], [], KINDS, 2)[0][LONG], [False, False])
