"""What asking may cost: tokens and money, of one decision and of a session. Checked before a call, charged after it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import Config
from .exchange import Answer, Question, Unanswered
from .lines import Lines


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Tokens, and nano units of money."""

    tokens: int = 0
    cost_e9: int = 0

    def plus(self, other: Spent) -> Spent:
        """The sum."""
        return Spent(tokens=self.tokens + other.tokens, cost_e9=self.cost_e9 + other.cost_e9)


def session_of(decision_id: str) -> str:
    """A decision's id is its session's, a hyphen, and its number."""
    return decision_id.rpartition("-")[0] or decision_id


class Budget:
    """Remembers in a file, so that a restart does not begin a session's budget anew."""

    def __init__(self, config: Config, path: Path) -> None:
        self._config = config
        self._lines = Lines(path, write=True)
        self._decisions: defaultdict[str, Spent] = defaultdict(Spent)
        self._sessions: defaultdict[str, Spent] = defaultdict(Spent)
        for line in self._lines.read():
            self._add(line["decision_id"], Spent(tokens=line["tokens"], cost_e9=line["cost_e9"]))

    def check(self, decision_id: str, question: Question) -> None:
        """Raises Unanswered when this question, answered at full length, could cost more than is left."""
        most = self._cost(question.estimated_tokens(), question.maximum_tokens)
        session_id, config = session_of(decision_id), self._config
        for whose, spent, tokens, cost_e9 in (
            ("decision", self._decisions[decision_id], config.decision_tokens, config.decision_cost_e9),
            ("session", self._sessions[session_id], config.session_tokens, config.session_cost_e9),
        ):
            would = spent.plus(most)
            if would.tokens > tokens:
                detail = f"{spent.tokens} tokens spent, {most.tokens} needed at most, the budget is {tokens}"
                raise Unanswered("BUDGET_EXCEEDED", f"the {whose}'s budget: {detail}")
            if cost_e9 and would.cost_e9 > cost_e9:
                detail = f"{_money(spent)} spent, {_money(most)} needed at most, the budget is {cost_e9 / 1e9:g}"
                raise Unanswered("BUDGET_EXCEEDED", f"the {whose}'s budget: {detail}")

    def charge(self, decision_id: str, answer: Answer) -> None:
        """What an answer has really cost; durable when it returns."""
        spent = self._cost(answer.input_tokens, answer.output_tokens)
        line: dict[str, Any] = {"decision_id": decision_id, "tokens": spent.tokens, "cost_e9": spent.cost_e9}
        self._lines.append(line)
        self._add(decision_id, spent)

    def spent(self, decision_id: str) -> tuple[Spent, Spent]:
        """By the decision, and by its session."""
        return self._decisions[decision_id], self._sessions[session_of(decision_id)]

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()

    def _add(self, decision_id: str, spent: Spent) -> None:
        session_id = session_of(decision_id)
        self._decisions[decision_id] = self._decisions[decision_id].plus(spent)
        self._sessions[session_id] = self._sessions[session_id].plus(spent)

    def _cost(self, input_tokens: int, output_tokens: int) -> Spent:
        cost = input_tokens * self._config.input_price_e9 + output_tokens * self._config.output_price_e9
        return Spent(tokens=input_tokens + output_tokens, cost_e9=cost)


def _money(spent: Spent) -> str:
    return f"{spent.cost_e9 / 1e9:g}"
