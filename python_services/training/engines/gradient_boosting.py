"""Gradient-boosted trees with LightGBM (Ke et al. 2017)."""

from __future__ import annotations

import copy
import re
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from . import Floats, Parameters
from .ridge import ENGINE as RIDGE
from .ridge import Line


class Trees:
    """A fitted booster. Its thresholds are single-precision numbers, so that ONNX splits the same rows as LightGBM."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._model = _with_single_thresholds(booster.model_to_string())
        self._width = booster.num_feature()

    def score(self, features: NDArray[np.float32]) -> Floats:
        """Raw score."""
        booster = lightgbm.Booster(model_str=self._model)
        return np.asarray(booster.predict(features.astype(np.float64), raw_score=True, num_threads=1), dtype=np.float64)

    def nodes(self, prefix: str, features: str, score: str) -> tuple[list[Any], list[Any]]:
        """One TreeEnsembleRegressor, as onnxmltools converts it."""
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        # As a plain regression the converter gives the raw score, and no label output, which would break batching.
        plain = re.sub(r"^objective=.*$", "objective=regression", self._model, flags=re.MULTILINE)
        converted = convert_lightgbm(
            lightgbm.Booster(model_str=plain),
            initial_types=[("input", FloatTensorType([None, self._width]))],
            target_opset=15,
            zipmap=False,
        )
        [trees] = [node for node in converted.graph.node if node.op_type == "TreeEnsembleRegressor"]
        node = copy.deepcopy(trees)
        node.name = f"{prefix}_trees"
        node.input[:], node.output[:] = [features], [score]
        return [node], []


class Stack:
    """Trees on top of a line: they were fitted to what the line leaves over."""

    def __init__(self, line: Line, trees: Trees) -> None:
        self._line = line
        self._trees = trees

    def score(self, features: NDArray[np.float32]) -> Floats:
        """Raw score."""
        return self._line.score(features) + self._trees.score(features)

    def nodes(self, prefix: str, features: str, score: str) -> tuple[list[Any], list[Any]]:
        """The nodes of both, and their sum."""
        from onnx import helper

        line, line_data = self._line.nodes(prefix, features, f"{prefix}_line_score")
        trees, trees_data = self._trees.nodes(prefix, features, f"{prefix}_trees_score")
        names = [f"{prefix}_line_score", f"{prefix}_trees_score"]
        return [*line, *trees, helper.make_node("Add", names, [score], name=f"{prefix}_sum")], [*line_data, *trees_data]


class GradientBoosting:
    """Log loss for the direction, gamma deviance (which is QLIKE) for the variance.

    The direction of daily returns is nearly noise, where trees fit what a line does not: so it begins with a strongly
    regularised logistic regression, and trees are fitted to the rest, as many as cross-validation bears.
    """

    def direction(self, features: NDArray[np.float32], up: Floats, parameters: Parameters, seed: int) -> Line | Stack:
        """See Engine."""
        line = RIDGE.direction(features, up, {"l2": parameters["direction_l2"]}, seed)
        if not parameters["direction_trees"]:
            return line
        settings = {**parameters, "trees": parameters["direction_trees"]}
        objective = {"objective": "binary", "boost_from_average": False}
        return Stack(line, self._fit(features, up, objective, settings, seed, line.score(features)))

    def variance(self, features: NDArray[np.float32], variance: Floats, parameters: Parameters, seed: int) -> Trees:
        """See Engine."""
        return self._fit(features, variance, {"objective": "gamma"}, parameters, seed)

    def _fit(
        self,
        features: NDArray[np.float32],
        target: Floats,
        objective: Parameters,
        parameters: Parameters,
        seed: int,
        start: Floats | None = None,
    ) -> Trees:
        settings = {
            **objective,
            "learning_rate": parameters["learning_rate"],
            "num_leaves": parameters["leaves"],
            "min_data_in_leaf": parameters["minimum_leaf_rows"],
            "feature_fraction": parameters["feature_fraction"],
            "bagging_fraction": parameters["row_fraction"],
            "bagging_freq": 1,
            "lambda_l2": parameters["l2"],
            "seed": seed,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(features.astype(np.float64), target, init_score=start, free_raw_data=True)
        return Trees(lightgbm.train(settings, data, num_boost_round=parameters["trees"]))


def _with_single_thresholds(model: str) -> str:
    """Rounds thresholds down to single precision: `x <= threshold` stays what it was for every single-precision x."""

    def rounded(line: re.Match[str]) -> str:
        values = np.array(line.group(1).split(), dtype=np.float64)
        single = values.astype(np.float32)
        single = np.where(single > values, np.nextafter(single, np.float32(-np.inf)), single)
        return "threshold=" + " ".join(repr(float(each)) for each in single)

    # The model names the sizes of its trees in bytes, to read them in parallel; they are no longer right.
    without_sizes = re.sub(r"^tree_sizes=.*\n", "", model, flags=re.MULTILINE)
    return re.sub(r"^threshold=(.+)$", rounded, without_sizes, flags=re.MULTILINE)


ENGINE = GradientBoosting()
