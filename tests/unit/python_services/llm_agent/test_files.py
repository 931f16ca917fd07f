"""Recordings and spending: durable, exact after a crash, and one writer's at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from python_services.kit.config import ConfigError
from python_services.llm_agent.budget import Budget, session_of
from python_services.llm_agent.cassette import Cassette
from python_services.llm_agent.config import Config
from python_services.llm_agent.exchange import Answer, Question, Unanswered


def question(text: str = "?", **changes: Any) -> Question:
    base: dict[str, Any] = {
        "model": "m", "messages": ({"role": "user", "content": text},), "schema": {"type": "object"},
        "schema_name": "views", "maximum_tokens": 100, "seed": 7,
    }  # fmt: skip
    return Question(**base | changes)


def config(**changes: Any) -> Config:
    return Config(**{"base_url": "http://localhost:1/v1", "model": "m"} | changes)


ANSWER = Answer(content='{"views": []}', input_tokens=30, output_tokens=20)


def test_a_recording_is_found_by_all_that_decides_an_answer(tmp_path: Path) -> None:
    tape = Cassette(tmp_path / "a.jsonl", record=True)
    tape.keep(question(), ANSWER)
    tape.keep(question("??"), Unanswered("TIMED_OUT", "no answer within 1 s"))
    tape.close()
    again = Cassette(tmp_path / "a.jsonl", record=False)
    assert again.find(question()) == ANSWER
    silent = again.find(question("??"))
    assert isinstance(silent, Unanswered)
    assert (silent.reason, silent.detail) == ("TIMED_OUT", "no answer within 1 s")
    others = [question("!"), *(question(**{name: value}) for name, value in [
        ("model", "n"), ("schema", {"type": "array"}), ("schema_name", "x"), ("maximum_tokens", 99), ("seed", 8),
        ("seed", None), ("messages", ({"role": "system", "content": "?"},)),
    ])]  # fmt: skip
    assert [again.find(other) for other in others] == [None] * len(others)


def test_a_torn_last_line_was_never_written(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    tape = Cassette(file, record=True)
    tape.keep(question(), ANSWER)
    tape.close()
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:50])
    tape = Cassette(file, record=True)
    assert len(tape) == 1
    tape.keep(question("??"), ANSWER)
    tape.close()
    assert len(Cassette(file, record=False)) == 2


@pytest.mark.parametrize("line", ["not json", "[]", "{}", '{"question_sha256": "a", "answer": {"content": "b"}}'])
def test_a_damaged_recording_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=r"a\.jsonl:1: .*restore the file"):
        Cassette(file, record=False)


def test_two_do_not_record_into_one_file_and_nothing_replays_what_is_not_there(tmp_path: Path) -> None:
    first = Cassette(tmp_path / "a.jsonl", record=True)
    with pytest.raises(ConfigError, match="another process"):
        Cassette(tmp_path / "a.jsonl", record=True)
    first.close()
    Cassette(tmp_path / "a.jsonl", record=True).close()
    with pytest.raises(ConfigError, match="record it first"):
        Cassette(tmp_path / "b.jsonl", record=False)


def spend(budget: Budget, decision_id: str, times: int) -> None:
    for _ in range(times):
        budget.check(decision_id, question())
        budget.charge(decision_id, ANSWER)


def test_a_decision_stops_at_its_budget_and_the_next_goes_on(tmp_path: Path) -> None:
    # A question needs its own length and 100 tokens for the answer, at most; the answer above has cost 50.
    most = question().estimated_tokens() + 100
    budget = Budget(config(decision_tokens=most + 100), tmp_path / "s.jsonl")
    spend(budget, "s1-0001", 3)
    with pytest.raises(Unanswered, match=r"the decision's budget: 150 tokens spent, \d+ needed at most") as caught:
        spend(budget, "s1-0001", 1)
    assert caught.value.reason == "BUDGET_EXCEEDED"
    spend(budget, "s1-0002", 1)


def test_a_sessions_budget_outlives_a_restart_and_is_its_own(tmp_path: Path) -> None:
    most = question().estimated_tokens() + 100
    limited = config(session_tokens=most + 100)
    budget = Budget(limited, tmp_path / "s.jsonl")
    spend(budget, "s1-0001", 1)
    spend(budget, "s1-0002", 1)
    budget.close()
    budget = Budget(limited, tmp_path / "s.jsonl")
    assert budget.spent("s1-0002")[1].tokens == 100
    spend(budget, "s1-0003", 1)
    with pytest.raises(Unanswered, match="the session's budget"):
        spend(budget, "s1-0004", 1)
    spend(budget, "s2-0001", 1)
    assert session_of("e91d41e6d445-0252") == "e91d41e6d445"


def test_money_is_counted_to_the_nano_unit(tmp_path: Path) -> None:
    # 2.50 and 10 for a million tokens: 30 and 20 of them are 0.000275.
    priced = config(input_price_e9=2_500, output_price_e9=10_000, decision_cost_e9=4_000_000)
    budget = Budget(priced, tmp_path / "s.jsonl")
    spend(budget, "s1-0001", 3)
    assert budget.spent("s1-0001")[0].cost_e9 == 3 * 275_000
    with pytest.raises(Unanswered, match=r"0\.00[0-9]+ spent, [0-9.]+ needed at most, the budget is 0\.004"):
        spend(budget, "s1-0001", 9)
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert lines[0] == {"decision_id": "s1-0001", "tokens": 50, "cost_e9": 275_000}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"base_url": "example.com/v1"}, "base_url"),
        ({"base_url": "http://models.example.com/v1"}, "use https"),
        ({"base_url": "https://key@models.example.com/v1"}, "credentials"),
        ({"base_url": "https://models.example.com/v1?key=1"}, "credentials"),
        ({"model": ""}, "model is empty"),
        ({"mode": "dream"}, "live, record, replay"),
        ({"mode": "replay"}, "record and replay need one"),
        ({"cassette": "a"}, "live takes none"),
        ({"debate_rounds": 9}, "0 to 5"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"decision_tokens": 0}, "decision_tokens"),
        ({"input_price_e9": -1}, "input_price_e9"),
        ({"session_cost_e9": 5}, "needs input_price_e9"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        config(**changes)
