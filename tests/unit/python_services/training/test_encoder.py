"""The encoder's graph computes BERT: compared with a plain NumPy one on random weights, in float32 and in int8."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from python_services.training import encoder
from python_services.training.encoder_graph import QUANTISED, quantise_columns
from python_services.training.encoder_head import PAIR_BUCKETS, POOLED, VOCABULARY, Head, occurrences
from python_services.training.encoder_weights import HEADS, LAYERS, WIDTH, EncoderMissingError, read_file, read_weights
from python_services.training.sentiment_data import run, session
from python_services.training.sentiment_training import activation_ranges

IDS = [np.array(each, np.int64) for each in ([101, 7, 9, 102], [101, 2000, 5, 17, 17, 30000, 8, 102], [101, 102])]


@pytest.fixture(scope="module")
def weights():
    random = np.random.default_rng(3)

    def some(*shape, scale=0.05):
        return (random.standard_normal(shape) * scale).astype(np.float32)

    def norm(name):
        return {f"{name}.LayerNorm.weight": 1 + some(WIDTH), f"{name}.LayerNorm.bias": some(WIDTH)}

    found = {
        "embeddings.word_embeddings.weight": some(VOCABULARY, WIDTH),
        "embeddings.position_embeddings.weight": some(512, WIDTH),
        "embeddings.token_type_embeddings.weight": some(2, WIDTH),
        **norm("embeddings"),
    }
    for i in range(LAYERS):
        base = f"encoder.layer.{i}"
        for name, out, into in (
            *((f"attention.self.{part}", WIDTH, WIDTH) for part in ("query", "key", "value")),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", 4 * WIDTH, WIDTH),
            ("output.dense", WIDTH, 4 * WIDTH),
        ):
            found |= {f"{base}.{name}.weight": some(out, into), f"{base}.{name}.bias": some(out)}
        found |= norm(f"{base}.attention.output") | norm(f"{base}.output")
    return found


def plain_bert(w, ids):
    """Mean hidden state of every layer for one text, as the paper says it."""

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    def dense(x, name):
        return x @ w[f"{name}.weight"].T.astype(np.float64) + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids].astype(np.float64)
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings")
    means = [x.mean(axis=0)]
    for i in range(LAYERS):
        base = f"encoder.layer.{i}"
        q, k, v = (
            dense(x, f"{base}.attention.self.{part}").reshape(len(ids), HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(1, 2) / math.sqrt(WIDTH / HEADS)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        context = (share / share.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(ids), WIDTH)
        x = norm(x + dense(context, f"{base}.attention.output.dense"), f"{base}.attention.output")
        wide = dense(x, f"{base}.intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(x + dense(wide, f"{base}.output.dense"), f"{base}.output")
        means.append(x.mean(axis=0))
    return np.concatenate(means)


def test_float_and_int8_graphs_compute_bert(weights):
    expected = np.array([plain_bert(weights, ids) for ids in IDS])
    exact = run(encoder.pooled_model(weights, None), IDS, "pooled")
    assert exact.shape == (3, POOLED)
    np.testing.assert_allclose(exact, expected, atol=2e-5)
    ranges = encoder.ranges_of(*activation_ranges(weights, IDS))
    assert set(ranges) == set(QUANTISED)
    model = encoder.pooled_model(weights, ranges)
    quantised = run(model, IDS, "pooled")
    assert np.abs(quantised - expected).mean() < 0.06 * np.abs(expected).mean()
    # No answer depends on the rows beside it, or on how far they pad it.
    alone = [run(model, [ids], "pooled")[0] for ids in IDS]
    np.testing.assert_allclose(quantised, alone, atol=2e-5)
    assert model == encoder.pooled_model(weights, ranges)


def test_seven_bit_weights():
    weight = np.array([[1.0, -3.0], [0.5, 6.0], [-0.01, 0.0]], np.float32)
    values, scale = quantise_columns(weight)
    assert np.abs(values).max() <= 64
    np.testing.assert_allclose(values * scale, weight, atol=float(scale.max()) / 2)


def test_pairs_follow_tokens():
    found = occurrences(np.array([101, 7, 102], np.int64))
    assert found[:3].tolist() == [101, 7, 102]
    assert (found[3:] >= VOCABULARY).all()
    assert (found[3:] < VOCABULARY + PAIR_BUCKETS).all()


def test_a_head_survives_its_file_and_pickles_are_refused(tmp_path: Path):
    content = (encoder.VERSION / encoder.HEAD).read_bytes()
    head = Head.from_bytes(content)
    assert head.to_bytes() == Head.from_bytes(head.to_bytes()).to_bytes()
    path = tmp_path / "bad.npz"
    np.savez(path, low=np.array([object()]))
    with pytest.raises((ValueError, KeyError)):
        Head.from_bytes(path.read_bytes())


def test_a_missing_or_altered_encoder_is_named(tmp_path: Path):
    with pytest.raises(EncoderMissingError, match="make encoder"):
        read_weights(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(EncoderMissingError, match="sha256"):
        read_file("tokenizer.json", tmp_path)


def test_the_head_of_the_graph_is_the_head_of_the_file():
    """Three classifiers by hand, from the arrays of the file."""
    head = Head.from_bytes((encoder.VERSION / encoder.HEAD).read_bytes())
    pooled = np.random.default_rng(5).standard_normal((1, POOLED)).astype(np.float32)
    ids = np.array([[101, 2482, 2039, 8823, 102]], np.int64)
    inputs = {encoder.IDS: ids, encoder.MASK: np.ones_like(ids), "pooled": pooled}
    answer = session(encoder.head_model(head)).run([encoder.OUTPUT], inputs)[0][0]
    scaled = (pooled[0] - head.mean) / head.deviation
    sums = head.token_table()[occurrences(ids[0])].astype(np.float64).sum(axis=0)
    logits = (
        scaled @ head.linear.astype(np.float64) + head.linear_bias,
        np.maximum(scaled @ head.hidden.astype(np.float64) + head.hidden_bias, 0) @ head.output.astype(np.float64)
        + head.output_bias,
        sums[:3] / math.sqrt(sums[3]) + head.token_bias,
    )
    total = sum(weight * each for weight, each in zip(head.blend.astype(np.float64), logits, strict=True))
    expected = np.exp(total - total.max()) / np.exp(total - total.max()).sum()
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_the_command_tells_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    version = tmp_path / "triton_models" / "headline_sentiment" / "1"
    version.mkdir(parents=True)
    (version / "card.json").write_text(json.dumps({"onnx_sha256": "0" * 64}))
    monkeypatch.setattr(encoder, "VERSION", version)
    monkeypatch.setattr(encoder, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["encoder", "--check"])
    assert encoder.main() == 1
    assert "make encoder" in capsys.readouterr().err
