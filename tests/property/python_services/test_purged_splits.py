"""Whatever the groups, horizon and embargo: nothing that is trained on knows anything of what is tested."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from python_services.training import splits


@st.composite
def cases(draw: st.DrawFn) -> dict[str, int]:
    groups = draw(st.integers(2, 7))
    return {
        "bars": draw(st.integers(groups * 3, 120)),
        "groups": groups,
        "test_groups": draw(st.integers(1, min(groups - 1, 3))),
        "horizon": draw(st.integers(1, 9)),
        "embargo": draw(st.integers(0, 7)),
        "instruments": draw(st.integers(1, 3)),
    }


@given(cases())
def test_combinatorial_splits_are_what_the_rule_says(case):
    """By brute force: a row is trained on if its label touches no tested row's, and it is in no embargo."""
    instruments = case.pop("instruments")
    bar = np.repeat(np.arange(case["bars"]), instruments)
    found = list(splits.combinatorial(bar, **case))
    bounds = splits.group_bounds(case["bars"], case["groups"])
    assert [each.test_groups for each in found] == list(combinations(range(case["groups"]), case["test_groups"]))
    assert len(found) == splits.count(case["groups"], case["test_groups"])
    h, e = case["horizon"], case["embargo"]
    for split in found:
        tested = {t for group in split.test_groups for t in range(bounds[group][0], bounds[group][1] + 1)}
        assert set(bar[split.test]) == tested
        windows = {t: set(range(t, t + h + 1)) for t in range(case["bars"])}
        of_tests = set().union(*(windows[t] for t in tested))
        embargoed = {
            t for group in split.test_groups for t in range(bounds[group][1] + 1, bounds[group][1] + h + e + 1)
        }
        wanted = {t for t in range(case["bars"]) if not windows[t] & of_tests and t not in embargoed}
        assert set(bar[split.train]) == wanted
        assert len(split.train) + len(split.test) + split.purged == len(bar)


@given(cases())
def test_every_row_is_tested_equally_often(case):
    case.pop("instruments")
    bar = np.arange(case["bars"])
    times = np.zeros(case["bars"], dtype=int)
    for split in splits.combinatorial(bar, **case):
        times[split.test] += 1
    others = splits.count(case["groups"] - 1, case["test_groups"] - 1)
    assert (times == others).all()


@given(cases(), st.integers(1, 6), st.integers(1, 40))
def test_walk_forward_trains_on_the_past_alone(case, folds, first_train):
    bars = case["bars"] + first_train + folds
    bar = np.repeat(np.arange(bars), case["instruments"])
    found = list(splits.walk_forward(bar, bars, folds, first_train, case["horizon"], case["embargo"]))
    assert len(found) == folds
    tested = np.concatenate([bar[each.test] for each in found])
    assert tested.tolist() == sorted(tested)
    assert set(tested) == set(range(first_train, bars))
    for split in found:
        if len(split.train):
            assert bar[split.train].max() + case["horizon"] < bar[split.test].min() - case["embargo"]
