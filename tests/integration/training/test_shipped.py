"""The shipped daily_direction: its file answers as its card says on rows that it was never trained on, and training it
again gives the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from mesh import topology, training
from mesh.wish import Wish
from python_services.local import LocalSystem
from python_services.training import artifacts, labels
from python_services.training.dataset import Dataset
from python_services.training.gathering import Sources
from tests.integration.conftest import alphamesh

from .conftest import Desk

FOLDER = topology.ROOT / "triton_models" / "daily_direction" / "1"
HORIZON = 5


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    return json.loads((FOLDER / "card.json").read_bytes())  # type: ignore[no-any-return]


def answers(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
    probability, volatility = session.run(["up_probability", "volatility"], {"features": features})
    assert probability.shape == volatility.shape == (len(features), 1)
    assert probability.dtype == volatility.dtype == np.float32
    return probability[:, 0], volatility[:, 0]


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[Dataset]:
    """What the recipe reads, gathered again from feature_store and market_data."""
    async with LocalSystem(tmp_path, training.needed(topology.load())) as system:
        desk = Desk(system, tmp_path)
        spec = await desk.spec(training.recipes()["daily_direction"]["defaults"])
        from alphamesh.feature.v1 import feature_pb2_grpc
        from alphamesh.marketdata.v1 import marketdata_pb2_grpc

        sources = Sources(
            system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data", caller="training"),
            system.stub(feature_pb2_grpc.FeatureServiceStub, "feature_store", caller="training"),
        )
        yield await sources.gather(spec.data)


def test_the_card_is_of_these_files_and_the_model_is_small(card: Mapping[str, Any]) -> None:
    content = (FOLDER / "model.onnx").read_bytes()
    assert card["onnx_sha256"] == hashlib.sha256(content).hexdigest()
    assert card["golden_sha256"] == hashlib.sha256((FOLDER / "golden.json").read_bytes()).hexdigest()
    assert len(content) < 1 << 20
    assert card["onnx_difference"] <= 1e-5
    graph = onnx.load_from_string(content).graph
    assert [each.name for each in graph.output] == ["up_probability", "volatility"], "no label output"
    assert card["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, len(card["features"])]}]
    config = (FOLDER.parent / "config.pbtxt").read_text()
    for wanted in ('backend: "onnxruntime"', f"dims: [{len(card['features'])}]", "dynamic_batching {}"):
        assert wanted in config


def test_golden_rows(card: Mapping[str, Any]) -> None:
    golden = artifacts.read_golden((FOLDER / "golden.json").read_bytes())
    for found, name in zip(answers(golden.inputs["features"]), ("up_probability", "volatility"), strict=True):
        np.testing.assert_allclose(found, golden.outputs[name][:, 0], atol=golden.tolerance)


def test_nothing_of_the_demo_session_was_seen(card: Mapping[str, Any]) -> None:
    begin = int(datetime.combine(Wish.start, datetime.min.time(), UTC).timestamp()) * 10**9
    assert card["trained_until_ns"] < begin
    assert card["data"]["holdout_last_label"] < Wish.start.isoformat(), "nor was it judged on that"
    wanted = training.recipes()["daily_direction"]["defaults"]["data"]
    assert begin - wanted["known_at_ns"] >= 7 * 86_400 * 10**9, "an embargo of five trading days"


async def test_on_held_out_rows_it_is_as_good_as_its_card_says(data: Dataset, card: Mapping[str, Any]) -> None:
    """By other code than that which wrote the card: scikit-learn, and loops over the closes."""
    holdout = len(data.close_ns) - 126
    rows = [
        (row, int(bar), int(instrument))
        for row, (bar, instrument) in enumerate(zip(data.bar, data.instrument, strict=True))
        if bar >= holdout and bar + HORIZON < len(data.close_ns)
    ]
    assert len(rows) == card["data"]["rows_held_out"]
    assert data.close_ns[rows[0][1]] > card["trained_until_ns"]
    features = data.features[[row for row, _, _ in rows]].astype(np.float32)
    ahead = np.array([data.close[bar + HORIZON, i] / data.close[bar, i] - 1 for _, bar, i in rows])
    realised = np.array(
        [
            sum((data.close[bar + k, i] / data.close[bar + k - 1, i] - 1) ** 2 for k in range(1, HORIZON + 1))
            for _, bar, i in rows
        ]
    )
    probability, volatility = (each.astype(np.float64) for each in answers(features))
    up = ahead > 0
    ratio = realised / volatility**2
    naive = labels.trailing_variance(data.close, HORIZON)[[bar for _, bar, _ in rows], [i for _, _, i in rows]]
    found = {
        "accuracy": accuracy_score(up, probability > 0.5),
        "auc": roc_auc_score(up, probability),
        "log_loss": log_loss(up, probability),
        "brier": brier_score_loss(up, probability),
        "volatility_qlike": np.mean(ratio - np.log(ratio) - 1),
    }
    for name, value in found.items():
        assert card["metrics"][f"holdout.{name}"] == pytest.approx(value, abs=1e-6), name
    ratio = realised / naive
    assert card["baseline"]["holdout.volatility_qlike"] == pytest.approx(np.mean(ratio - np.log(ratio) - 1), abs=1e-6)
    assert found["volatility_qlike"] < card["baseline"]["holdout.volatility_qlike"], "the part with skill has it"
    assert data.sha256() == card["data"]["sha256"], "the data set is the one that the card names"


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_training_it_again_gives_the_same_bytes_and_the_same_card(card: Mapping[str, Any], tmp_path: Path) -> None:
    """Run by `make chaos`: it takes 20 to 40 s of one core."""
    print("training the shipped model takes half a minute, so this runs in `make chaos` and not in `make test`")
    done = alphamesh("train", "daily_direction", "--json", "--out", tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["same_as_shipped_version"] == 1
    assert answer["onnx_sha256"] == card["onnx_sha256"]
    assert answer["metrics"] == card["metrics"]
    again = json.loads((Path(answer["artifact"]) / "card.json").read_bytes())
    assert {**again, "code_version": ""} == {**card, "code_version": ""}, "but for a change of a comment"
