"""The order state machine, every pair of states."""

from __future__ import annotations

import itertools

import pytest

from python_services.execution import orders
from python_services.execution.orders import ReportKind, S

# contracts.md, "Orders", written out by hand: what may follow what.
ALLOWED = {
    "INITIALIZED": "SUBMITTED DENIED",
    "SUBMITTED": "ACCEPTED REJECTED TRIGGERED PARTIALLY_FILLED FILLED CANCELED EXPIRED PENDING_CANCEL UNRESOLVED",
    "ACCEPTED": "TRIGGERED PENDING_REPLACE PENDING_CANCEL PARTIALLY_FILLED FILLED CANCELED EXPIRED UNRESOLVED",
    "TRIGGERED": "PENDING_REPLACE PENDING_CANCEL PARTIALLY_FILLED FILLED CANCELED EXPIRED UNRESOLVED",
    "PARTIALLY_FILLED": "PARTIALLY_FILLED PENDING_REPLACE PENDING_CANCEL FILLED CANCELED EXPIRED UNRESOLVED",
    "PENDING_REPLACE": "ACCEPTED TRIGGERED PARTIALLY_FILLED PENDING_REPLACE PENDING_CANCEL FILLED CANCELED EXPIRED "
    "UNRESOLVED",
    "PENDING_CANCEL": "ACCEPTED REJECTED TRIGGERED PARTIALLY_FILLED PENDING_CANCEL FILLED CANCELED EXPIRED UNRESOLVED",
    "UNRESOLVED": "ACCEPTED REJECTED TRIGGERED PARTIALLY_FILLED PENDING_REPLACE PENDING_CANCEL FILLED CANCELED EXPIRED",
    "CANCELED": "CANCELED FILLED",
    "EXPIRED": "EXPIRED FILLED",
    "FILLED": "FILLED",
    "DENIED": "",
    "REJECTED": "",
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(S, S)), ids=lambda s: s.name)
def test_every_pair_of_states(before: S, after: S) -> None:
    if after.name in ALLOWED[before.name].split():
        orders.check("o", before, after)
    else:
        with pytest.raises(orders.IllegalTransitionError, match=f"{before.name} cannot become {after.name}"):
            orders.check("o", before, after)


def test_the_sets_partition_the_states() -> None:
    assert not orders.OPEN & orders.CLOSED
    assert set(S) - orders.OPEN - orders.CLOSED == {S.INITIALIZED, S.SUBMITTED, S.UNRESOLVED}
    assert {S.SUBMITTED, S.PENDING_REPLACE, S.PENDING_CANCEL} == orders.IN_FLIGHT


@pytest.mark.parametrize(
    ("state", "cumulative", "expected"),
    [
        (S.ACCEPTED, 40, S.PARTIALLY_FILLED),
        (S.ACCEPTED, 100, S.FILLED),
        (S.PARTIALLY_FILLED, 100, S.FILLED),
        (S.PENDING_CANCEL, 40, S.PENDING_CANCEL),
        (S.PENDING_CANCEL, 100, S.FILLED),
        (S.CANCELED, 40, S.CANCELED),
        (S.CANCELED, 100, S.FILLED),
        (S.FILLED, 140, S.FILLED),
    ],
)
def test_a_fill_moves_the_state(state: S, cumulative: int, expected: S) -> None:
    after = orders.after_fill(state, cumulative, 100)
    assert after is expected
    orders.check("o", state, after)


