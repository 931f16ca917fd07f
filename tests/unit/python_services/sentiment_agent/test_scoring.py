"""The scorer: once for each text, ahead of questions, and never before one that somebody waits for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np

from python_services.kit.inference import InferenceError, Reason
from python_services.sentiment_agent.scoring import Scorer


class Model:
    """Answers when it is let; remembers what it was asked, by the number of tokens."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    async def infer(self, model: str, version: int, inputs: Any, outputs: Any, timeout_s: float) -> Any:
        self.asked.append(inputs["input_ids"].size)
        await self.open.wait()
        if self.away:
            raise InferenceError(Reason.UNAVAILABLE, "nobody is there")
        return {"probabilities": np.array([[0.1, 0.7, 0.2]], np.float32)}


def scorer(model: Model) -> Scorer:
    words = SimpleNamespace(
        encode=lambda text: SimpleNamespace(ids=list(range(len(text))), attention_mask=[1] * len(text))
    )
    return Scorer(
        model,
        words,
        lambda text: -1.0,
        model_id="m",
        version=1,
        patience_s=5.0,
        timeout_s=5.0,  # type: ignore[arg-type]
    )


async def test_what_was_scored_ahead_is_not_asked_again() -> None:
    model = Model()
    scores = scorer(model)
    assert await scores.ahead("abc") is None
    found = await scores.score(["abc", "abc"])
    assert np.allclose(found.value, 0.6)
    assert found.problem is None
    assert model.asked == [3]


async def test_who_waits_comes_first() -> None:
    model = Model()
    scores = scorer(model)
    model.open.clear()
    waiting = asyncio.create_task(scores.score(["a", "bb"]))
    await asyncio.sleep(0)
    ahead = asyncio.create_task(scores.ahead("cccc"))
    await asyncio.sleep(0.01)
    assert model.asked == [1, 2]  # nothing ahead while somebody waits
    model.open.set()
    assert (await waiting).problem is None
    assert await ahead is None
    assert model.asked == [1, 2, 4]


async def test_a_model_that_is_away_is_said_and_asked_again_later() -> None:
    model = Model()
    scores = scorer(model)
    model.away = True
    error = await scores.ahead("abc")
    assert error is not None
    assert error.reason == Reason.UNAVAILABLE
    fallback = await scores.score(["abc"])
    assert fallback.lexical.all()
    assert "nobody is there" in (fallback.problem or "")
    model.away = False
    assert (await scores.score(["abc"])).problem is None
