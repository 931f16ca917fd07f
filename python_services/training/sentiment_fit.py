"""The head of headline_sentiment, fitted with scikit-learn: three classifiers, their blend and its temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encoder_head import FIRST_TOKEN, LAST_TOKEN, TOKENS, Head, occurrences
from .sentiment_data import Ints, Texts

Floats = NDArray[np.float64]
LINEAR_STRENGTHS = (3e-4, 1e-3, 3e-3)
TOKEN_STRENGTHS = (10.0, 30.0)
HIDDEN_UNITS, HIDDEN_PENALTY, HIDDEN_ROUNDS = 128, 3.0, 12
BLEND_STEPS = 10


class TokenFeatures:
    """Weighted tokens and pairs: idf of those in at least two texts, each text scaled to length one."""

    def __init__(self, ids: list[Ints]) -> None:
        seen = np.zeros(TOKENS, np.int64)
        for each in ids:
            seen[np.unique(occurrences(each))] += 1
        seen[[FIRST_TOKEN, LAST_TOKEN]] = 0
        self.index = np.flatnonzero(seen >= 2)
        idf = np.log((1 + len(ids)) / (1 + seen[self.index])) + 1
        self.weight = idf.astype(np.float16)
        self._column = np.full(TOKENS, -1, np.int64)
        self._column[self.index] = np.arange(len(self.index))

    def matrix(self, ids: list[Ints]) -> Any:
        """Sparse [n, kept]."""
        from scipy.sparse import csr_matrix

        weight = self.weight.astype(np.float64)
        columns, values, starts = [], [], [0]
        for each in ids:
            found = self._column[occurrences(each)]
            found = found[found >= 0]
            own = weight[found]
            columns.append(found)
            values.append(own / max(float(np.sqrt((own * own).sum())), 1e-6))
            starts.append(starts[-1] + len(found))
        shape = (len(ids), len(self.index))
        return csr_matrix((np.concatenate(values), np.concatenate(columns), starts), shape=shape)


@dataclass(kw_only=True)
class Parts:
    """The three classifiers of scikit-learn, coefficients rounded to 16 bits, and the scaling of their inputs."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    linear: Any
    hidden: Any
    tokens: TokenFeatures
    token_linear: Any

    def log_probabilities(self, pooled: NDArray[np.float32], ids: list[Ints]) -> Floats:
        """[3 classifiers, n, 3 classes]."""
        scaled = (pooled - self.mean) / self.deviation
        found = (
            self.linear.predict_log_proba(scaled),
            self.hidden.predict_log_proba(scaled),
            self.token_linear.predict_log_proba(self.tokens.matrix(ids)),
        )
        return np.array(found, np.float64)


def _round16(values: Any) -> Any:
    return values.astype(np.float16).astype(np.float64)


def fit_linear(x: Any, label: Ints, strength: float, balanced: bool) -> Any:
    """Multinomial logistic regression, rounded."""
    from sklearn.linear_model import LogisticRegression

    weight = "balanced" if balanced else None
    model = LogisticRegression(C=strength, class_weight=weight, max_iter=200, tol=1e-3).fit(x, label)
    model.coef_, model.intercept_ = _round16(model.coef_), _round16(model.intercept_)
    return model


