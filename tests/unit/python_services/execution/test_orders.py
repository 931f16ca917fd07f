"""The order state machine, every pair of states."""

from __future__ import annotations

import itertools

import pytest

from python_services.execution import orders
from python_services.execution.orders import S

# contracts.md, "Orders", written out by hand: what may follow what.
ALLOWED = {
    "INITIALIZED": "SUBMITTED DENIED",
    "SUBMITTED": "ACCEPTED REJECTED TRIGGERED PARTIALLY_FILLED FILLED CANCELED EXPIRED PENDING_CANCEL UNRESOLVED",
    "ACCEPTED": "TRIGGERED PENDING_REPLACE PENDING_CANCEL PARTIALLY_FILLED FILLED CANCELED EXPIRED UNRESOLVED",
    "TRIGGERED": "PENDING_REPLACE PENDING_CANCEL PARTIALLY_FILLED FILLED CANCELED EXPIRED UNRESOLVED",
    "PARTIALLY_FILLED": "PARTIALLY_FILLED TRIGGERED PENDING_REPLACE PENDING_CANCEL FILLED CANCELED EXPIRED UNRESOLVED",
    "PENDING_REPLACE": "ACCEPTED TRIGGERED PARTIALLY_FILLED PENDING_REPLACE PENDING_CANCEL FILLED CANCELED EXPIRED "
    "UNRESOLVED",
    "PENDING_CANCEL": "ACCEPTED TRIGGERED PARTIALLY_FILLED PENDING_CANCEL FILLED CANCELED EXPIRED UNRESOLVED",
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
