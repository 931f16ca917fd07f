"""Conflict rules of the policy: who goes before whom, and who may forbid a side. Pure.

A rule names agents by id or by kind. It is only spoken for by agents that are heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .estimates import Estimate

Mask = NDArray[np.bool_]
LONG, SHORT = 1, -1


@dataclass(frozen=True, kw_only=True)
class Priority:
    """Where `who` and `over` contradict each other, `over` is not heard."""

    name: str
    who: str
    over: str
    minimum_confidence: float


@dataclass(frozen=True, kw_only=True)
class Veto:
    """Where `who` is against `side` (LONG or SHORT), no position on it is opened or enlarged."""

    name: str
    who: str
    side: int
    minimum_confidence: float


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A rule that had an effect: who spoke for it, and on which rows."""

    rule: str
    kind: str
    agent_ids: tuple[str, ...]
    rows: Mask
    effect: str


def priorities(
    rules: Sequence[Priority], estimates: Sequence[Estimate], kinds: Mapping[str, str], instruments: int
) -> tuple[dict[str, Mask], list[Applied]]:
    """Rows for which an agent is not heard, by agent, and the rules that applied.

    The stated direction of `who` on a row is that of its confident members when they agree; a rule whose own side is
    divided does not apply there. One that an earlier rule silenced on a row does not speak there for a later one.
    """
    unheard: dict[str, Mask] = {}
    applied = []
    for rule in rules:
        up, down = np.zeros(instruments, bool), np.zeros(instruments, bool)
        speakers: dict[str, Mask] = {}
        for estimate in _of(rule.who, estimates, kinds):
            sign = _direction(estimate, instruments, rule.minimum_confidence)
            if (silenced := unheard.get(estimate.agent_id)) is not None:
                sign[silenced] = 0
            up |= sign > 0
            down |= sign < 0
            speakers[estimate.agent_id] = sign != 0
        wanted = np.where(up & ~down, 1, 0) - np.where(down & ~up, 1, 0)
        rows = np.zeros(instruments, bool)
        for estimate in _of(rule.over, estimates, kinds):
            if estimate.agent_id in speakers:
                continue
            against = _direction(estimate, instruments, 0.0) * wanted < 0
            if against.any():
                before = unheard.get(estimate.agent_id)
                unheard[estimate.agent_id] = against if before is None else before | against
                rows |= against
        if rows.any():
            spoke = tuple(agent for agent, where in speakers.items() if (where & rows).any())
            text = f"{rule.over} was not heard where it contradicted {rule.who}"
            applied.append(Applied(rule=rule.name, kind="PRIORITY", agent_ids=spoke, rows=rows, effect=text))
    return unheard, applied


def vetoes(
    rules: Sequence[Veto], estimates: Sequence[Estimate], kinds: Mapping[str, str], instruments: int
) -> tuple[dict[int, Mask], list[Applied]]:
    """Rows on which a side is forbidden, by side, and the rules that say so."""
    forbidden = {LONG: np.zeros(instruments, bool), SHORT: np.zeros(instruments, bool)}
    applied = []
    for rule in rules:
        rows, spoke = np.zeros(instruments, bool), []
        for estimate in _of(rule.who, estimates, kinds):
            against = _direction(estimate, instruments, rule.minimum_confidence) * rule.side < 0
            if against.any():
                spoke.append(estimate.agent_id)
                rows |= against
        if rows.any():
            forbidden[rule.side] |= rows
            text = f"no {'long' if rule.side == LONG else 'short'} position is opened or enlarged"
            applied.append(Applied(rule=rule.name, kind="VETO", agent_ids=tuple(spoke), rows=rows, effect=text))
    return forbidden, applied


def allowed(current_e9: int, target_e9: int, *, no_long: bool, no_short: bool) -> int:
    """The target within the vetoes: what is held may be kept or reduced, not enlarged and not turned into what is
    forbidden."""
    if no_long:
        target_e9 = min(target_e9, max(current_e9, 0))
    if no_short:
        target_e9 = max(target_e9, min(current_e9, 0))
    return target_e9


def _of(who: str, estimates: Sequence[Estimate], kinds: Mapping[str, str]) -> list[Estimate]:
    return [e for e in estimates if e.speaks and who in (e.agent_id, kinds[e.agent_id])]


def _direction(estimate: Estimate, instruments: int, minimum_confidence: float) -> NDArray[np.int64]:
    found = np.zeros(instruments, np.int64)
    confident = estimate.confidence >= minimum_confidence
    found[estimate.instrument_index] = np.where(confident, np.sign(estimate.expected_return), 0).astype(np.int64)
    return found
