"""The coordination policy's file: read strictly, refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh import policy, session
from mesh.wish import Wish
from python_services.kit.ids import content_id

TEXT = policy.DEFAULT_PATH.read_text()


def test_the_default_is_in_the_spec_and_another_policy_is_another_session(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(TEXT.replace("cap: 3.0", "cap: 2.0"))
    spec, changed = session.spec(Wish()), session.spec(Wish(policy=other))
    assert spec.policy == policy.load()
    assert spec.policy.deadline_ns == 2_000_000_000
    assert changed.policy.weighting.cap == 2.0
    assert content_id(spec.SerializeToString(deterministic=True)) != content_id(
        changed.SerializeToString(deterministic=True)
    )


def test_rules_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        TEXT.replace(
            "vetoes: []", "vetoes: [{name: weak, who: f.balance, forbids: LONG, minimum_confidence: 0.7}]"
        ).replace("- {kind: ANY, at_least: 2}", "- {kind: ANY, at_least: 2}\n  - {kind: TECHNICAL, at_least: 1}")
    )
    found = policy.load(path)
    assert [(rule.kind, rule.at_least) for rule in found.quorum] == [("ANY", 2), ("TECHNICAL", 1)]
    assert (found.vetoes[0].who, found.vetoes[0].minimum_confidence) == ("f.balance", 0.7)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("risk_view: true", "risk_views: true", "unknown key 'risk_views'; known: quorum, risk_view, deadline_ns"),
        ("risk_view: true", "risk_view: 1", "risk_view cannot be 1; write true or false"),
        ("cap: 3.0", "cap: much", "weighting.cap cannot be 'much'; write a number"),
        ("cap: 3.0", "cap: 0.5", "weighting.cap: must be greater than or equal to 1"),
        ("cap: 3.0", "cap: 3.0\n  cap: 4.0", "weighting has 'cap' twice"),
        ("cap: 3.0", "cap: .nan", "weighting.cap: must be"),
        ("deadline_ns: 2_000_000_000", "deadline_ns: 2.5", "deadline_ns cannot be 2.5; write a whole number"),
        ("deadline_ns: 2_000_000_000", "deadline_ns: 1e30", "deadline_ns cannot be"),
        ("deadline_ns: 2_000_000_000", "deadline_ns: 99999999999999999999", "deadline_ns: "),
        ("deadline_ns: 2_000_000_000", "deadline_ns: 400_000_000", "hedge_after_ns must be less than deadline_ns"),
        ("kind: ANY, at_least: 2", "kind: SOME, at_least: 2", "quorum[0].kind: must be in list"),
        ("at_least: 2", "at_least: 0", "quorum[0].at_least: must be"),
        ("at_least: 2", "at_least: 2, of: 3", "quorum[0] has an unknown key 'of'"),
        ("priorities: []", "priorities: [{name: A, who: LLM, over: LEARNED, minimum_confidence: 0}]", "[0].name: "),
        ("priorities: []", "priorities: [{name: a, who: LLM, over: LLM, minimum_confidence: 0}]", "must differ"),
        ("priorities: []", "priorities: 3", "priorities is no list"),
        ("lifecycle:", "lifecycles:", "unknown key 'lifecycles'"),
    ],
)
def test_mistakes_are_refused_with_file_and_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in TEXT
    path = tmp_path / "mine.yaml"
    text = TEXT.replace(old, new, 1)
    path.write_text(text)
    with pytest.raises(policy.PolicyError) as refused:
        policy.load(path)
    message = str(refused.value)
    assert said in message
    line = int(message.removeprefix(f"{path}:").partition(":")[0])
    pairs = zip(TEXT.splitlines(), text.splitlines(), strict=False)
    changed = next(number for number, (before, after) in enumerate(pairs, 1) if before != after)
    assert line == (1 if said.startswith("hedge_after_ns") else changed)  # a rule about all of it has no line


def test_what_is_no_file_no_yaml_and_no_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(policy.PolicyError, match="No such file"):
        policy.load(tmp_path / "none.yaml")
    for text, said in (("", "the policy is no mapping"), ("a: [", "correct the YAML"), ("- 1", "is no mapping"),
                       ("risk_view: true", "value is required|must contain at least|must be")):  # fmt: skip
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(policy.PolicyError, match=said):
            policy.load(path)
