"""One question to a language model and what came of it; both are known by the question's hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, kw_only=True)
class Question:
    """All that decides an answer: model, messages, the schema it must have, and the parameters.

    seed: None where the model is to sample as it likes.
    """

    model: str
    messages: tuple[dict[str, str], ...]
    schema: dict[str, Any]
    schema_name: str
    maximum_tokens: int
    seed: int | None

    def body(self) -> dict[str, Any]:
        """As an OpenAI-compatible endpoint takes it."""
        sampling = {} if self.seed is None else {"temperature": 0, "seed": self.seed}
        return {
            "model": self.model,
            "messages": list(self.messages),
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": self.schema_name, "strict": True, "schema": self.schema},
            },
            "max_completion_tokens": self.maximum_tokens,
            **sampling,
        }

    def sha256(self) -> str:
        """Hex hash of the body, with its keys in order."""
        return hashlib.sha256(orjson.dumps(self.body(), option=orjson.OPT_SORT_KEYS)).hexdigest()

    def estimated_tokens(self) -> int:
        """What asking costs at most: no tokenizer makes more tokens than there are bytes. Usually it is a half."""
        return len(orjson.dumps(self.body()))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said, whatever it is worth."""

    content: str
    input_tokens: int
    output_tokens: int


class Unanswered(Exception):  # noqa: N818 - an outcome, not an error of ours
    """The model did not answer, or was not asked. `reason`: one word for counting; the text is for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


Outcome = Answer | Unanswered


def written(question: Question, outcome: Outcome) -> dict[str, Any]:
    """As a line of the cassette."""
    line: dict[str, Any] = {"question_sha256": question.sha256(), "question": question.body()}
    if isinstance(outcome, Answer):
        line["answer"] = {
            "content": outcome.content,
            "input_tokens": outcome.input_tokens,
            "output_tokens": outcome.output_tokens,
        }
    else:
        line["unanswered"] = {"reason": outcome.reason, "detail": outcome.detail}
    return line


def read(line: dict[str, Any]) -> tuple[str, Outcome]:
    """A line of the cassette: hash and outcome. Raises KeyError or TypeError for anything else."""
    sha256 = str(line["question_sha256"])
    if "answer" in line:
        return sha256, Answer(**line["answer"])
    return sha256, Unanswered(**line["unanswered"])
