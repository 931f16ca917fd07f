"""The independent checker finds what it is there to find: logs by hand, right but for one thing."""

from __future__ import annotations

import hashlib

import pytest
from google.protobuf.message import Message

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.type.v1 import money_pb2
from alphamesh.venue.v1 import venue_pb2

from .ledger_check import Books, BrokenError, Chain, Facts, compare_account
from .venue_check import VenueBook

E9 = 10**9
FACTS = {"A": Facts(tick_e9=E9 // 100, lot_e9=E9, multiplier_e9=E9)}
DENIED, SUBMITTED, CANCELED = (
    order_pb2.ORDER_STATE_DENIED,
    order_pb2.ORDER_STATE_SUBMITTED,
    order_pb2.ORDER_STATE_CANCELED,
)


def usd(units: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code="USD", units=units)


def policy(version: int = 1, **limits: int) -> Message:
    money = {"order_notional": 500, "position": 800, "gross_exposure": 800, "sector": 800, "net_exposure": 800} | limits
    rules = execution_pb2.RiskPolicy(version=version, **{f"{name}_limit": usd(value) for name, value in money.items()})
    return events_pb2.RiskPolicyApplied(account_id="a", policy=rules)


def order(name: str, lots: int, side: int = 1) -> Message:
    spec = order_pb2.OrderSpec(
        client_order_id=name, instrument_id="A", side=side, quantity_e9=lots * E9, price_e9=10 * E9
    )
    return events_pb2.OrderInitialized(
        account_id="a", spec=spec, state=SUBMITTED, approved_quantity_e9=lots * E9, policy_version=1
    )


def canceled(name: str) -> Message:
    return events_pb2.OrderStateChanged(account_id="a", client_order_id=name, to_state=CANCELED)


def filled(name: str, lots: int, trade: str, price: int = 10, side: int = 1) -> Message:
    fill = order_pb2.Fill(
        trade_id=trade, client_order_id=name, account_id="a", instrument_id="A", side=side, price_e9=price * E9,
        quantity_e9=lots * E9, fee=usd(1),
    )  # fmt: skip
    return events_pb2.OrderFilled(fill=fill, to_state=order_pb2.ORDER_STATE_PARTIALLY_FILLED)


def marked(price: int) -> Message:
    return events_pb2.AccountValued(
        account_id="a", instrument_ids=["A"], mark_e9=[price * E9], mark_ts_ns=[1], cash=usd(10_000)
    )


BEGIN = (events_pb2.AccountOpened(account_id="a", cash=usd(10_000)), policy(), marked(10))


def envelopes(*payloads: Message) -> list[event_pb2.EventEnvelope]:
    """With the links that they must have."""
    made, last = [], bytes(32)
    for seq, payload in enumerate(payloads, 1):
        envelope = event_pb2.EventEnvelope(
            stream="execution", seq=seq, schema=payload.DESCRIPTOR.full_name, payload=payload.SerializeToString(),
            prev_hash=last, causation_id=f"r{seq}",
        )  # fmt: skip
        last = envelope.hash = hashlib.sha256(envelope.SerializeToString(deterministic=True)).digest()
        made.append(envelope)
    return made


def replay(*payloads: Message) -> Books:
    books = Books(FACTS)
    for envelope in envelopes(*BEGIN, *payloads):
        books.take(envelope)
    return books


def frame_of(events: list[event_pb2.EventEnvelope], first: int = 1, prev: bytes = bytes(32)) -> event_pb2.EventFrame:
    frame = event_pb2.EventFrame(stream="execution", first_seq=first, count=len(events), prev_hash=prev, events=events)
    frame.sha256 = hashlib.sha256(frame.SerializeToString(deterministic=True)).digest()
    return frame


def test_orders_up_to_the_limit_are_right_and_the_utilisation_is_exact() -> None:
    books = replay(order("1", 50), order("2", 30), canceled("1"), order("3", 50))
    whole = ("order notional", "position", "sector", "gross", "net long")
    assert books.utilisation == {**dict.fromkeys(whole, 1.0), "net short": 0.0}
    assert set(books.full) == {"order notional", "position A", "sector", "gross", "net long"}


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ((order("1", 50), order("2", 31)), "seq 5: position of A"),
        ((order("1", 51),), "notional 510.00 > 500.00"),
        ((order("1", 10), order("1", 10)), "order 1 was entered twice"),
        ((order("1", 10), filled("1", 11, "t")), "filled beyond what was approved"),
        ((order("1", 10), filled("1", 5, "t"), filled("1", 5, "t")), "trade t was booked twice"),
        ((order("1", 50), filled("1", 50, "t"), order("2", 31)), "position of A"),  # held and open count together
        ((order("1", 50), filled("1", 50, "t"), marked(10)), "by the fills"),  # cash did not move
        ((policy(),), "policy 1 is not newer"),
        ((events_pb2.AccountOpened(account_id="a", cash=usd(1)),), "opened twice"),
    ],
)
def test_a_log_that_breaks_a_promise_is_found(events: tuple[Message, ...], found: str) -> None:
    with pytest.raises(BrokenError, match=found):
        replay(*events)


