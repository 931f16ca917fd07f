"""The bytes of frames are those of the contract, and no byte of them can change unnoticed."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamesh.audit.v1 import event_pb2
from python_services.kit.journal import ZERO_HASH, check_frame, event_hash, verify
from python_services.kit.journal.frames import check_body, frame_hash, last_event_hash, pack, seal

payloads = st.lists(st.binary(max_size=300), min_size=1, max_size=5)


def chained(payloads: list[bytes], seq: int = 1, previous: bytes = ZERO_HASH) -> list[event_pb2.EventEnvelope]:
    made = []
    for offset, payload in enumerate(payloads):
        made.append(event_pb2.EventEnvelope(stream="s", seq=seq + offset, payload=payload, prev_hash=previous))
        seal(made[-1])
        previous = made[-1].hash
    return made


def packed(events: list[event_pb2.EventEnvelope], previous: bytes = ZERO_HASH) -> bytes:
    return pack("s", events[0].seq, previous, [event.SerializeToString() for event in events])


@given(payloads)
def test_a_packed_frame_is_the_message_of_the_contract(payloads):
    events = chained(payloads)
    body = packed(events)
    frame = event_pb2.EventFrame(stream="s", first_seq=1, count=len(events), prev_hash=ZERO_HASH, events=events)
    frame.sha256 = sha256(frame.SerializeToString(deterministic=True)).digest()
    assert body == frame.SerializeToString(deterministic=True)
    assert frame_hash(body) == frame.sha256
    assert last_event_hash(body) == events[-1].hash
    assert check_frame(frame, 1, ZERO_HASH) == ""
    assert check_body(body, "s", 1, len(events), ZERO_HASH) == ""


@given(payloads)
def test_an_event_s_hash_is_that_of_its_message_without_it(payloads):
    for event in chained(payloads):
        bare = event_pb2.EventEnvelope()
        bare.CopyFrom(event)
        bare.ClearField("hash")
        assert event.hash == event_hash(event) == event_hash(bare) == sha256(bare.SerializeToString()).digest()


@given(payloads, st.data())
def test_no_bit_can_change_unnoticed(payloads, data):
    body = packed(chained(payloads))
    place = data.draw(st.integers(0, len(body) * 8 - 1))
    altered = bytearray(body)
    altered[place // 8] ^= 1 << place % 8
    assert check_body(bytes(altered), "s", 1, len(payloads), ZERO_HASH)
    cut = data.draw(st.integers(0, len(body) - 1))
    assert check_body(body[:cut], "s", 1, len(payloads), ZERO_HASH)


@pytest.mark.parametrize(
    ("stream", "seq", "count", "previous"),
    [("t", 1, 2, ZERO_HASH), ("s", 2, 2, ZERO_HASH), ("s", 1, 1, ZERO_HASH), ("s", 1, 2, b"x" * 32)],
)
def test_a_frame_fits_in_one_place_only(stream, seq, count, previous):
    assert check_body(packed(chained([b"a", b"b"])), stream, seq, count, previous)


@given(payloads, payloads)
def test_how_events_are_framed_does_not_change_their_hashes(first, second):
    together = chained(first + second)
    bodies = [packed(together[: len(first)])]
    bodies.append(packed(together[len(first) :], frame_hash(bodies[0])))
    verdict = verify(event_pb2.EventFrame.FromString(body) for body in bodies)
    assert (verdict.problem, verdict.seq, verdict.frames) == ("", len(together), 2)
    assert verdict.event_hash == together[-1].hash


def test_an_audit_finds_what_frame_hashes_computed_again_would_hide():
    events = chained([b"a", b"b"])
    events[0].payload = b"forged"
    body = packed(events)
    assert check_body(body, "s", 1, 2, ZERO_HASH) == ""
    assert verify([event_pb2.EventFrame.FromString(body)]).problem == "altered event at seq 1"
