"""What became of forecasts, by hand; and track records, which are folds over scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_services.coordinator.record import NOTHING, Prior, Record
from python_services.coordinator.scoring import Score, realised, score

from .voices import voice

PRIOR = Prior(information_coefficient=0.03, strength=400.0, floor=0.25, cap=3.0)
CLOSE = np.array([[100.0, 50.0, np.nan], [110.0, 50.0, 10.0], [99.0, 55.0, 11.0]])


def test_returns_of_a_horizon_need_both_closes() -> None:
    found = realised(CLOSE, [1, 2, 3])
    assert list(found) == [1, 2], "the window does not hold three bars back"
    assert found[1] == pytest.approx([-0.1, 0.1, 0.1])
    assert found[2][:2] == pytest.approx([-0.01, 0.1])
    assert np.isnan(found[2][2])


def test_a_score_by_hand() -> None:
    said = voice("a", [0.02, -0.01, 0.03], [0.6, 0.2, 1.0], bars=2, rows=[0, 1, 3])
    found = score(said, np.array([0, 1]), np.array([0.04, 0.05]), 4, "CALM")
    assert found is not None
    assert found.forecasts == 2, "nothing is known of row 3"
    assert found.sum_xy == pytest.approx((0.02 * 0.04 - 0.01 * 0.05) / 0.02**2)
    assert found.sum_xx == pytest.approx((0.02**2 + 0.01**2) / 0.02**2)
    assert found.sum_brier == pytest.approx((0.8 - 1) ** 2 + 0.6**2)
    assert found.sum_absolute_error == pytest.approx(0.02 + 0.06)
    assert found.stated == (0, 1, 0, 1, 0)  # p = 0.6 and 0.8
    assert found.hits == (0, 0, 0, 1, 0)
    assert found.sum_p == pytest.approx((0, 0.6, 0, 0.8, 0))
    assert found.cross_sectional is None, "two instruments are no cross-section"


def test_nothing_is_scored_of_who_forecasts_no_return_or_whose_outcome_is_unknown() -> None:
    assert score(voice("vol", [], [0.5]), np.array([0]), np.array([0.01]), 1, None) is None
    assert score(voice("a", [0.01], [0.5]), np.array([], np.int64), np.array([]), 1, None) is None


def test_a_cross_section_is_a_correlation() -> None:
    forecast, outcome = [0.01, 0.02, -0.01, 0.0, 0.03], [0.02, 0.01, -0.02, 0.01, 0.05]
    found = score(voice("a", forecast, [0.5] * 5), np.arange(5), np.array(outcome), 5, None)
    assert found is not None
    assert found.cross_sectional == pytest.approx(np.corrcoef(forecast, outcome)[0, 1])
    assert sum(found.stated) == 4, "zero is no direction"


def scored(said: list[float], came: list[float], *, confidence: float = 0.5, regime: str | None = None) -> Score:
    found = score(
        voice("a", said, [confidence] * len(said), bars=1), np.arange(len(said)), np.array(came), len(said), regime
    )
    assert found is not None
    return found


def test_a_record_is_the_figures_of_all_forecasts_when_nothing_is_forgotten() -> None:
    rng = np.random.default_rng(5)
    said, came = rng.normal(0, 0.01, (40, 6)), rng.normal(0, 0.02, (40, 6))
    record = Record().settled((scored(list(s), list(c)) for s, c in zip(said, came, strict=True)), 1e12)
    tally = record.of("a", "1")
    x, y = said.ravel(), came.ravel()
    assert tally.forecasts == 240
    assert tally.information_coefficient == pytest.approx((x @ y) / np.sqrt((x @ x) * (y @ y)))
    assert tally.hit_rate == pytest.approx(np.mean(np.sign(x) == np.sign(y)))
    assert tally.brier_score == pytest.approx(np.mean((0.75 - (np.sign(x) == np.sign(y))) ** 2))
    assert tally.mean_absolute_error == pytest.approx(np.mean(np.abs(x - y)))
    assert tally.observations == pytest.approx(40 * 6 / (1 + 5 * 0.3))


def test_an_observation_counts_half_after_the_half_life_and_long_horizons_count_less() -> None:
    one = scored([0.01], [0.01])
    record = Record().settled([one], 10.0)
    for _ in range(10):
        record = record.settled([scored([0.01], [-0.01])], 10.0)
    keep = 0.5 ** (1 / 10)
    recent = sum(keep**age for age in range(10))
    assert record.of("a", "1").hit_rate == pytest.approx(0.5 / (0.5 + recent))
    slow = score(voice("slow", [0.01], [0.5], bars=20), np.array([0]), np.array([0.01]), 1, None)
    assert slow is not None
    assert NOTHING.after(slow, 1.0).observations == pytest.approx(1 / 20)


def test_skill_begins_at_the_prior_and_follows_the_record_within_floor_and_cap() -> None:
    rng = np.random.default_rng(3)
    assert Record().skill("a", "1", "CALM", PRIOR).skill == 1.0
    good, bad = Record(), Record()
    skills = []
    for _ in range(1500):
        said = rng.normal(0, 0.01, 4)
        noise = rng.normal(0, 0.02, 4)
        good = good.settled([scored(list(said), list(said + noise), confidence=0.1)], 500.0)
        bad = bad.settled([scored(list(said), list(-said + noise), confidence=0.1)], 500.0)
        skills.append(good.skill("a", "1", None, PRIOR).skill)
    assert skills[20] < skills[200] < 3.0 + 1e-9
    assert skills[-1] == 3.0
    assert bad.skill("a", "1", None, PRIOR).skill == 0.25
    assert good.skill("a", "2", None, PRIOR).skill == 1.0, "another version has a record of its own"


def test_a_regime_falls_back_to_all_regimes_and_is_told_apart() -> None:
    record = Record()
    for _ in range(300):
        record = record.settled([scored([0.01, 0.02], [0.02, 0.03], regime="CALM")], 1e9)
        record = record.settled([scored([0.01, 0.02], [-0.02, -0.03], regime="TURBULENT")], 1e9)
    calm, wild, new, none = (record.skill("a", "1", regime, PRIOR) for regime in ("CALM", "TURBULENT", "NEW", None))
    assert calm.information_coefficient > 0.3 > -0.3 > wild.information_coefficient
    assert new.information_coefficient == none.information_coefficient


def test_boasting_costs_skill() -> None:
    """Equal forecasts and outcomes: who states 0.95 and is right half of the time weighs less."""
    modest, boaster = Record(), Record()
    for day in range(400):
        came = [0.01 if day % 2 else -0.011]
        modest = modest.settled([scored([0.01], came, confidence=0.05)], 1e9)
        boaster = boaster.settled([scored([0.01], came, confidence=0.9)], 1e9)
    prior = Prior(information_coefficient=0.03, strength=10.0, floor=0.01, cap=3.0)
    assert boaster.skill("a", "1", None, prior).brier > 0.4
    one, other = boaster.skill("a", "1", None, prior), modest.skill("a", "1", None, prior)
    assert one.information_coefficient == other.information_coefficient
    assert one.skill < other.skill or other.skill == prior.floor


@given(st.lists(st.tuples(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.floats(0, 1)), min_size=1, max_size=30))
def test_skill_and_figures_stay_within_their_bounds(days: list[tuple[float, float, float]]) -> None:
    record = Record().settled((scored([s], [c], confidence=sure) for s, c, sure in days), 20.0)
    tally, skill = record.of("a", "1"), record.skill("a", "1", None, PRIOR)
    assert PRIOR.floor <= skill.skill <= PRIOR.cap
    assert -1.0000001 <= skill.information_coefficient <= 1.0000001
    assert tally.hit_rate is None or 0 <= tally.hit_rate <= 1.0000001
    assert tally.brier_score is None or 0 <= tally.brier_score <= 1.0000001
