"""headline_sentiment: is a headline about a company or a market bearish, bullish or neutral.

The encoder (all-MiniLM-L6-v2, int8) stays as published; a head is fitted on labelled tweets, which are not part of the
project: give their path. Split by the hash of each text: 70% to fit, 15% to choose, 15% never looked at until the end.

    python -m python_services.training.recipes.headline_sentiment --data sent_train.csv.gz
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import encoder
from ..encoder_graph import QUANTISED
from ..encoder_head import CLASSES, FIRST_TOKEN, LAST_TOKEN, TOKENS, Head, occurrences
from ..encoder_weights import EncoderMissingError, Weights, read_file, read_weights
from ..errors import TrainingError
from . import Golden, TrainContext, Trained
from ._sentiment_card import SENTENCES, card, figures

SHARES = (0.70, 0.85)
LINEAR_STRENGTHS = (3e-4, 1e-3, 3e-3)
TOKEN_STRENGTHS = (10.0, 30.0)
HIDDEN_UNITS, HIDDEN_PENALTY, HIDDEN_ROUNDS = 128, 3.0, 12
BLEND_STEPS = 10
CALIBRATION_ROWS = 512
BATCH = 32
DECIDED = ("accuracy", "macro_f1", *(f"{name}_{part}" for name in CLASSES for part in ("precision", "recall", "f1")))
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Distinct texts: ids (ends included), label, row hash (of the ids, so it tells nothing of the text), part 0..2."""

    ids: list[Ints]
    label: Ints
    row_hash: list[str]
    part: Ints
    read: int
    contradictory: int


def read_texts(path: Path, tokenizer: Any) -> Texts:
    """Reads columns text, label; drops repeats (same ids) and texts with two labels. Raises TrainingError."""
    if not path.is_file():
        raise TrainingError("DATA_MISSING", f"{path} is not a file; give --data, a .csv.gz with columns text and label")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        labels = [int(row["label"]) for row in rows]
        encoded = tokenizer.encode_batch([row["text"] for row in rows])
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError("DATA_INVALID", f"{path}: {error}; columns are text and label (0, 1 or 2)") from None
    found: dict[str, tuple[Ints, set[int]]] = {}
    for each, label in zip(encoded, labels, strict=True):
        ids = np.array(each.ids, np.int64)
        found.setdefault(hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(), (ids, set()))[1].add(label)
    kept = {key: (ids, next(iter(said))) for key, (ids, said) in found.items() if len(said) == 1}
    names = sorted(kept)
    label_of = np.array([kept[name][1] for name in names], np.int64)
    part = np.zeros(len(names), np.int64)
    for kind in range(len(CLASSES)):
        members = np.flatnonzero(label_of == kind)  # in the order of their hashes, which is as good as random
        for share in SHARES:
            part[members[round(share * len(members)) :]] += 1
    return Texts(
        ids=[kept[name][0] for name in names],
        label=label_of,
        row_hash=names,
        part=part,
        read=len(rows),
        contradictory=len(found) - len(kept),
    )


def batches(ids: list[Ints], size: int = BATCH) -> Iterator[tuple[Ints, dict[str, Ints]]]:
    """Row numbers and padded inputs, texts of like length together."""
    order = np.argsort([len(each) for each in ids], kind="stable")
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield rows, pad([ids[row] for row in rows])


def pad(ids: list[Ints]) -> dict[str, Ints]:
    """Inputs of the model for some texts: padded to the longest of them."""
    width = max(len(each) for each in ids)
    padded, mask = np.zeros((len(ids), width), np.int64), np.zeros((len(ids), width), np.int64)
    for row, each in enumerate(ids):
        padded[row, : len(each)], mask[row, : len(each)] = each, 1
    return {encoder.IDS: padded, encoder.MASK: mask}


