"""The order state machine: which state may follow which. Pure; numbers are those of the contract.

Sources: contracts.md of this project; FIX 4.4 OrdStatus (39), appendix D (order state changes).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from execution_core.types import OrderState as S

OPEN: Final = frozenset({S.ACCEPTED, S.TRIGGERED, S.PENDING_REPLACE, S.PENDING_CANCEL, S.PARTIALLY_FILLED})
IN_FLIGHT: Final = frozenset({S.SUBMITTED, S.PENDING_REPLACE, S.PENDING_CANCEL})
CLOSED: Final = frozenset({S.DENIED, S.REJECTED, S.CANCELED, S.EXPIRED, S.FILLED})

NEVER_SENT: Final = frozenset({S.INITIALIZED, S.DENIED})
WORKING: Final = frozenset({S.ACCEPTED, S.TRIGGERED, S.PARTIALLY_FILLED})

_ENDED_AT_VENUE: Final = frozenset({S.CANCELED, S.EXPIRED})
_AT_VENUE: Final = frozenset({S.PARTIALLY_FILLED, S.FILLED, S.UNRESOLVED}) | _ENDED_AT_VENUE

TRANSITIONS: Final[Mapping[S, frozenset[S]]] = {
    S.INITIALIZED: frozenset({S.SUBMITTED, S.DENIED}),
    S.SUBMITTED: _AT_VENUE | {S.ACCEPTED, S.REJECTED, S.TRIGGERED, S.PENDING_CANCEL},
    S.ACCEPTED: _AT_VENUE | {S.TRIGGERED, S.PENDING_REPLACE, S.PENDING_CANCEL},
    S.TRIGGERED: _AT_VENUE | {S.PENDING_REPLACE, S.PENDING_CANCEL},
    S.PARTIALLY_FILLED: _AT_VENUE | {S.PENDING_REPLACE, S.PENDING_CANCEL},
    S.PENDING_REPLACE: _AT_VENUE | {S.ACCEPTED, S.TRIGGERED, S.PENDING_REPLACE, S.PENDING_CANCEL},
    # Rejected: the cancel overtook the venue's answer to the order itself.
    S.PENDING_CANCEL: _AT_VENUE | {S.ACCEPTED, S.REJECTED, S.TRIGGERED, S.PENDING_CANCEL},
    # Only a definitive answer ends an unresolved order.
    S.UNRESOLVED: (_AT_VENUE - {S.UNRESOLVED})
    | {S.ACCEPTED, S.REJECTED, S.TRIGGERED, S.PENDING_CANCEL, S.PENDING_REPLACE},
    # A fill can arrive after the cancel or the expiry.
    S.CANCELED: frozenset({S.CANCELED, S.FILLED}),
    S.EXPIRED: frozenset({S.EXPIRED, S.FILLED}),
    # An overfill: an alarm, never clamped away.
    S.FILLED: frozenset({S.FILLED}),
    S.DENIED: frozenset(),
    S.REJECTED: frozenset(),
}


class ReportKind(IntEnum):
    """What a report of the venue says, besides fills. Numbers of alphamesh.venue.v1.Report.Kind."""

    ACCEPTED = 1
    REJECTED = 2
    TRIGGERED = 4
    CANCELED = 5
    EXPIRED = 6
    REPLACED = 7
    REPLACE_REJECTED = 8
    CANCEL_REJECTED = 9


class ImpossibleReportError(ValueError):
    """A report that no venue can truly make about this order."""


class IllegalTransitionError(RuntimeError):
    """A change that the state machine does not know: a bug or a corrupt stream, never a user's error."""


def check(client_order_id: str, before: int, after: int) -> None:
    """Raises IllegalTransitionError unless `after` may follow `before`."""
    if S(after) not in TRANSITIONS[S(before)]:
        raise IllegalTransitionError(f"order {client_order_id}: {S(before).name} cannot become {S(after).name}")


def after_fill(state: int, cumulative: int, quantity: int) -> S:
    """State after a fill that brought the cumulative quantity to `cumulative` of `quantity`.

    While a cancel or replace is pending, or after the order ended, a partial fill does not change the
    state: it belongs to the original order.
    """
    if cumulative >= quantity:
        return S.FILLED
    current = S(state)
    unchanged = {S.PENDING_CANCEL, S.PENDING_REPLACE, S.CANCELED, S.EXPIRED}
    return current if current in unchanged else S.PARTIALLY_FILLED


def working(cumulative: int, triggered: bool) -> S:
    """State of an order that the venue works, after a refused cancel or a replace."""
    if cumulative:
        return S.PARTIALLY_FILLED
    return S.TRIGGERED if triggered else S.ACCEPTED


def after_report(state: int, kind: int, *, cumulative: int, triggered: bool, acknowledged: bool) -> S | None:
    """State after a report other than a fill; None where it says nothing new.

    A report about the order itself does not end a request that is pending: the state stays, what it says is
    kept. A cancel that is refused of an order which the venue never acknowledged leaves the order in doubt.
    Raises ImpossibleReportError for what no venue can truly say.
    """
    if kind not in ReportKind.__members__.values():
        raise ImpossibleReportError(f"{kind} is no kind of report")
    current = S(state)
    if current in CLOSED or current is S.INITIALIZED:
        if current in NEVER_SENT or (current is S.REJECTED and kind == ReportKind.ACCEPTED):
            raise ImpossibleReportError(f"an order that is {current.name} cannot be {ReportKind(kind).name}")
        return None
    works = working(cumulative, triggered)
    doubtful = not acknowledged and not cumulative
    pending = current in (S.PENDING_CANCEL, S.PENDING_REPLACE)
    match kind:
        case ReportKind.ACCEPTED:
            if current is S.PENDING_CANCEL and not acknowledged:
                return current
            return works if current in (S.SUBMITTED, S.UNRESOLVED) else None
        case ReportKind.REJECTED:
            if cumulative or acknowledged:
                raise ImpossibleReportError("an order that was accepted or filled cannot be rejected")
            return S.REJECTED if current in (S.SUBMITTED, S.UNRESOLVED, S.PENDING_CANCEL) else None
        case ReportKind.TRIGGERED:
            if triggered:
                return None
            return current if pending or current is S.PARTIALLY_FILLED else working(cumulative, True)
        case ReportKind.CANCELED:
            return S.CANCELED
        case ReportKind.EXPIRED:
            return S.EXPIRED
        case ReportKind.REPLACED:
            # Also unasked: the venue restated the order (FIX ExecType D). Whether its terms can be is not asked here.
            return current if current is S.PENDING_CANCEL else works
        case ReportKind.REPLACE_REJECTED:
            return works if current is S.PENDING_REPLACE or (current is S.UNRESOLVED and not doubtful) else None
        case _:  # CANCEL_REJECTED
            if current is S.PENDING_CANCEL:
                return S.UNRESOLVED if doubtful else works
            return works if current is S.UNRESOLVED and not doubtful else None
