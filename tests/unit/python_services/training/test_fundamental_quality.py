"""The shipped fundamental_quality: its card's numbers come from its file, and training gives the same file again."""

import hashlib
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from python_services.kit.facts import visible_from_ns
from python_services.training.artifacts import ROOT, read_golden
from python_services.training.cards import Card
from python_services.training.errors import TrainingError
from python_services.training.executors import open_executor
from python_services.training.facts import bundled
from python_services.training.facts_ratios import FEATURES
from python_services.training.fundamental_fit import RETURN, judge, later_rows, training_rows
from python_services.training.recipes import TrainContext, find
from python_services.training.recipes.fundamental_quality import run_onnx

FOLDER = ROOT / "triton_models" / "fundamental_quality" / "1"
MODEL = (FOLDER / "model.onnx").read_bytes()
CARD = Card.from_json((FOLDER / "card.json").read_bytes())


def context(folder: Path, **parameters: str) -> TrainContext:
    return TrainContext(
        seed=7,
        folder=folder,
        executor=open_executor("joblib", 1),
        progress=lambda *_: None,
        settings={"parameters": parameters},
    )


def test_the_file_is_the_one_of_the_card():
    assert hashlib.sha256(MODEL).hexdigest() == CARD.onnx_sha256
    assert CARD.features == list(FEATURES)
    assert CARD.onnx_difference <= 1e-5


def test_golden_rows():
    golden = read_golden((FOLDER / "golden.json").read_bytes())
    answer = run_onnx(MODEL, golden.inputs["features"].astype(np.float64))
    np.testing.assert_allclose(answer, golden.outputs["score"][:, 0], atol=golden.tolerance)


def test_the_cards_figures_are_those_of_the_served_file_on_later_filings():
    later = later_rows(bundled(), CARD.trained_until_ns)
    assert len(later.target) == CARD.evaluation["rows"]
    for name, value in judge(run_onnx(MODEL, later.features), later).items():
        assert CARD.metrics[name] == pytest.approx(value, abs=1e-6), name
    for name, value in judge(later.features[:, RETURN], later).items():
        assert CARD.baseline[name] == pytest.approx(value, abs=1e-6), name


def test_no_row_of_training_has_an_outcome_filed_after_its_end():
    rows = training_rows(bundled(), CARD.trained_until_ns)
    assert len(rows.target) == CARD.data["rows"]
    for name, end in zip(rows.instrument, rows.end, strict=True):
        filed = [each for each in bundled().filing_times(str(name)) if each <= CARD.trained_until_ns]
        assert filed, name
        assert end < "2009-04-01", (name, end)


def test_training_again_gives_the_same_bytes_and_metrics(tmp_path: Path):
    trained = find("fundamental_quality").train(context(tmp_path))
    assert trained.onnx_bytes == MODEL
    assert trained.card.metrics == pytest.approx(CARD.metrics, abs=1e-6)


def test_more_filings_are_used_when_asked_for(tmp_path: Path):
    trained = find("fundamental_quality").train(context(tmp_path, trained_until="2016-01-01"))
    assert trained.card.data["rows"] > CARD.data["rows"]
    assert trained.card.trained_until_ns == visible_from_ns(date(2015, 12, 31))


@pytest.mark.parametrize(("day", "reason"), [("soon", "PARAMETER_INVALID"), ("2009-12-01", "DATA_TOO_SHORT")])
def test_what_cannot_be_trained_is_refused_with_the_remedy(tmp_path: Path, day: str, reason: str):
    with pytest.raises(TrainingError) as refused:
        find("fundamental_quality").train(context(tmp_path, trained_until=day))
    assert refused.value.reason == reason
    assert "give" in refused.value.message or "choose" in refused.value.message
