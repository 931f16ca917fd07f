"""One decision's conversation with the model: every turn recorded, paid for, checked, and repaired once at most."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from python_services.kit import telemetry

from . import prompts
from .answers import BadAnswer
from .budget import Budget
from .cassette import Cassette
from .config import Config
from .endpoint import Endpoint
from .exchange import Answer, Question, Unanswered
from .prompts import Turn
from .table import Table

T = TypeVar("T")


class Model:
    """The model as configured: live, recorded while it answers, or as recorded. `endpoint` None: nobody is asked."""

    def __init__(self, config: Config, endpoint: Endpoint | None, budget: Budget | None, cassette: Cassette | None):
        self.config = config
        self._endpoint = endpoint
        self._budget = budget
        self._cassette = cassette
        self.counts: Counter[str] = Counter()

    async def turn(
        self, decision_id: str, role: str, table: Table, transcript: Sequence[Turn], read: Callable[[str], T]
    ) -> T:
        """What `read` makes of the answer. Raises Unanswered, also when the answer and its repair are both bad."""
        messages = prompts.messages(role, table, transcript)
        for attempt in range(2):
            answer = await self._answer(decision_id, self._question(role, messages))
            try:
                return read(answer.content)
            except BadAnswer as bad:
                self.counts["bad_answers"] += 1
                telemetry.logger().warning("bad answer", role=role, attempt=attempt, problem=str(bad))
                messages += prompts.again(answer.content, str(bad))
                problem = str(bad)
        raise Unanswered("BAD_ANSWER", f"the model's answer was refused twice: {problem}")

    def _question(self, role: str, messages: tuple[dict[str, str], ...]) -> Question:
        name, schema = prompts.schema_of(role)
        return Question(
            model=self.config.model,
            messages=messages,
            schema=schema,
            schema_name=name,
            maximum_tokens=self.config.maximum_answer_tokens,
            seed=self.config.seed if self.config.sampling else None,
        )

    async def _answer(self, decision_id: str, question: Question) -> Answer:
        outcome = self._cassette.find(question) if self._cassette is not None else None
        if outcome is None:
            if self._endpoint is None or self._budget is None:
                raise Unanswered("NOT_RECORDED", f"no answer to question {question.sha256()[:12]} was recorded")
            outcome = await self._ask(decision_id, question, self._endpoint, self._budget)
            if self._cassette is not None:
                await asyncio.to_thread(self._cassette.keep, question, outcome)
        if isinstance(outcome, Unanswered):
            self.counts["unanswered"] += 1
            raise Unanswered(outcome.reason, outcome.detail)
        self.counts["answers"] += 1
        return outcome

    async def _ask(
        self, decision_id: str, question: Question, endpoint: Endpoint, budget: Budget
    ) -> Answer | Unanswered:
        try:
            budget.check(decision_id, question)
            answer = await endpoint.ask(question)
        except Unanswered as unanswered:
            if unanswered.reason == "TIMED_OUT":  # it may have been answered, and will be charged for
                spent = Answer(content="", input_tokens=question.estimated_tokens(), output_tokens=0)
                await asyncio.to_thread(budget.charge, decision_id, spent)
            return unanswered
        await asyncio.to_thread(budget.charge, decision_id, answer)
        self.counts["tokens"] += answer.input_tokens + answer.output_tokens
        return answer

    async def close(self) -> None:
        """Ends connections and lets go of the files."""
        if self._endpoint is not None:
            await self._endpoint.close()
        for file in (self._budget, self._cassette):
            if file is not None:
                file.close()
