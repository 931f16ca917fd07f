"""From the agents' answers to one combined view, and the record of how it came about. Pure: no gRPC, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphamesh.decision.v1 import decision_pb2, policy_pb2
from python_services.kit import packed

from . import aggregate, regime, rules, scoring
from .answers import Missing, Said
from .estimates import Estimate, Floats
from .memory import Draft, Memory
from .record import Prior
from .roster import HEARD, PROBATION
from .translate import fill_aggregate, fill_evidence, fill_realised, fill_rule, fill_score, fill_signal, fill_voice

ANY = "ANY"
# Values of evidence in one decision that are recorded as they are, some 80 KB; beyond that as a hash.
MOST_EVIDENCE = 10_000


@dataclass(frozen=True, kw_only=True)
class View:
    """What the agents' answers came to. `combined` is None when the quorum failed, and `problem` says why."""

    combined: aggregate.Combined | None
    problem: str
    forbidden: Mapping[int, rules.Mask]
    draft: Draft


def learn(decision: decision_pb2.Decision, close: Floats, memory: Memory) -> None:
    """Fills regime, realised returns and scores of `decision`: what does not need the agents' answers.

    close: bars x instruments of the decision's snapshot. `memory` is read, not changed.
    """
    _tell_regime(decision, close)
    _score(decision, close, memory)


def deliberate(
    decision: decision_pb2.Decision,
    answers: Mapping[str, Sequence[Said] | Missing],
    policy: policy_pb2.CoordinationPolicy,
    memory: Memory,
    horizon_bars: int,
) -> View:
    """Fills signals, missing, voices, rules and aggregate of `decision`, for which `learn` was called.

    `memory` is read, not changed.
    """
    estimates = _hear(decision, answers)
    draft = memory.after(decision, policy.weighting, estimates)
    weights = _weigh(decision, estimates, policy.weighting, memory, draft)
    _evidence(decision, answers, weights)
    instruments, kinds = len(decision.instrument_ids), memory.roster.kinds()
    heard = [estimate for estimate in estimates if weights[estimate.agent_id] > 0]
    problem = _quorum(policy, [kinds[estimate.agent_id] for estimate in heard])
    if problem:
        return View(combined=None, problem=problem, forbidden={}, draft=draft)
    priorities = [
        rules.Priority(name=p.name, who=p.who, over=p.over, minimum_confidence=p.minimum_confidence)
        for p in policy.priorities
    ]
    unheard, applied = rules.priorities(priorities, heard, kinds, instruments)
    vetoes = [
        rules.Veto(
            name=v.name, who=v.who, side=rules.LONG if v.forbids == "LONG" else rules.SHORT,
            minimum_confidence=v.minimum_confidence,
        )
        for v in policy.vetoes
    ]  # fmt: skip
    forbidden, vetoed = rules.vetoes(vetoes, heard, kinds, instruments)
    for rule in (*applied, *vetoed):
        fill_rule(decision.rules.add(), rule)
    combined = aggregate.combine(estimates, instruments, horizon_bars, weights, unheard)
    fill_aggregate(decision.aggregate, combined, horizon_bars)
    return View(combined=combined, problem="", forbidden=forbidden, draft=draft)


def _tell_regime(decision: decision_pb2.Decision, close: Floats) -> None:
    found = regime.tell(close, regime.load())
    if found is not None:
        decision.regime.label, decision.regime.model = found.label, found.model
        decision.regime.labels.extend(found.labels)
        decision.regime.probability.extend(found.probability)


def _score(decision: decision_pb2.Decision, close: Floats, memory: Memory) -> None:
    """What became of the forecasts that end with this bar."""
    instruments = tuple(decision.instrument_ids)
    ended = {
        horizon: spoken
        for cycle, spoken in memory.spoken.items()
        if (horizon := decision.cycle - cycle) in spoken.ending and spoken.instrument_ids == instruments
    }
    for horizon, returns in scoring.realised(close, ended).items():
        rows = np.flatnonzero(np.isfinite(returns))
        fill_realised(decision.realised.add(horizon_bars=horizon), rows, returns[rows])
        for estimate in ended[horizon].ending[horizon]:
            score = scoring.score(estimate, rows, returns[rows], len(instruments), ended[horizon].regime)
            if score is not None:
                fill_score(decision.scores.add(), score)


def _hear(decision: decision_pb2.Decision, answers: Mapping[str, Sequence[Said] | Missing]) -> list[Estimate]:
    estimates = []
    for service, answer in answers.items():
        if isinstance(answer, Missing):
            decision.missing.add(service=service, reason=answer.reason, cause=answer.cause)
            continue
        for said in answer:
            fill_signal(decision.signals.add(), said)
            estimates.append(said.estimate)
    return estimates


def _weigh(
    decision: decision_pb2.Decision,
    estimates: Sequence[Estimate],
    weighting: policy_pb2.Weighting,
    memory: Memory,
    draft: Draft,
) -> dict[str, float]:
    """Fills the voices; the weight of each agent, 0 for one that is not heard."""
    prior = Prior(
        information_coefficient=weighting.prior_information_coefficient,
        strength=weighting.prior_strength,
        floor=weighting.floor,
        cap=weighting.cap,
    )
    members, label = memory.roster.members, draft.spoken.regime
    heard = {e.agent_id for e in estimates if e.speaks and members[e.agent_id].state in HEARD}
    shares = dict.fromkeys(heard, 1.0)
    if weighting.correlation_aware:
        shares = draft.similarity.shares(heard, weighting.correlation_strength)
    weights = {}
    for estimate in estimates:
        state = members[estimate.agent_id].state
        skill = draft.record.skill(estimate.agent_id, estimate.version, label, prior)
        factor = weighting.floor if state == PROBATION else skill.skill
        share = shares.get(estimate.agent_id, 1.0)
        weights[estimate.agent_id] = factor * share if state in HEARD else 0.0
        fill_voice(decision.voices.add(), estimate, state, skill, factor, share, weights[estimate.agent_id])
    return weights


def _evidence(
    decision: decision_pb2.Decision, answers: Mapping[str, Sequence[Said] | Missing], weights: Mapping[str, float]
) -> None:
    """Evidence as it is while it is small; of those that are not heard, and of a large decision, by its hash."""
    said = [one for answer in answers.values() if not isinstance(answer, Missing) for one in answer]
    values = sum(len(one.evidence) for one in said) // packed.DOUBLE_BYTES
    for signal, one in zip(decision.signals, said, strict=True):
        fill_evidence(signal, one, whole=values <= MOST_EVIDENCE and weights[signal.agent_id] > 0)


def _quorum(policy: policy_pb2.CoordinationPolicy, kinds: Sequence[str]) -> str:
    """Which rules do not hold, in words; empty when all do."""
    problems = []
    for rule in policy.quorum:
        count = len(kinds) if rule.kind == ANY else kinds.count(rule.kind)
        if count < rule.at_least:
            what = "agents" if rule.kind == ANY else f"{rule.kind} agents"
            problems.append(f"{count} {what} answered, the quorum is {rule.at_least}")
    return "; ".join(problems)
