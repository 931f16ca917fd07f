"""Linear baseline with scikit-learn: what a model with trees has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import Floats, Parameters


class Line:
    """A linear score: features @ weights + offset. Scaling is folded into the weights."""

    def __init__(self, weights: Floats, offset: float) -> None:
        self._weights = weights
        self._offset = offset

    def score(self, features: NDArray[np.float32]) -> Floats:
        """Raw score."""
        found: Floats = features.astype(np.float64) @ self._weights + self._offset
        return found

    def nodes(self, prefix: str, features: str, score: str) -> tuple[list[Any], list[Any]]:
        """One Gemm."""
        from onnx import helper, numpy_helper

        weights = numpy_helper.from_array(self._weights.astype(np.float32)[:, None], f"{prefix}_weights")
        offset = numpy_helper.from_array(np.array([self._offset], dtype=np.float32), f"{prefix}_offset")
        inputs = [features, weights.name, offset.name]
        return [helper.make_node("Gemm", inputs, [score], name=f"{prefix}_line")], [weights, offset]


class Ridge:
    """Logistic regression for the direction; ridge on the logarithm for the variance."""

    def direction(self, features: NDArray[np.float32], up: Floats, parameters: Parameters, seed: int) -> Line:
        """See Engine."""
        from sklearn.linear_model import LogisticRegression

        scaled, mean, scale = _standardised(features)
        fitted = LogisticRegression(C=1.0 / parameters["l2"], max_iter=1000).fit(scaled, up)
        return _unscaled(fitted.coef_[0], float(fitted.intercept_[0]), mean, scale)

    def variance(self, features: NDArray[np.float32], variance: Floats, parameters: Parameters, seed: int) -> Line:
        """See Engine."""
        from sklearn.linear_model import Ridge as LinearRidge

        scaled, mean, scale = _standardised(features)
        logarithm = np.log(variance)
        fitted = LinearRidge(alpha=parameters["l2"]).fit(scaled, logarithm)
        # The mean of a logarithm lies below the logarithm of the mean: what is left is what makes the mean ratio 1.
        shift = float(np.log(np.mean(variance / np.exp(fitted.predict(scaled)))))
        return _unscaled(fitted.coef_, float(fitted.intercept_) + shift, mean, scale)


def _standardised(features: NDArray[np.float32]) -> tuple[Floats, Floats, Floats]:
    wide = features.astype(np.float64)
    mean, scale = wide.mean(axis=0), wide.std(axis=0)
    scale[scale == 0.0] = 1.0
    return (wide - mean) / scale, mean, scale


def _unscaled(weights: Floats, offset: float, mean: Floats, scale: Floats) -> Line:
    return Line(weights / scale, offset - float(mean @ (weights / scale)))


ENGINE = Ridge()