def reserved(*rows: tuple[int, str, int, int], released: tuple[int, ...] = ()) -> Message:
    """(id, instrument, lots, price); negative lots sell."""
    lots = [abs(row[2]) * E9 for row in rows]
    batch = execution_pb2.ReservationBatch(
        instrument_ids=[row[1] for row in rows], sides=[1 if row[2] > 0 else 2 for row in rows], quantity_e9=lots,
        price_bound_e9=[row[3] * E9 for row in rows],
    )  # fmt: skip
    verdicts = execution_pb2.ReservationVerdicts(
        reservation_ids=[row[0] for row in rows], granted_quantity_e9=lots, reasons=[0] * len(rows)
    )
    return events_pb2.ReservationGranted(account_id="a", batch=batch, verdicts=verdicts, released_ids=released)


def replay_two(*payloads: Message, **limits: int) -> Books:
    """A at 10 and B at 7, both of one sector."""
    marks = events_pb2.AccountValued(
        account_id="a", instrument_ids=["A", "B"], mark_e9=[10 * E9, 7 * E9], mark_ts_ns=[1, 1], cash=usd(10_000)
    )
    books = Books({name: Facts(tick_e9=E9 // 100, lot_e9=E9, multiplier_e9=E9, sector="S") for name in "AB"})
    for envelope in envelopes(BEGIN[0], policy(**limits), marks, *payloads):
        books.take(envelope)
    return books


@pytest.mark.parametrize(
    ("limits", "rows", "found"),
    [
        ({}, [(1, "A", 51, 10)], "reservation 1: notional 510.00 > 500.00"),
        ({}, [(1, "A", 51, 0)], "notional 510.00"),  # without a price of its own: at the mark
        ({}, [(1, "A", 40, 10), (2, "A", 41, 10)], "position of A"),
        ({}, [(1, "A", 40, 10), (1, "A", 1, 10)], "reservation 1 was granted twice"),
        ({}, [(0, "A", 1, 10)], "reservation 0: 1000000000 granted"),
        ({"sector": 800}, [(1, "A", 50, 10), (2, "B", -43, 7)], "sector of S"),
        ({"sector": 9_000}, [(1, "A", 50, 10), (2, "B", -43, 7)], "gross of the account"),
        ({"net_exposure": 700}, [(1, "A", 49, 10), (2, "B", 31, 7)], "net long of the account"),
        ({"net_exposure": 700}, [(1, "A", -49, 10), (2, "B", -31, 7)], "net short of the account"),
    ],
)
def test_a_reservation_beyond_a_limit_by_one_lot_is_found(
    limits: dict[str, int], rows: list[tuple[int, str, int, int]], found: str
) -> None:
    with pytest.raises(BrokenError, match=found):
        replay_two(reserved(*rows), **limits)
    *others, (identifier, name, lots, price) = rows
    if abs(lots) > 1 and identifier:
        fewer = lots - (1 if lots > 0 else -1)
        assert replay_two(reserved(*others, (identifier, name, fewer, price)), **limits).above == 0


def test_a_limit_is_full_when_not_one_more_lot_would_have_fitted() -> None:
    """Of 800: 794 leave no room for a lot of 7, 793 do; a position of A is full when no lot of 10 fits."""
    books = replay_two(reserved((1, "A", 50, 10), (2, "B", -41, 7)))
    assert set(books.full) == {"order notional"}  # 787: a lot of B would have fitted
    books = replay_two(reserved((1, "A", 50, 10), (2, "B", -42, 7)))
    assert set(books.full) == {"order notional", "sector", "gross"}
    assert books.utilisation["gross"] == 794 / 800


def test_what_is_given_back_with_a_batch_is_free_for_it() -> None:
    again = reserved((2, "A", 40, 10), (3, "A", 40, 10), released=(1,))
    assert replay_two(reserved((1, "A", 50, 10)), again).full["position A"] == 1


def test_a_price_or_a_policy_may_leave_an_account_above_its_limit_and_an_order_may_not() -> None:
    books = replay(order("1", 50), order("2", 30), policy(2, position=700), canceled("2"), marked(20))
    assert books.above > 0
    with pytest.raises(BrokenError, match=r"seq 7: position of A went from 800\.00 to 810\.00 > 700\.00"):
        replay(order("1", 50), order("2", 30), policy(2, position=700), order("3", 1))


def test_a_chain_is_whole_or_it_is_not() -> None:
    events = envelopes(*BEGIN, order("1", 10))
    first, second = frame_of(events[:2]), None
    second = frame_of(events[2:], 3, first.sha256)
    chain = Chain()
    chain.take(first)
    chain.take(second)
    assert (chain.seq, chain.event_hash, chain.frame_hash) == (4, events[-1].hash, second.sha256)

    with pytest.raises(BrokenError, match="not linked"):
        Chain().take(frame_of(events[:2], 1, b"x" * 32))
    with pytest.raises(BrokenError, match="begins at 3"):
        Chain().take(second)
    altered = event_pb2.EventEnvelope()
    altered.CopyFrom(events[1])
    altered.ts_event_ns = 5
    with pytest.raises(BrokenError, match="not what its hash says"):
        Chain().take(frame_of([events[0], altered]))
    first.stream = "other"
    with pytest.raises(BrokenError, match="a frame is not what its hash says"):
        Chain().take(first)


def test_an_account_that_was_read_otherwise_is_found() -> None:
    book = replay(order("1", 50), filled("1", 20, "t")).accounts["a"]
    told = execution_pb2.Account(
        account_id="a", cash=usd(10_000 - 200 - 1), fees=usd(1), open_orders=1, policy_version=1,
        positions=[execution_pb2.Position(instrument_id="A", quantity_e9=20 * E9)],
    )  # fmt: skip
    compare_account(book, told, 5)
    told.open_orders = 2
    with pytest.raises(BrokenError, match="seq 5: account a was read as"):
        compare_account(book, told, 5)


def test_an_event_without_a_rule_is_not_passed_over() -> None:
    unknown = envelopes(*BEGIN)[0]
    unknown.schema = "alphamesh.execution.v1.Fill"
    with pytest.raises(BrokenError, match="the checker is blind"):
        Books(FACTS).take(unknown)


def accepted(seq: int, name: str, lots: int) -> venue_pb2.Report:
    return venue_pb2.Report(
        seq=seq, kind=venue_pb2.Report.KIND_ACCEPTED, account_id="a", client_order_id=name,
        order=venue_pb2.VenueOrder(client_order_id=name, quantity_e9=lots * E9),
    )  # fmt: skip


def test_the_venue_has_each_approved_order_once_and_no_other() -> None:
    book, granted = replay(order("1", 50), order("2", 30)).accounts["a"], {"1": 50 * E9, "2": 30 * E9}
    venue = VenueBook()
    venue.take([accepted(1, "1", 50), accepted(2, "2", 30)])
    venue.compare("a", book, set(), granted)
    with pytest.raises(BrokenError, match="differ in orders"):
        venue.compare("a", book, {"2"}, granted)
    with pytest.raises(BrokenError, match="order 2 was entered twice"):
        venue.take([accepted(3, "2", 30)])
    with pytest.raises(BrokenError, match="report 9 follows 3"):
        venue.take([accepted(9, "3", 30)])
