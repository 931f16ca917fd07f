"""The shipped headline_sentiment: its files, its tokens, its goldens; its figures where the texts are at hand."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from python_services.training import encoder
from python_services.training.artifacts import read_golden
from python_services.training.cards import Card
from python_services.training.encoder_head import CLASSES, Head
from python_services.training.encoder_weights import EncoderMissingError, read_weights
from python_services.training.errors import TrainingError
from python_services.training.sentiment_card import SENTENCES, figures
from python_services.training.sentiment_data import pad, read_texts, run, session
from python_services.training.sentiment_fit import choose_blend

FOLDER = encoder.VERSION
CARD = Card.from_json((FOLDER / "card.json").read_bytes())
DATA = os.environ.get("ALPHAMESH_SENTIMENT_DATA", "")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(FOLDER / encoder.TOKENIZER))


@pytest.fixture(scope="module")
def model():
    """The served file, built here as `make encoder` does it."""
    try:
        weights = read_weights()
    except EncoderMissingError as error:
        pytest.skip(str(error))
    return encoder.sentiment_model(weights, Head.from_bytes((FOLDER / encoder.HEAD).read_bytes()))


def test_the_files_are_those_of_the_card():
    for name, digest in CARD.files.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
    assert "MIT License" in (FOLDER / "LICENSE.encoder").read_text(encoding="utf-8")
    assert CARD.onnx_difference <= 1e-5
    assert [each["name"] for each in CARD.inputs] == [encoder.IDS, encoder.MASK]


def test_no_text_of_the_data_is_shipped():
    rows = (FOLDER / "unseen_rows.txt").read_text().split()
    assert len(rows) == CARD.data["rows_unseen"]
    assert all(len(row) == 16 and int(row, 16) >= 0 for row in rows)


def test_the_tokenizer_drops_links_lowers_case_cuts_and_pads(tokenizer):
    plain, link, upper, long = tokenizer.encode_batch(
        ["Shares fall", "Shares fall https://t.co/AbC1 ", "SHARES FALL", "word " * 200]
    )
    assert plain.ids[:4] == link.ids[:4] == upper.ids[:4]
    assert plain.tokens[:4] == ["[CLS]", "shares", "fall", "[SEP]"]
    assert len(long.ids) == encoder.LONGEST == len(plain.ids)
    assert sum(plain.attention_mask) == 4
    assert len(tokenizer.encode_batch(["Shares fall"])[0].ids) == 4


def test_golden_inputs_are_our_sentences(tokenizer):
    golden = read_golden((FOLDER / "golden.json").read_bytes())
    assert golden.inputs[encoder.IDS].tolist() == [each.ids for each in tokenizer.encode_batch(list(SENTENCES))]


def test_the_build_has_the_bytes_of_the_card(model):
    assert hashlib.sha256(model).hexdigest() == CARD.onnx_sha256


def test_golden_rows(model):
    golden = read_golden((FOLDER / "golden.json").read_bytes())
    answer = session(model).run([encoder.OUTPUT], dict(golden.inputs))[0]
    np.testing.assert_allclose(answer, golden.outputs[encoder.OUTPUT], atol=golden.tolerance)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)


def test_a_headline_is_answered_alike_alone_and_in_company(model, tokenizer):
    tokenizer.no_padding()
    ids = [np.array(each.ids, np.int64) for each in tokenizer.encode_batch(list(SENTENCES))]
    together = session(model).run([encoder.OUTPUT], pad(ids))[0]
    alone = np.concatenate([session_run for each in ids[:4] for session_run in [run(model, [each], encoder.OUTPUT)]])
    np.testing.assert_allclose(together[:4], alone, atol=1e-4)


def test_plain_news_is_understood(model, tokenizer):
    texts = [
        "Shares surge after profit beats estimates",
        "Stock plunges as company cuts its outlook",
        "Board meets on Tuesday",
    ]
    encoded = tokenizer.encode_batch(texts)
    tokenizer.no_padding()
    answer = run(model, [np.array(each.ids, np.int64)[: sum(each.attention_mask)] for each in encoded], encoder.OUTPUT)
    assert [CLASSES[each] for each in answer.argmax(axis=1)] == ["bullish", "bearish", "neutral"]


@pytest.mark.skipif(not DATA, reason="the labelled texts do not ship: set ALPHAMESH_SENTIMENT_DATA to their .csv.gz")
def test_the_cards_figures_are_those_of_the_served_file_on_unseen_rows(model, tokenizer):
    tokenizer.no_padding()
    texts = read_texts(Path(DATA), tokenizer)
    unseen = np.flatnonzero(texts.part == 2)
    named = set((FOLDER / "unseen_rows.txt").read_text().split())
    assert {texts.row_hash[row][:16] for row in unseen} == named
    decision = np.array(CARD.parameters["decision_weights"])
    answer = run(model, [texts.ids[row] for row in unseen], encoder.OUTPUT)
    found = figures(answer, texts.label[unseen])
    for name, value in found.items():
        assert CARD.metrics[name] == pytest.approx(value, abs=5e-3), name
    decided = figures(answer, texts.label[unseen], decision)
    assert CARD.metrics["decided_macro_f1"] == pytest.approx(decided["macro_f1"], abs=5e-3)


def write(path: Path, rows: list[tuple[str, int | str]]) -> Path:
    path.write_bytes(gzip.compress(("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows)).encode()))
    return path


def test_repeats_and_contradictions_are_dropped_and_parts_are_disjoint(tmp_path: Path, tokenizer):
    tokenizer.no_padding()
    rows = [(f"headline number {i}", i % 3) for i in range(300)]
    rows += [
        ("Headline NUMBER 5 https://t.co/x", 2),
        ("headline number 7", 2),
    ]  # a repeat, and a contradiction of 7 (1)
    texts = read_texts(write(tmp_path / "a.csv.gz", rows), tokenizer)
    assert (texts.read, len(texts.ids), texts.contradictory) == (302, 299, 1)
    shares = [np.bincount(texts.label[texts.part == part], minlength=3) for part in range(3)]
    assert [int(each.sum()) for each in shares] == [209, 45, 45]
    again = read_texts(write(tmp_path / "b.csv.gz", rows[::-1]), tokenizer)
    assert (again.row_hash, again.part.tolist()) == (texts.row_hash, texts.part.tolist())


@pytest.mark.parametrize(("rows", "reason"), [(None, "DATA_MISSING"), ([("a", "high")], "DATA_INVALID")])
def test_wrong_data_is_refused(tmp_path: Path, tokenizer, rows, reason: str):
    path = tmp_path / "x.csv.gz"
    if rows:
        write(path, rows)
    with pytest.raises(TrainingError) as refused:
        read_texts(path, tokenizer)
    assert refused.value.reason == reason


def test_figures_of_a_known_table():
    probability = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]])
    label = np.array([0, 1, 2, 2])
    found = figures(probability, label)
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert found["brier"] == pytest.approx((0.06 + 0.86 + 0.06 + 0.24) / 4)
    assert figures(probability, label, np.array([1.0, 2.5, 1.0]))["accuracy"] == 1.0


def test_the_blend_prefers_who_knows_and_cools_who_boasts():
    label = np.arange(300) % 3
    right, noise = np.eye(3)[label] * 6, np.random.default_rng(1).standard_normal((300, 3))
    logs = np.array(
        [np.log(np.exp(each) / np.exp(each).sum(1, keepdims=True)) for each in (noise, right + noise, noise[::-1])]
    )
    weight = choose_blend(logs, label)
    assert weight[1] > max(weight[0], weight[2])
