"""The order state machine: which state may follow which. Pure; numbers are those of the contract.

Sources: contracts.md of this project; FIX 4.4 OrdStatus (39), appendix D (order state changes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from execution_core.types import OrderState as S

OPEN: Final = frozenset({S.ACCEPTED, S.TRIGGERED, S.PENDING_REPLACE, S.PENDING_CANCEL, S.PARTIALLY_FILLED})
IN_FLIGHT: Final = frozenset({S.SUBMITTED, S.PENDING_REPLACE, S.PENDING_CANCEL})
CLOSED: Final = frozenset({S.DENIED, S.REJECTED, S.CANCELED, S.EXPIRED, S.FILLED})

_ENDED_AT_VENUE: Final = frozenset({S.CANCELED, S.EXPIRED})
_AT_VENUE: Final = frozenset({S.PARTIALLY_FILLED, S.FILLED, S.UNRESOLVED}) | _ENDED_AT_VENUE

TRANSITIONS: Final[Mapping[S, frozenset[S]]] = {
    S.INITIALIZED: frozenset({S.SUBMITTED, S.DENIED}),
    S.SUBMITTED: _AT_VENUE | {S.ACCEPTED, S.REJECTED, S.TRIGGERED, S.PENDING_CANCEL},
    S.ACCEPTED: _AT_VENUE | {S.TRIGGERED, S.PENDING_REPLACE, S.PENDING_CANCEL},
    S.TRIGGERED: _AT_VENUE | {S.PENDING_REPLACE, S.PENDING_CANCEL},
    S.PARTIALLY_FILLED: _AT_VENUE | {S.TRIGGERED, S.PENDING_REPLACE, S.PENDING_CANCEL},
    S.PENDING_REPLACE: _AT_VENUE | {S.ACCEPTED, S.TRIGGERED, S.PENDING_REPLACE, S.PENDING_CANCEL},
    S.PENDING_CANCEL: _AT_VENUE | {S.ACCEPTED, S.TRIGGERED, S.PENDING_CANCEL},
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
