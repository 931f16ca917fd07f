"""Whether a history could have come from a sequential object: the check of Knossos and Porcupine.

Wing & Gong, "Testing and Verifying Concurrent Objects" (1993), with the memoisation of Lowe, "Testing for
Linearizability" (2017): a set of operations in some order that leads to a state is tried once. Finding an order is
NP-complete in general; what keeps it quick is that few operations are open at a time, and that the keys of an object
are independent of each other, so that each is checked by itself (Herlihy & Wing 1990, locality).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)
O = TypeVar("O")
O_contra = TypeVar("O_contra", contravariant=True)


class Model(Protocol[S, O_contra]):
    """A sequential specification."""

    def initial(self) -> S:
        """The state before anything happened."""

    def step(self, state: S, operation: O_contra) -> S | None:
        """The state after `operation`, or None when it could not have had its outcome in `state`."""


@dataclass(frozen=True, slots=True)
class Interval(Generic[O]):
    """An operation that took effect at one moment between `called` and `answered` (infinity: not answered)."""

    called: float
    answered: float
    operation: O


@dataclass(frozen=True, slots=True)
class Verdict(Generic[O]):
    """`linearizable` is None when the search was given up. `longest`: the longest order that was possible;
    `stuck`: the operation whose answer could not be explained."""

    linearizable: bool | None
    longest: list[O]
    stuck: O | None
    steps: int


class _Entry:
    """A call or a return in a doubly linked list by time."""

    __slots__ = ("index", "next", "previous", "returned")

    def __init__(self, index: int, returned: _Entry | None) -> None:
        self.index = index
        self.returned = returned  # None in a return itself
        self.previous: _Entry | None = None
        self.next: _Entry | None = None


def check(model: Model[S, O], history: Sequence[Interval[O]], limit: int = 5_000_000) -> Verdict[O]:
    """Searches for an order. Gives up after `limit` steps of the model."""
    head = _linked(history)
    state = model.initial()
    done, steps = 0, 0
    seen: set[tuple[int, S]] = set()
    calls: list[tuple[_Entry, S]] = []
    longest: list[O] = []
    stuck: O | None = None
    entry = head.next
    while head.next is not None:
        assert entry is not None
        if entry.returned is not None:
            if steps >= limit:
                return Verdict(None, longest, stuck, steps)
            steps += 1
            after = model.step(state, history[entry.index].operation)
            key = (done | 1 << entry.index, after)
            if after is not None and key not in seen:
                seen.add(key)  # type: ignore[arg-type]
                calls.append((entry, state))
                state, done = after, key[0]
                _lift(entry)
                entry = head.next
            else:
                entry = entry.next
            continue
        if len(calls) >= len(longest):
            longest = [history[call.index].operation for call, _ in calls]
            stuck = history[entry.index].operation
        if not calls:
            return Verdict(False, longest, stuck, steps)
        entry, state = calls.pop()
        done &= ~(1 << entry.index)
        _unlift(entry)
        entry = entry.next
    return Verdict(True, [history[call.index].operation for call, _ in calls], None, steps)


def check_each(
    model: Callable[[Hashable], Model[S, O]], history: Iterable[Interval[O]], key: Callable[[O], Hashable]
) -> dict[Hashable, Verdict[O]]:
    """A verdict for each key."""
    parts: dict[Hashable, list[Interval[O]]] = {}
    for interval in history:
        parts.setdefault(key(interval.operation), []).append(interval)
    return {name: check(model(name), part) for name, part in parts.items()}


def respects_time(order: Iterable[Interval[O]]) -> tuple[O, O] | None:
    """The cheap witness: an order is known (the ledger's own), so it only has to respect real time.

    None, or (first, second) in this order where `second` was answered before `first` was called.
    """
    latest: Interval[O] | None = None
    for interval in order:
        if latest is not None and interval.answered < latest.called:
            return latest.operation, interval.operation
        if latest is None or interval.called > latest.called:
            latest = interval
    return None


def _linked(history: Sequence[Interval[O]]) -> _Entry:
    timed: list[tuple[float, int, _Entry]] = []
    for index, interval in enumerate(history):
        if interval.answered < interval.called:
            raise ValueError(f"operation {index} was answered at {interval.answered}, called at {interval.called}")
        returned = _Entry(index, None)
        # At one moment, calls come first: the two overlap.
        timed += [(interval.called, 0, _Entry(index, returned)), (interval.answered, 1, returned)]
    head = last = _Entry(-1, None)
    for _, _, entry in sorted(timed, key=lambda item: item[:2]):
        last.next, entry.previous = entry, last
        last = entry
    return head


def _lift(call: _Entry) -> None:
    for entry in (call, call.returned):
        assert entry is not None
        assert entry.previous is not None
        entry.previous.next = entry.next
        if entry.next is not None:
            entry.next.previous = entry.previous


def _unlift(call: _Entry) -> None:
    for entry in (call.returned, call):
        assert entry is not None
        assert entry.previous is not None
        entry.previous.next = entry
        if entry.next is not None:
            entry.next.previous = entry
