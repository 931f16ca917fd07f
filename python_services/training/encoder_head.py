"""The head of headline_sentiment: three small classifiers on the frozen encoder and on the tokens, blended.

    linear   multinomial logistic regression on the mean hidden state of every layer, concatenated
    hidden   the same with one hidden layer of rectified units
    tokens   logistic regression on weighted tokens and pairs of neighbouring tokens (TF-IDF), pairs hashed

Everything is read from `input_ids`, so the served model needs no text. Its probabilities are
softmax(sum of weight * logits / temperature).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encoder_weights import LAYERS, VOCABULARY, WIDTH

POOLED = (LAYERS + 1) * WIDTH
CLASSES = ("bearish", "bullish", "neutral")
PAIR_BUCKETS, PAIR_FACTOR = 1 << 17, 31_337
TOKENS = VOCABULARY + PAIR_BUCKETS
FIRST_TOKEN, LAST_TOKEN = 101, 102  # stand at the ends of every text, so they weigh nothing alone
Floats = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Head:
    """Arrays of the trained head; floats of 16 bits stand for exactly the values that the library was left with.

    low, high: activation ranges by channel, all sites in the encoder's order, one after the other.
    token_index [m], token_weight [m] (idf), token_coefficient [m, 3]: of the m tokens and pairs that were kept.
    blend [3]: weight of linear, hidden and tokens, the temperature included.
    """

    low: Floats
    high: Floats
    mean: Floats
    deviation: Floats
    linear: Floats
    linear_bias: Floats
    hidden: Floats
    hidden_bias: Floats
    output: Floats
    output_bias: Floats
    token_index: Floats
    token_weight: Floats
    token_coefficient: Floats
    token_bias: Floats
    blend: Floats

    def to_bytes(self) -> bytes:
        """An .npz without pickles; equal heads have equal bytes."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Head:
        """Raises ValueError for pickled objects, KeyError for a missing array."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def token_table(self) -> NDArray[np.float32]:
        """[TOKENS, 4]: what one occurrence adds to the three logits, and to the squared length."""
        table = np.zeros((TOKENS, len(CLASSES) + 1), np.float32)
        weight = self.token_weight.astype(np.float32)
        table[self.token_index, : len(CLASSES)] = self.token_coefficient.astype(np.float32) * weight[:, None]
        table[self.token_index, len(CLASSES)] = weight * weight
        return table


def occurrences(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices into the token table of one text's ids, ends included: every token, then every pair of neighbours."""
    pairs = (ids[:-1] * PAIR_FACTOR + ids[1:]) % PAIR_BUCKETS
    return np.concatenate([ids, VOCABULARY + pairs])
