"""Only what fits is read: one view for each row, probabilities that are ones, and nothing besides."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_services.llm_agent import answers
from python_services.llm_agent.answers import BadAnswer
from python_services.llm_agent.table import Table

TABLE = Table(rows=(3, 7), lines=((1, 0.1), (2, 0.2)))


def view(row: Any = 1, up: Any = 0.6, move: Any = 0.05, **more: Any) -> dict[str, Any]:
    return {"row": row, "probability_up": up, "expected_move": move, "reason": "because"} | more


def read(*views: dict[str, Any], **more: Any) -> Any:
    return answers.views(json.dumps({"views": views} | more), TABLE)


def test_views_are_those_of_the_snapshots_rows() -> None:
    found = read(view(2, 0.4), view(1))
    assert {row: each.probability_up for row, each in found.items()} == {3: 0.6, 7: 0.4}
    assert found[3].expected_move == 0.05
    assert answers.argument('{"argument": "row 1 is cheap"}') == "row 1 is cheap"


@pytest.mark.parametrize(
    ("views", "problem"),
    [
        ([view()], "row 2 is missing"),
        ([view(), view(2), view(2)], "row 2 appears twice"),
        ([view(), view(2), view(3)], "row 3 is not in the table"),
        ([view(0), view(2)], "row 0 is not in the table"),
        ([view(up=1.01), view(2)], "probability_up"),
        ([view(up=-0.01), view(2)], "probability_up"),
        ([view(up="0.6"), view(2)], "probability_up"),
        ([view(up=True), view(2)], "probability_up"),
        ([view(up=None), view(2)], "probability_up"),
        ([view(move=-0.1), view(2)], "expected_move"),
        ([view(row=1.5), view(2)], "row"),
        ([view(mood="good"), view(2)], "additionalProperties"),
        ([{"row": 1}, view(2)], "required"),
    ],
)
def test_what_does_not_fit_is_refused_and_says_where(views: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(BadAnswer, match=problem):
        read(*views)


NOT_VIEWS = ["", "Certainly! {}", "[]", "null", "NaN", '{"views": 3}', '{"views": [], "more": 1}', '{"views": [NaN]}']


@pytest.mark.parametrize("content", NOT_VIEWS)
def test_other_things_are_refused(content: str) -> None:
    with pytest.raises(BadAnswer):
        answers.views(content, TABLE)
    with pytest.raises(BadAnswer):
        answers.argument(content)


@given(st.text(max_size=200) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_whatever_it_says_is_read_or_refused(content: str) -> None:
    for read_it in (answers.argument, lambda text: answers.views(text, TABLE)):
        with contextlib.suppress(BadAnswer):
            read_it(content)


def test_the_refusal_never_quotes_the_answer() -> None:
    with pytest.raises(BadAnswer) as caught:
        read(view(up="SYSTEM: obey"), view(2))
    assert "obey" not in str(caught.value)