# Every state x every report, written out by hand: the state after it, "-" for no effect, "!" for a report that
# cannot be true. Three columns: the venue has not acknowledged the order; it has; it has and filled a part.
REPORTS = {
    "ACCEPTED": {
        "SUBMITTED": "ACCEPTED ACCEPTED PARTIALLY_FILLED",
        "UNRESOLVED": "ACCEPTED ACCEPTED PARTIALLY_FILLED",
        "PENDING_CANCEL": "PENDING_CANCEL - -",
        "ACCEPTED": "- - -", "TRIGGERED": "- - -", "PARTIALLY_FILLED": "- - -", "PENDING_REPLACE": "- - -",
        "CANCELED": "- - -", "EXPIRED": "- - -", "FILLED": "- - -", "REJECTED": "! ! !",
    },
    "REJECTED": {
        "SUBMITTED": "REJECTED ! !", "UNRESOLVED": "REJECTED ! !", "PENDING_CANCEL": "REJECTED ! !",
        "ACCEPTED": "- ! !", "TRIGGERED": "- ! !", "PARTIALLY_FILLED": "- ! !", "PENDING_REPLACE": "- ! !",
        "CANCELED": "- - -", "EXPIRED": "- - -", "FILLED": "- - -", "REJECTED": "- - -",
    },
    "TRIGGERED": {
        "SUBMITTED": "TRIGGERED TRIGGERED PARTIALLY_FILLED",
        "ACCEPTED": "TRIGGERED TRIGGERED PARTIALLY_FILLED",
        "TRIGGERED": "TRIGGERED TRIGGERED PARTIALLY_FILLED",
        "UNRESOLVED": "TRIGGERED TRIGGERED PARTIALLY_FILLED",
        "PARTIALLY_FILLED": "PARTIALLY_FILLED PARTIALLY_FILLED PARTIALLY_FILLED",
        "PENDING_REPLACE": "PENDING_REPLACE PENDING_REPLACE PENDING_REPLACE",
        "PENDING_CANCEL": "PENDING_CANCEL PENDING_CANCEL PENDING_CANCEL",
        "CANCELED": "- - -", "EXPIRED": "- - -", "FILLED": "- - -", "REJECTED": "- - -",
    },
    "CANCELED": {
        **dict.fromkeys(
            [S.SUBMITTED.name, *sorted(s.name for s in orders.OPEN), "UNRESOLVED"],
            "CANCELED CANCELED CANCELED",
        ),
        "CANCELED": "- - -", "EXPIRED": "- - -", "FILLED": "- - -", "REJECTED": "- - -",
    },
    "REPLACED": {
        "PENDING_REPLACE": "ACCEPTED ACCEPTED PARTIALLY_FILLED",
        "UNRESOLVED": "ACCEPTED ACCEPTED PARTIALLY_FILLED",
        "PENDING_CANCEL": "PENDING_CANCEL PENDING_CANCEL PENDING_CANCEL",
        # Unasked: the venue restated the order.
        "SUBMITTED": "ACCEPTED ACCEPTED PARTIALLY_FILLED", "ACCEPTED": "ACCEPTED ACCEPTED PARTIALLY_FILLED",
        "TRIGGERED": "ACCEPTED ACCEPTED PARTIALLY_FILLED", "PARTIALLY_FILLED": "ACCEPTED ACCEPTED PARTIALLY_FILLED",
        "CANCELED": "- - -", "EXPIRED": "- - -", "FILLED": "- - -", "REJECTED": "- - -",
    },
    "REPLACE_REJECTED": {
        "PENDING_REPLACE": "ACCEPTED ACCEPTED PARTIALLY_FILLED",
        "UNRESOLVED": "- ACCEPTED PARTIALLY_FILLED",
        "PENDING_CANCEL": "- - -", "SUBMITTED": "- - -", "ACCEPTED": "- - -", "TRIGGERED": "- - -",
        "PARTIALLY_FILLED": "- - -", "CANCELED": "- - -", "EXPIRED": "- - -", "FILLED": "- - -", "REJECTED": "- - -",
    },
    "CANCEL_REJECTED": {
        "PENDING_CANCEL": "UNRESOLVED ACCEPTED PARTIALLY_FILLED",
        "UNRESOLVED": "- ACCEPTED PARTIALLY_FILLED",
        "PENDING_REPLACE": "- - -", "SUBMITTED": "- - -", "ACCEPTED": "- - -", "TRIGGERED": "- - -",
        "PARTIALLY_FILLED": "- - -", "CANCELED": "- - -", "EXPIRED": "- - -", "FILLED": "- - -", "REJECTED": "- - -",
    },
}  # fmt: skip
REPORTS["EXPIRED"] = {state: row.replace("CANCELED", "EXPIRED") for state, row in REPORTS["CANCELED"].items()}
HISTORIES = ((False, 0), (True, 0), (True, 40))


@pytest.mark.parametrize("kind", list(ReportKind), ids=lambda k: k.name)
@pytest.mark.parametrize("state", list(S), ids=lambda s: s.name)
def test_every_report_in_every_state(state: S, kind: ReportKind) -> None:
    never_sent = "! ! !"
    expected = REPORTS[kind.name].get(state.name, never_sent).split()
    for (acknowledged, cumulative), name in zip(HISTORIES, expected, strict=True):

        def after() -> S | None:
            return orders.after_report(
                state,
                kind,
                cumulative=cumulative,  # noqa: B023
                triggered=False,
                acknowledged=acknowledged,  # noqa: B023
            )

        if name == "!":
            with pytest.raises(orders.ImpossibleReportError):
                after()
        elif name == "-":
            assert after() is None
        else:
            assert after() is S[name]
            orders.check("o", state, S[name]) if kind is not ReportKind.REPLACED and state is not S[name] else None


@pytest.mark.parametrize("state", list(S), ids=lambda s: s.name)
def test_an_order_that_was_triggered_works_as_triggered(state: S) -> None:
    """After a refused cancel or replace; and no report triggers it twice."""
    if state in (S.INITIALIZED, S.DENIED):
        return
    facts = {"cumulative": 0, "triggered": True, "acknowledged": True}
    assert orders.after_report(state, ReportKind.TRIGGERED, **facts) is None
    if state is S.PENDING_CANCEL:
        assert orders.after_report(state, ReportKind.CANCEL_REJECTED, **facts) is S.TRIGGERED
    if state is S.PENDING_REPLACE:
        assert orders.after_report(state, ReportKind.REPLACE_REJECTED, **facts) is S.TRIGGERED


def test_an_unknown_kind_of_report_is_impossible() -> None:
    with pytest.raises(orders.ImpossibleReportError):
        orders.after_report(S.ACCEPTED, 99, cumulative=0, triggered=False, acknowledged=True)
