"""What clients asked and what they were told, with monotonic times: the history that everything is judged by."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

NEVER = math.inf
LEDGER_COMMANDS = frozenset({"submit", "cancel", "reserve", "policy"})


@dataclass(kw_only=True, slots=True, eq=False)
class Operation:
    """One command of one client, from the first attempt to its answer, in seconds of the monotonic clock.

    `method`: what it is sent with, so that it can be sent again. `error`: the status that was answered instead of a
    response, as "CODE REASON"; empty for none.
    `attempts`: when each attempt was begun; the same request is repeated until it is answered.
    """

    client: str
    command: str
    account: str
    request: Any
    method: Any
    called: float
    answered: float = NEVER
    response: Any = None
    error: str = ""
    attempts: list[float] = field(default_factory=list)

    @property
    def is_answered(self) -> bool:
        """Whether the client was told anything."""
        return self.answered != NEVER


class History:
    """Operations in the order in which they were called."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def call(self, client: str, command: str, account: str, method: Any, request: Any) -> Operation:
        """A client begins."""
        made = Operation(
            client=client, command=command, account=account, request=request, method=method, called=time.monotonic()
        )
        self.operations.append(made)
        return made

    def of(self, *commands: str, account: str = "") -> Iterator[Operation]:
        """Operations of these commands, and of one account where it is given."""
        for one in self.operations:
            if one.command in commands and account in ("", one.account):
                yield one

    def acknowledged(self) -> Iterator[Operation]:
        """Mutations that were answered with a response: each must stand for ever."""
        for one in self.operations:
            if one.response is not None and (hasattr(one.request, "request_id") or one.command == "reserve"):
                yield one

    def first_answer_after(self, moment: float) -> float:
        """When the ledger first acknowledged something that was asked for after `moment`; infinity: never."""
        asked = (one for one in self.acknowledged() if one.command in LEDGER_COMMANDS and one.attempts[-1] > moment)
        return min((one.answered for one in asked), default=NEVER)
