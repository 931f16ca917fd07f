"""From a table to views: one analyst, or a bull and a bear who argue before a judge."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from python_services.kit import telemetry
from python_services.kit.agents import Window, eligible

from . import answers, table
from .answers import View
from .conversation import Model
from .exchange import Unanswered
from .prompts import Turn

MINIMUM_BARS = 61


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What the model made of a snapshot. `silence`: why there are no views. transcript_sha256: of all that was said."""

    asked: frozenset[int]
    views: Mapping[int, View]
    transcript_sha256: str = ""
    turns: int = 0
    silence: str = ""


class Analyst:
    """One decision at a time, so that a budget is never spent twice."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._turn = asyncio.Lock()

    async def study(self, window: Window, instrument_ids: Sequence[str], decision_id: str) -> Opinion:
        """Never raises for what the model does or does not do. instrument_ids: for the log, the model sees none."""
        able = eligible(window, MINIMUM_BARS)
        if not able.any():
            return Opinion(asked=frozenset(), views={})
        shown = table.table_of(window, able, self._model.config.maximum_instruments)
        if not shown.rows:
            return Opinion(asked=frozenset(), views={})
        asked = frozenset(shown.rows)
        try:
            async with self._turn:
                transcript, views = await self._discuss(shown, decision_id)
        except Unanswered as unanswered:
            silence = f"{unanswered.reason}: {unanswered.detail}"
            telemetry.logger().warning("no analysis", reason=silence)
            return Opinion(asked=asked, views={}, silence=silence)
        said = [(turn.speaker, turn.argument) for turn in transcript]
        concluded = [(number, views[row].__dict__) for number, row in enumerate(shown.rows, start=1)]
        sha256 = hashlib.sha256(orjson.dumps([said, concluded])).hexdigest()
        reasons = {instrument_ids[row]: view.reason for row, view in views.items()}
        telemetry.logger().info("analysis", transcript_sha256=sha256, turns=len(transcript) + 1, reasons=reasons)
        return Opinion(asked=asked, views=views, transcript_sha256=sha256, turns=len(transcript) + 1)

    async def _discuss(self, shown: table.Table, decision_id: str) -> tuple[list[Turn], Mapping[int, View]]:
        rounds = self._model.config.debate_rounds
        transcript: list[Turn] = []
        for _ in range(rounds):
            for speaker in ("bull", "bear"):
                said = await self._model.turn(decision_id, speaker, shown, transcript, answers.argument)
                transcript.append(Turn(speaker=speaker, argument=said))
        role = "judge" if rounds else "analyst"
        views = await self._model.turn(
            decision_id, role, shown, transcript, lambda content: answers.views(content, shown)
        )
        return transcript, views