def fit_hidden(x: Any, label: Ints, seed: int) -> Any:
    """One hidden layer, rounded."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        (HIDDEN_UNITS,), alpha=HIDDEN_PENALTY, learning_rate_init=5e-4, batch_size=128, max_iter=HIDDEN_ROUNDS,
        random_state=seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few rounds on purpose: more of them overfit
        model.fit(x.astype(np.float64), label)
    model.coefs_ = [_round16(each) for each in model.coefs_]
    model.intercepts_ = [_round16(each) for each in model.intercepts_]
    return model


def fit_parts(
    pooled: NDArray[np.float32], ids: list[Ints], label: Ints, chosen: Mapping[str, float], seed: int
) -> Parts:
    """All three, with the strengths that were chosen."""
    mean, deviation = pooled.mean(axis=0), pooled.std(axis=0) + np.float32(1e-6)
    scaled, tokens = (pooled - mean) / deviation, TokenFeatures(ids)
    return Parts(
        mean=mean,
        deviation=deviation,
        linear=fit_linear(scaled, label, chosen["linear_strength"], balanced=False),
        hidden=fit_hidden(scaled, label, seed),
        tokens=tokens,
        token_linear=fit_linear(tokens.matrix(ids), label, chosen["token_strength"], balanced=True),
    )


def blend(logs: Floats, weight: Floats) -> Floats:
    """Probabilities [n, 3] of weighted logarithms [3, n, 3]."""
    total = np.tensordot(weight, logs, axes=1)
    total -= total.max(axis=1, keepdims=True)
    found: Floats = np.exp(total) / np.exp(total).sum(axis=1, keepdims=True)
    return found


def choose_blend(logs: Floats, label: Ints) -> Floats:
    """Weights that sum to one, with the best macro-F1 on the validation part; then the temperature, by likelihood."""
    from scipy.optimize import minimize_scalar
    from sklearn.metrics import f1_score

    steps = [
        np.array([a, b, BLEND_STEPS - a - b]) / BLEND_STEPS
        for a, b in product(range(BLEND_STEPS + 1), repeat=2)
        if a + b <= BLEND_STEPS
    ]
    scored = [(f1_score(label, blend(logs, each).argmax(axis=1), average="macro"), i) for i, each in enumerate(steps)]
    # The mean of the five best is steadier than the best.
    weight = np.mean([steps[i] for _, i in sorted(scored, reverse=True)[:5]], axis=0)

    def loss(log_temperature: float) -> float:
        p = blend(logs, weight / np.exp(log_temperature))[np.arange(len(label)), label]
        return float(-np.log(np.maximum(p, 1e-12)).mean())

    found: Floats = weight / np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x)
    return found


def choose_decision(probability: Floats, label: Ints) -> Floats:
    """Weights [3] by which to multiply probabilities before taking the largest, for the best macro-F1.

    The calibrated answer favours the class that is common; who wants each class found equally often decides with these.
    """
    from sklearn.metrics import f1_score

    steps = [np.array([a, b, 1.0]) for a, b in product(np.geomspace(1, 4, 13), repeat=2)]
    scored = [
        (f1_score(label, (probability * each).argmax(axis=1), average="macro"), i) for i, each in enumerate(steps)
    ]
    found: Floats = np.exp(np.mean([np.log(steps[i]) for _, i in sorted(scored, reverse=True)[:9]], axis=0)).round(2)
    return found


def head_of(low: Any, high: Any, parts: Parts, weight: Floats) -> Head:
    def half(values: Any) -> NDArray[np.float16]:
        return np.asarray(values).astype(np.float16)

    return Head(
        low=low,
        high=high,
        mean=parts.mean,
        deviation=parts.deviation,
        linear=half(parts.linear.coef_.T),
        linear_bias=half(parts.linear.intercept_),
        hidden=half(parts.hidden.coefs_[0]),
        hidden_bias=half(parts.hidden.intercepts_[0]),
        output=half(parts.hidden.coefs_[1]),
        output_bias=half(parts.hidden.intercepts_[1]),
        token_index=parts.tokens.index.astype(np.int32),
        token_weight=parts.tokens.weight,
        token_coefficient=half(parts.token_linear.coef_.T),
        token_bias=half(parts.token_linear.intercept_),
        blend=weight.astype(np.float32),
    )


def choose_strengths(pooled: NDArray[np.float32], texts: Texts, fitting: Ints, choosing: Ints) -> dict[str, float]:
    """Strengths with the best macro-F1 on the validation part, one classifier at a time."""
    from sklearn.metrics import f1_score

    def ids(rows: Ints) -> list[Ints]:
        return [texts.ids[row] for row in rows]

    def best(said: Mapping[float, Ints]) -> float:
        return max(said, key=lambda strength: float(f1_score(known, said[strength], average="macro")))

    scaled = (pooled - pooled[fitting].mean(axis=0)) / (pooled[fitting].std(axis=0) + np.float32(1e-6))
    tokens = TokenFeatures(ids(fitting))
    token_fit, token_choose = tokens.matrix(ids(fitting)), tokens.matrix(ids(choosing))
    label, known = texts.label[fitting], texts.label[choosing]
    linear = {c: fit_linear(scaled[fitting], label, c, False).predict(scaled[choosing]) for c in LINEAR_STRENGTHS}
    token = {c: fit_linear(token_fit, label, c, True).predict(token_choose) for c in TOKEN_STRENGTHS}
    return {"linear_strength": best(linear), "token_strength": best(token)}
