"""The life of an agent: what is counted, when it is quarantined, how it comes back. A fold over events."""

from __future__ import annotations

import pytest

from alphamesh.decision.v1 import decision_pb2, events_pb2, policy_pb2
from python_services.coordinator.record import Record
from python_services.coordinator.roster import ACTIVE, PAUSED, PROBATION, QUARANTINED, Roster
from python_services.coordinator.scoring import Score

RULES = policy_pb2.Lifecycle(
    maximum_errors=3, maximum_stale=2, maximum_brier=0.4, minimum_observations=20, quarantine_decisions=4,
    probation_decisions=3,
)  # fmt: skip
Missing = decision_pb2.MissingAgent


class Life:
    """One agent through decisions."""

    def __init__(self) -> None:
        seen = events_pb2.AgentRegistered(agent_id="a", service="s", kind="TECHNICAL", version="1")
        self.roster, self.record, self.states = Roster().registered(seen, 10), Record(), [ACTIVE]

    @property
    def member(self):
        return self.roster.members["a"]

    def decide(self, *, missing: int | None = None, stale: bool = False) -> None:
        decision = decision_pb2.Decision(decision_id="d")
        if missing is None:
            signal = decision.signals.add(agent_id="a", agent_version="1")
            if stale:
                signal.abstained.add(reason="STALE_DATA", instrument_index=[0])
            else:
                signal.instrument_index.append(0)
            decision.voices.add(agent_id="a", version="1")
        else:
            decision.missing.add(service="s", cause=missing)
        self.roster = self.roster.decided(decision)
        for change in self.roster.judged(RULES, self.record, "d"):
            self.roster = self.roster.changed(change, 20)
        if self.member.state != self.states[-1]:
            self.states.append(self.member.state)

    def boast(self, times: int) -> None:
        """Is sure and wrong."""
        wrong = Score(
            agent_id="a", version="1", horizon_bars=1, regime=None, forecasts=1, sum_xy=0.0, sum_xx=1.0, sum_yy=1.0,
            cross_sectional=None, sum_brier=0.9, sum_absolute_error=0.0, stated=(0, 0, 0, 0, 1), hits=(0,) * 5,
            sum_p=(0.0, 0.0, 0.0, 0.0, 0.95),
        )  # fmt: skip
        self.record = self.record.settled([wrong] * times, 1e9)


def test_errors_in_a_row_quarantine_and_good_behaviour_brings_back() -> None:
    life = Life()
    for cause in (Missing.CAUSE_FAILED, Missing.CAUSE_INCONSISTENT):
        life.decide(missing=cause)
    life.decide()
    assert life.member.errors == 0, "an answer ends the row"
    for _ in range(3):
        life.decide(missing=Missing.CAUSE_OTHER_SNAPSHOT)
    assert life.states == [ACTIVE, QUARANTINED]
    assert life.member.reason == "3 refused answers or failed calls in a row"
    for _ in range(4 + 3):
        life.decide()
    assert life.states == [ACTIVE, QUARANTINED, PROBATION, ACTIVE]


def test_trouble_on_probation_leads_back() -> None:
    life = Life()
    for _ in range(3):
        life.decide(missing=Missing.CAUSE_INVALID)
    for _ in range(4):
        life.decide()
    assert life.member.state == PROBATION
    for _ in range(3):
        life.decide(missing=Missing.CAUSE_INVALID)
    assert life.states == [ACTIVE, QUARANTINED, PROBATION, QUARANTINED]


@pytest.mark.parametrize("cause", [Missing.CAUSE_AWAY, Missing.CAUSE_LATE])
def test_a_service_that_is_away_did_nothing_wrong(cause: int) -> None:
    life = Life()
    for _ in range(50):
        life.decide(missing=cause)
    assert life.states == [ACTIVE]


def test_stale_data_and_a_collapse_of_calibration_quarantine() -> None:
    stale = Life()
    stale.decide(stale=True)
    stale.decide()
    stale.decide(stale=True)
    assert stale.states == [ACTIVE]
    stale.decide(stale=True)
    assert "stale in 2 decisions" in stale.member.reason
    boaster = Life()
    boaster.decide()
    boaster.boast(19)
    boaster.decide()
    assert boaster.states == [ACTIVE], "too little is known"
    boaster.boast(2)
    boaster.decide()
    assert "Brier score 0.900 over 0.4" in boaster.member.reason
    for _ in range(30):
        boaster.decide()
    assert boaster.states == [ACTIVE, QUARANTINED], "it stays while its record is what it is"


def test_who_is_paused_stays_so_whatever_is_measured() -> None:
    life = Life()
    pause = events_pb2.AgentStateChanged(agent_id="a", from_state=ACTIVE, to_state=PAUSED, reason="drill")
    life.roster = life.roster.changed(pause, 30)
    for _ in range(10):
        life.decide(missing=Missing.CAUSE_FAILED)
    assert life.member.state == PAUSED
    measured = events_pb2.AgentStateChanged(
        agent_id="a", from_state=ACTIVE, to_state=QUARANTINED, reason="errors", decision_id="d"
    )
    assert life.roster.changed(measured, 40).members["a"].state == PAUSED, "decided before it was paused"


def test_only_news_is_registered() -> None:
    life = Life()
    assert life.roster.news({"s": [("a", "TECHNICAL", "1")]}) == []
    found = life.roster.news({"s": [("a", "TECHNICAL", "2"), ("b", "LLM", "1")]})
    assert [(event.agent_id, event.version) for event in found] == [("a", "2"), ("b", "1")]
    again = life.roster.registered(found[0], 99).members["a"]
    assert (again.registered_ns, again.listed_version) == (10, "2")