def session(content: bytes) -> Any:
    """ONNX Runtime in one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(content: bytes, ids: list[Ints], output: str) -> NDArray[np.float32]:
    """One output of a model for every text, in order."""
    model, found = session(content), None
    for rows, inputs in batches(ids):
        values = model.run([output], inputs)[0]
        if found is None:
            found = np.zeros((len(ids), values.shape[1]), np.float32)
        found[rows] = values
    assert found is not None
    return found


def activation_ranges(weights: Weights, ids: list[Ints]) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Lowest and highest value of every channel of every quantised activation, rounded outwards."""
    tapped = {site: _tap(site) for site in QUANTISED}
    model = session(encoder.pooled_model(weights, None, tuple(tapped.values())))
    names = [f"{node}.{end}" for node in tapped.values() for end in ("low", "high")]
    low: list[Any] = []
    high: list[Any] = []
    for _, inputs in batches(ids, 8):
        values = model.run(names, inputs)
        low = [np.minimum(a, b) for a, b in zip(low, values[::2], strict=True)] if low else values[::2]
        high = [np.maximum(a, b) for a, b in zip(high, values[1::2], strict=True)] if high else values[1::2]
    return np.concatenate(low).astype(np.float16), np.concatenate(high).astype(np.float16)


def _tap(site: str) -> str:
    layer, place = site.split(".")
    number = int(layer.removeprefix("layer"))
    return site if place != "input" else "layer0.in" if number == 0 else f"layer{number - 1}.out"


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


class HeadlineSentiment:
    """See the module."""

    model_id = "headline_sentiment"
    title = "Sentiment of a financial headline"
    reads: Literal["market", "files"] = "files"

    def defaults(self) -> Mapping[str, Any]:
        """The shipped version; `data` must be given, for the texts do not ship."""
        return {"model_id": self.model_id, "seed": 7, "parameters": {"data": ""}}

    def train(self, context: TrainContext) -> Trained:
        """See Recipe. Parameter `data`: a .csv.gz with columns text and label (0 bearish, 1 bullish, 2 neutral)."""
        from tokenizers import Tokenizer

        data = Path(context.settings.get("parameters", {}).get("data") or "the labelled texts")
        try:
            weights, tokenizer_json = read_weights(), encoder.tokenizer_json()
            licence = read_file("LICENSE")
        except EncoderMissingError as error:
            raise TrainingError("ENCODER_MISSING", str(error)) from None
        tokenizer = Tokenizer.from_str(tokenizer_json.decode())
        tokenizer.no_padding()
        texts = read_texts(data, tokenizer)
        fitting, choosing, unseen = (np.flatnonzero(texts.part == part) for part in range(3))
        context.progress(0, 5, "calibration of int8")
        sample = context.rng().permutation(fitting)[:CALIBRATION_ROWS]
        low, high = activation_ranges(weights, [texts.ids[row] for row in sample])
        context.progress(1, 5, "embedding")
        pooled = run(encoder.pooled_model(weights, encoder.ranges_of(low, high)), texts.ids, "pooled")
        context.progress(2, 5, "choice on the validation part")
        take = lambda rows: [texts.ids[row] for row in rows]  # noqa: E731
        chosen = self._choose(pooled, texts, fitting, choosing)
        parts = fit_parts(pooled[fitting], take(fitting), texts.label[fitting], chosen, context.seed)
        weight = choose_blend(parts.log_probabilities(pooled[choosing], take(choosing)), texts.label[choosing])
        validation = blend(parts.log_probabilities(pooled[choosing], take(choosing)), weight)
        decision = choose_decision(validation, texts.label[choosing])
        context.progress(3, 5, "fit")
        both = np.concatenate([fitting, choosing])
        parts = fit_parts(pooled[both], take(both), texts.label[both], chosen, context.seed)
        head = _head(low, high, parts, weight)
        context.progress(4, 5, "test")
        content = encoder.sentiment_model(weights, head)
        library = blend(parts.log_probabilities(pooled[unseen], take(unseen)), head.blend)
        served = run(content, take(unseen), encoder.OUTPUT)
        exact = run(encoder.sentiment_model(weights, head, int8=False), take(unseen), encoder.OUTPUT)
        difference = float(np.abs(_head_only(head, take(unseen), pooled[unseen]) - library).max())
        if not difference <= 1e-5:
            raise TrainingError("ONNX_DIFFERS", f"the ONNX head differs from the library by {difference:.3g}")
        golden = _golden(content, tokenizer_json)
        made = card(
            seed=context.seed,
            data={
                "source": "zeroshot/twitter-financial-news-sentiment (MIT); the text is not part of the project",
                "sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
                "rows": texts.read,
                "distinct": len(texts.ids),
                "contradictory": texts.contradictory,
                "rows_to_fit": len(both),
                "rows_unseen": len(unseen),
                "classes": dict(zip(CLASSES, np.bincount(texts.label).tolist(), strict=True)),
            },
            metrics=figures(served, texts.label[unseen])
            | {f"decided_{k}": v for k, v in figures(served, texts.label[unseen], decision).items() if k in DECIDED}
            | {"fp32_macro_f1": figures(exact, texts.label[unseen])["macro_f1"]}
            | {"int8_largest_difference": float(np.abs(exact - served).max())}
            | {"int8_mean_difference": float(np.abs(exact - served).mean())}
            | {"int8_same_class": float((exact.argmax(1) == served.argmax(1)).mean())}
            | {"validation_macro_f1": figures(validation, texts.label[choosing])["macro_f1"]},
            labels=texts.label[unseen],
            decision=decision,
            parameters={
                **chosen,
                "blend": [round(float(each), 4) for each in head.blend],
                "hidden_units": HIDDEN_UNITS,
            },
            onnx_difference=difference,
        )
        files = {
            encoder.HEAD: head.to_bytes(),
            encoder.TOKENIZER: tokenizer_json,
            "LICENSE.encoder": licence,
            "unseen_rows.txt": "".join(f"{texts.row_hash[row][:16]}\n" for row in unseen).encode(),
        }
        context.progress(5, 5, "done")
        return Trained(onnx_bytes=content, card=made, golden=golden, max_batch_size=64, files=files)

    def _choose(self, pooled: NDArray[np.float32], texts: Texts, fitting: Ints, choosing: Ints) -> dict[str, float]:
        """Strengths with the best macro-F1 on the validation part, one classifier at a time."""
        from sklearn.metrics import f1_score

        ids = lambda rows: [texts.ids[row] for row in rows]  # noqa: E731
        scaled = (pooled - pooled[fitting].mean(axis=0)) / (pooled[fitting].std(axis=0) + np.float32(1e-6))
        tokens = TokenFeatures(ids(fitting))
        token_fit, token_choose = tokens.matrix(ids(fitting)), tokens.matrix(ids(choosing))
        label, known = texts.label[fitting], texts.label[choosing]
        linear = {c: fit_linear(scaled[fitting], label, c, False).predict(scaled[choosing]) for c in LINEAR_STRENGTHS}
        token = {c: fit_linear(token_fit, label, c, True).predict(token_choose) for c in TOKEN_STRENGTHS}
        best = lambda said: max(said, key=lambda c: f1_score(known, said[c], average="macro"))  # noqa: E731
        return {"linear_strength": best(linear), "token_strength": best(token)}


