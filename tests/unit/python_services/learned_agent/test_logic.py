"""What a model's numbers mean as a forecast, and which numbers are none."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from python_services.kit.inference import InferenceError, Reason
from python_services.learned_agent import logic

NAMES = ("return_5", "volatility_20")


def table(*rows: tuple[float, float]) -> logic.Table:
    columns = np.array(rows, dtype=np.float64).T
    return logic.in_order(dict(zip(NAMES, columns, strict=True)), NAMES)


class Model:
    """A model that answers the same whatever it is asked; what it was asked is kept."""

    def __init__(self, up: list[float], volatility: list[float]) -> None:
        self._answer = {
            "up_probability": np.array(up, np.float32).reshape(-1, 1),
            "volatility": np.array(volatility, np.float32).reshape(-1, 1),
        }
        self.asked: list[object] = []

    async def infer(self, model: str, version: int, inputs: object, outputs: object, timeout_s: float) -> object:
        self.asked.append((model, version, inputs, outputs, timeout_s))
        return self._answer


def test_only_rows_with_every_feature_are_asked_about() -> None:
    found = table((0.1, 0.2), (np.nan, 0.2), (0.3, np.nan), (0.5, 0.6), (np.nan, 0.7))
    assert found.complete().tolist() == [0, 3]
    assert [(each.index, each.detail) for each in found.missing()] == [
        ([1, 4], "no return_5"), ([2], "no volatility_20"),
    ]  # fmt: skip


def test_columns_are_in_the_order_of_the_model_and_in_single_precision() -> None:
    found = logic.in_order({"b": np.array([2.0]), "a": np.array([1.0])}, ("a", "b"))
    rows = logic.rows(found, np.array([0]))
    assert rows.tolist() == [[1.0, 2.0]]
    assert (rows.dtype, rows.flags.c_contiguous) == (np.dtype(np.float32), True)
    with pytest.raises(KeyError, match="c"):
        logic.in_order({"a": np.array([1.0])}, ("c",))


def test_a_probability_and_a_deviation_are_an_expected_return() -> None:
    """P(return > 0) of a normal return with mean m and deviation v is the normal distribution at m / v."""
    answer = logic.Answer(up_probability=np.array([0.5, 0.8]), volatility=np.array([0.02, 0.04]))
    found = logic.forecast("m:1", table((0.1, 0.2), (0.3, 0.4)), np.array([0, 1]), answer)
    assert found.expected_return[0] == 0.0
    assert NormalDist(found.expected_return[1], 0.04).cdf(0.0) == pytest.approx(0.2)
    assert found.confidence.tolist() == pytest.approx([0.0, 0.6])
    assert found.evidence["up_probability"].tolist() == [0.5, 0.8]
    assert found.evidence["volatility_20"].tolist() == [0.2, 0.4]


async def test_the_version_is_named_and_the_shape_is_asked_for() -> None:
    model = Model([0.6], [0.02])
    answer = await logic.ask(model, "m", 3, table((0.1, 0.2), (0.3, 0.4)), np.array([1]), 0.5)  # type: ignore[arg-type]
    assert isinstance(answer, logic.Answer)
    [(name, version, inputs, outputs, timeout_s)] = model.asked
    assert (name, version, timeout_s) == ("m", 3, 0.5)
    assert inputs["features"].tolist() == np.array([[0.3, 0.4]], np.float32).tolist()
    assert outputs == {"up_probability": (1, 1), "volatility": (1, 1)}


@pytest.mark.parametrize(
    ("up", "volatility"), [(0.0, 0.02), (1.0, 0.02), (1.2, 0.02), (-0.1, 0.02), (0.5, 0.0), (0.5, -1.0)]
)
async def test_a_number_that_is_no_probability_or_no_deviation_is_no_answer(up: float, volatility: float) -> None:
    model = Model([up], [volatility])
    answer = await logic.ask(model, "m", 1, table((0.1, 0.2)), np.array([0]), 0.5)  # type: ignore[arg-type]
    assert isinstance(answer, InferenceError)
    assert answer.reason == Reason.BAD_REPLY.value
    assert "m/1" in answer.message


def test_without_an_answer_every_instrument_is_abstained_for_exactly_once() -> None:
    found = logic.forecast(
        "m:1", table((0.1, 0.2), (np.nan, 0.2)), np.array([0]), InferenceError(Reason.DEADLINE, "too late")
    )
    assert len(found.index) == 0
    assert [(each.index, each.reason.value) for each in found.withheld] == [
        ([1], "MISSING_DATA"), ([0], "DEPENDENCY_UNAVAILABLE"),
    ]  # fmt: skip
    assert found.degraded == "m:1 did not answer: DEADLINE: too late"
