"""Fits, their calibration and their ONNX form, on made-up rows whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from python_services.training import engines, export, metrics, splits
from python_services.training.errors import TrainingError
from python_services.training.executors import open_executor
from python_services.training.fitting import Plan, Rows, Task, calibration, fit, judge

COUNT = 1600
SMALL = {"trees": 25, "minimum_leaf_rows": 40, "direction_l2": 10.0, "direction_trees": 10}


def made_up(rows: int = COUNT, seed: int = 1) -> Rows:
    """Two instruments a bar; the first feature tells the direction, the second the volatility."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 5)).astype(np.float32)
    deviation = 0.02 * np.exp(0.5 * features[:, 1].astype(np.float64))
    ahead = deviation * (0.5 * features[:, 0] + rng.normal(size=rows))
    return Rows(
        features=features,
        up=(ahead > 0).astype(np.float64),
        ahead=ahead,
        variance=np.maximum(deviation**2 * rng.chisquare(5, rows) / 5, 1e-8),
        naive=np.full(rows, 0.0005),
        bar=np.repeat(np.arange(rows // 2), 2),
    )


def plan(engine: str, **parameters: object) -> Plan:
    known = {name: value for name, value in SMALL.items() if name in engines.ENGINES[engine].defaults}
    chosen = engines.parameters(engine, {**known, **parameters})
    return Plan(engine=engine, parameters=chosen, seed=7, horizon=3, embargo=2)


@pytest.fixture(scope="module", params=["gradient_boosting", "ridge"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_model_finds_what_is_there_and_its_file_answers_as_it_does(engine):
    rows, unseen = made_up(), made_up(seed=2)
    model = fit(rows, plan(engine))
    probability, deviation = model.predict(unseen.features)
    assert metrics.auc(unseen.up, probability) > 0.6
    assert metrics.volatility(unseen.variance, deviation)["volatility_rank_correlation"] > 0.4
    assert abs(float(np.mean(unseen.variance / deviation**2)) - 1) < 0.15
    content = export.to_onnx(model, 5)
    assert export.difference(content, model, unseen.features) <= 1e-6
    exported, _ = export.run(content, unseen.features[:1])
    assert exported.shape == (1,)


def test_the_same_rows_and_seed_give_the_same_bytes(engine):
    contents = {export.to_onnx(fit(made_up(400), plan(engine)), 5) for _ in range(2)}
    assert len(contents) == 1


def test_a_file_that_answers_otherwise_is_refused(engine):
    rows = made_up(400)
    model, other = fit(rows, plan(engine)), fit(made_up(400, seed=9), plan(engine))
    with pytest.raises(TrainingError) as refused:
        export.difference(export.to_onnx(other, 5), model, rows.features)
    assert refused.value.reason == "ONNX_DIFFERS"


def test_trees_split_the_same_rows_in_both_forms():
    """Values at, just below and just above every threshold that the trees have."""
    rows = made_up(600)
    model = fit(rows, plan("gradient_boosting"))
    text = str(vars(model.variance)["_model"])
    lines = [line.removeprefix("threshold=").split() for line in text.splitlines() if line.startswith("threshold=")]
    thresholds = np.array([float(each) for line in lines for each in line], dtype=np.float32)
    sides = [np.nextafter(thresholds, np.float32(way)) for way in (-np.inf, np.inf)]
    edge = np.concatenate([thresholds, *sides])
    features = np.repeat(edge[:, None], 5, axis=1)
    assert export.difference(export.to_onnx(model, 5), model, features) <= 1e-6


def test_calibration_is_platts():
    rng = np.random.default_rng(2)
    score = rng.normal(size=4000)
    up = (rng.random(4000) < 1 / (1 + np.exp(-(0.7 * score + 0.3)))).astype(float)
    slope, offset = calibration(score, up)
    other = LogisticRegression(C=1e9).fit(score[:, None], up)
    assert slope == pytest.approx(other.coef_[0, 0], abs=2e-3)
    assert offset == pytest.approx(other.intercept_[0], abs=2e-3)


def test_scores_that_are_wrong_the_whole_way_round_are_not_turned():
    rng = np.random.default_rng(2)
    score = rng.normal(size=1000)
    up = (score < 0).astype(float)
    slope, offset = calibration(score, up)
    assert slope == 0.0
    assert 1 / (1 + np.exp(-offset)) == pytest.approx(up.mean(), abs=0.01)


def test_metrics_are_those_of_scikit_learn():
    rng = np.random.default_rng(4)
    probability = np.round(rng.random(500), 2)  # with equal ones
    up = (rng.random(500) < probability).astype(float)
    found = metrics.direction(up, probability, rng.normal(size=500))
    assert found["auc"] == pytest.approx(roc_auc_score(up, probability))
    clipped = np.clip(probability, 1e-12, 1 - 1e-12)
    assert found["log_loss"] == pytest.approx(log_loss(up, clipped))
    assert found["brier"] == pytest.approx(float(np.mean((probability - up) ** 2)))


def test_a_forecast_of_the_truth_has_no_qlike():
    variance = np.array([0.01, 0.04, 0.0001])
    perfect = metrics.volatility(variance, np.sqrt(variance))
    assert perfect["volatility_qlike"] == pytest.approx(0.0, abs=1e-12)
    assert perfect["volatility_r2"] == pytest.approx(1.0)
    assert metrics.volatility(variance, np.full(3, 0.1))["volatility_qlike"] > 0.5


def test_too_few_rows_are_refused_with_what_to_do():
    with pytest.raises(TrainingError, match="widen the range"):
        fit(made_up(40), plan("ridge"))


@pytest.mark.parametrize(
    ("given", "reason"),
    [({"tres": 3}, "PARAMETER_UNKNOWN"), ({"trees": "3"}, "PARAMETER_TYPE"), ({"trees": True}, "PARAMETER_TYPE")],
)
def test_wrong_parameters_are_named(given, reason):
    with pytest.raises(TrainingError) as refused:
        engines.parameters("gradient_boosting", given)
    assert refused.value.reason == reason


def tasks() -> list[Task]:
    rows = made_up(800)
    chosen = splits.combinatorial(rows.bar, 400, 3, 1, 3, 2)
    return [Task(rows=rows, split=each, plan=plan("ridge")) for each in chosen]


def test_workers_give_what_one_process_gives():
    alone = [each.metrics for each in open_executor("joblib", 1).map(judge, tasks())]
    assert alone == [judge(task).metrics for task in tasks()]


@pytest.mark.chaos
def test_ray_gives_what_joblib_gives():
    """Run by `make chaos`: a local Ray takes 5 s to start, and more on a busy machine."""
    pytest.importorskip("ray", reason="run `make setup`")
    print("a local Ray takes seconds to start, so this runs in `make chaos` and not in `make test`")
    import ray

    alone = [each.metrics for each in open_executor("joblib", 1).map(judge, tasks())]
    try:
        assert [each.metrics for each in open_executor("ray", 1).map(judge, tasks())] == alone
    finally:
        ray.shutdown()


def test_the_search_is_seeded_and_never_ends_worse_than_it_began():
    from python_services.training import search

    rows = made_up(800)
    steps: list[int] = []
    chosen = [
        search.best(rows, 400, plan("ridge"), 3, 4, open_executor("joblib", 1), steps.append).parameters
        for _ in range(2)
    ]
    assert chosen[0] == chosen[1]
    assert steps == [1, 2, 3, 4] * 2
    with pytest.raises(TrainingError, match="use 1 to 500"):
        search.best(rows, 400, plan("ridge"), 3, 501, open_executor("joblib", 1), steps.append)


def test_an_executor_that_nobody_knows_is_refused():
    with pytest.raises(TrainingError, match="use one of joblib, ray"):
        open_executor("dask", 1)