def _head(low: Any, high: Any, parts: Parts, weight: Floats) -> Head:
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


def _head_only(head: Head, ids: list[Ints], pooled: NDArray[np.float32]) -> NDArray[np.float32]:
    model = session(encoder.head_model(head))
    found = np.zeros((len(ids), len(CLASSES)), np.float32)
    for rows, inputs in batches(ids):
        found[rows] = model.run([encoder.OUTPUT], {**inputs, "pooled": pooled[rows]})[0]
    return found


def _golden(content: bytes, tokenizer_json: bytes) -> Golden:
    """Our own sentences. The tolerance is wide because a float in its last bit can move an int8 step elsewhere."""
    from tokenizers import Tokenizer

    encoded = Tokenizer.from_str(tokenizer_json.decode()).encode_batch(list(SENTENCES))
    inputs = {
        encoder.IDS: np.array([each.ids for each in encoded], np.int64),
        encoder.MASK: np.array([each.attention_mask for each in encoded], np.int64),
    }
    return Golden(
        inputs=inputs, outputs={encoder.OUTPUT: session(content).run([encoder.OUTPUT], inputs)[0]}, tolerance=2e-2
    )


RECIPE = HeadlineSentiment()

if __name__ == "__main__":
    from ._command import main

    sys.exit(main(RECIPE, data="the labelled texts: .csv.gz with columns text and label"))
