"""From words to a number: the model that Triton serves, once for each text, and a lexicon for what it does not answer.

Every text is a question of its own, in its own length. In a batch the matrix kernels add up in another order, which
moves the last bits of an answer; so what else is asked at that moment could change a decision. Alone, a text has the
same score bit for bit in any company and over both transports.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from python_services.kit import deadline, telemetry
from python_services.kit.agents import Floats, Mask
from python_services.kit.inference import InferenceClient, InferenceError, Reason

REMEMBERED = 200_000  # scores
WAITING = 1_000  # texts that wait for the model; more are asked for when these have answers
AT_ONCE = 2  # the model answers one after the other: the second is on its way meanwhile
RESERVE_S = 0.3  # of the caller's time, for everything after the scores

Lexicon = Callable[[str], float]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of each text: -1 to 1, whether the lexicon gave it, and why it had to."""

    value: Floats
    lexical: Mask
    problem: str | None


class Scorer:
    """Scores of one version of one model. What was scored is remembered: a text never changes its score."""

    def __init__(
        self,
        models: InferenceClient,
        tokenizer: Any,
        lexicon: Lexicon,
        *,
        model_id: str,
        version: int,
        patience_s: float,
        timeout_s: float,
    ) -> None:
        self.model = f"{model_id}:{version}"
        self._models = models
        self._tokenizer = tokenizer
        self._lexicon = lru_cache(maxsize=8_192)(lexicon)
        self._model_id = model_id
        self._version = version
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[InferenceError | None]] = {}
        self._free = asyncio.Semaphore(AT_ONCE)
        self._forecasts = 0  # that are being made
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def attention(self) -> Iterator[None]:
        """While a forecast is made nothing is begun to be scored ahead: both take time of the same processors."""
        self._forecasts += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._forecasts -= 1
            if not self._forecasts:
                self._idle.set()

    async def score(self, texts: Sequence[str], *, of: int | None = None) -> Scores:
        """Never waits longer than the caller. What did not come in time goes on being asked, for the next forecast.

        of: how many texts the forecast rests on, where others are known.
        """
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        problem = ""
        if missing:
            with self.attention():
                problem = await self._ask_all(missing)
        value, lexical = np.empty(len(texts)), np.zeros(len(texts), dtype=np.bool_)
        for i, key in enumerate(keys):
            known = self._known.get(key)
            lexical[i] = known is None
            value[i] = self._lexicon(texts[i]) if known is None else known
            if known is not None:
                self._known.move_to_end(key)
        while len(self._known) > max(REMEMBERED, len(texts)):
            self._known.popitem(last=False)
        if not lexical.any():
            return Scores(value=value, lexical=lexical, problem=None)
        said = f"{lexical.sum()} of {of or len(texts)} texts are scored by the VADER lexicon: {self.model} {problem}"
        telemetry.logger().warning("degraded", reason=said)
        return Scores(value=value, lexical=lexical, problem=said)

    async def ahead(self, text: str) -> InferenceError | None:
        """Scores a text that nobody has asked about yet, after those that somebody waits for."""
        key = hashlib.sha256(text.encode()).digest()
        await self._idle.wait()
        if key in self._known or key in self._asking:
            return None
        return await self._begin(key, text)

    async def close(self) -> None:
        """Ends what is being asked."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, key: bytes, text: str) -> asyncio.Task[InferenceError | None]:
        self._asking[key] = task = asyncio.create_task(self._ask(key, text))
        task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _ask_all(self, missing: dict[bytes, str]) -> str:
        """What to say of those that are not known afterwards."""
        for key, text in missing.items():
            if key not in self._asking and len(self._asking) < WAITING:
                self._begin(key, text)
        tasks = [self._asking[key] for key in missing if key in self._asking]
        left = deadline.bounded(self._patience_s + RESERVE_S) or 0.0
        done = (await asyncio.wait(tasks, timeout=max(left - RESERVE_S, 0.0)))[0] if tasks else set()
        errors = [error for task in tasks if task in done and (error := task.result()) is not None]
        if errors:
            return f"did not answer: {errors[0].reason}: {errors[0].message}"
        return "had not answered when the time was over"

    async def _ask(self, key: bytes, text: str) -> InferenceError | None:
        deadline.accept(None)  # others may be waiting for it, too
        async with self._free:
            encoded = self._tokenizer.encode(text)
            inputs = {
                "input_ids": np.array([encoded.ids], dtype=np.int64),
                "attention_mask": np.array([encoded.attention_mask], dtype=np.int64),
            }
            try:
                found = await self._models.infer(
                    self._model_id, self._version, inputs, {"probabilities": (1, 3)}, timeout_s=self._timeout_s
                )
            except InferenceError as error:
                return error
        bearish, bullish, neutral = found["probabilities"][0].astype(np.float64).tolist()
        if min(bearish, bullish, neutral) < 0.0 or abs(bearish + bullish + neutral - 1.0) > 1e-3:
            text = f"{self.model}: {bearish:g}, {bullish:g} and {neutral:g} are no probabilities"
            return InferenceError(Reason.BAD_REPLY, text)
        self._known[key] = bullish - bearish
        return None
