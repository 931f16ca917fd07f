"""How headline_sentiment is trained: int8 calibrated, texts embedded, head fitted and judged, card and goldens made."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import encoder
from .encoder_graph import QUANTISED
from .encoder_head import CLASSES, Head
from .encoder_weights import EncoderMissingError, Weights, read_file, read_weights
from .errors import TrainingError
from .recipes import Golden, TrainContext, Trained
from .sentiment_card import SENTENCES, card, figures
from .sentiment_data import Ints, batches, read_texts, run, session
from .sentiment_fit import HIDDEN_UNITS, blend, choose_blend, choose_decision, choose_strengths, fit_parts, head_of

CALIBRATION_ROWS = 512
DECIDED = ("accuracy", "macro_f1", *(f"{name}_{part}" for name in CLASSES for part in ("precision", "recall", "f1")))


def activation_ranges(weights: Weights, ids: list[Ints]) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Lowest and highest value of every channel of every quantised activation, rounded to 16 bits."""
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


def train(context: TrainContext) -> Trained:
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

    def take(rows: Ints) -> list[Ints]:
        return [texts.ids[row] for row in rows]

    chosen = choose_strengths(pooled, texts, fitting, choosing)
    parts = fit_parts(pooled[fitting], take(fitting), texts.label[fitting], chosen, context.seed)
    weight = choose_blend(parts.log_probabilities(pooled[choosing], take(choosing)), texts.label[choosing])
    validation = blend(parts.log_probabilities(pooled[choosing], take(choosing)), weight)
    decision = choose_decision(validation, texts.label[choosing])
    context.progress(3, 5, "fit")
    both = np.concatenate([fitting, choosing])
    parts = fit_parts(pooled[both], take(both), texts.label[both], chosen, context.seed)
    head = head_of(low, high, parts, weight)
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
