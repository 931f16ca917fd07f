"""Observations as columns: rows say together what they say one by one, and what does not fit is refused by place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from alphamesh.audit.v1 import event_pb2
from alphamesh.model.v1 import events_pb2, model_pb2
from python_services.kit.errors import ServiceError
from python_services.model_registry import deciding, observations
from python_services.model_registry.config import Rollouts
from python_services.model_registry.kept import Kept
from python_services.model_registry.state import RegistryState

Obs = model_pb2.Observation
CHAMPION, CANARY = 1, 2
WRONG = [(0, -0.5), (1, float("nan")), (2, 1.5)]  # rows and first outputs that are faults


class Registry:
    """The state of a model with a champion and a canary, fed with events."""

    def __init__(self, block_ns: int) -> None:
        self.state = RegistryState(Rollouts(block_ns=block_ns))
        up = model_pb2.TensorSpec(name="up", shape=[-1, 1], minimum=0.0, maximum=1.0)
        outputs = [up, model_pb2.TensorSpec(name="volatility", shape=[-1, 1], minimum=0.0)]
        for number in (CHAMPION, CANARY):
            version = model_pb2.ModelVersion(model_id="m", version=number, signature={"outputs": outputs})
            self._apply(events_pb2.ModelVersionRegistered(model_version=version, manifest="{}"))
            for stage in (model_pb2.MODEL_STAGE_SHADOW, model_pb2.MODEL_STAGE_CANARY, model_pb2.MODEL_STAGE_CHAMPION):
                if stage != model_pb2.MODEL_STAGE_CHAMPION or number == CHAMPION:
                    moved = model_pb2.Transition(model_id="m", version=number, to_stage=stage)
                    self._apply(events_pb2.ModelVersionTransitioned(transition=moved))
            rollout = model_pb2.Rollout(
                model_id="m", champion_version=CHAMPION, canary_version=CANARY if number == CANARY else 0
            )
            rollout.config.CopyFrom(deciding.default_config(Rollouts()))
            self._apply(events_pb2.RolloutChanged(rollout=rollout))

    def _apply(self, event: object) -> None:
        payload = event.SerializeToString()  # type: ignore[attr-defined]
        schema = event.DESCRIPTOR.full_name  # type: ignore[attr-defined]
        self.state.apply(event_pb2.EventEnvelope(seq=1, schema=schema, payload=payload))

    def record(self, version: int, found: list[Obs]) -> None:
        self._apply(events_pb2.ModelObservationsRecorded(model_id="m", version=version, observations=found))

    def alerts(self) -> list[object]:
        return [deciding.findings(self.state.models["m"], number, Rollouts()) for number in (CHAMPION, CANARY)]


def one_by_one(whole: Obs) -> list[Obs]:
    """The same, a message a row."""
    made = []
    for i, row in enumerate(whole.row):
        part = Obs(key_sha256=whole.key_sha256, ts_event_ns=whole.ts_event_ns, row=[row])
        match whole.WhichOneof("record"):
            case "answer":
                width = len(whole.answer.prediction) // len(whole.row)
                part.answer.prediction.extend(whole.answer.prediction[i * width : (i + 1) * width])
                part.answer.latency_ns = whole.answer.latency_ns
                size = len(whole.answer.features) // len(whole.row)
                part.answer.features = whole.answer.features[i * size : (i + 1) * size]
            case "failure":
                part.failure.CopyFrom(whole.failure)
            case _:
                part.outcome.value.append(whole.outcome.value[i])
                part.outcome.realized_return.extend(whole.outcome.realized_return[i : i + 1])
        made.append(part)
    return made


def answered(key: int, rows: np.ndarray, rng: np.random.Generator, faults: list[tuple[int, float]]) -> Obs:
    found = Obs(key_sha256=f"{key:064x}", ts_event_ns=key + 1, row=rows.tolist())
    outputs = np.column_stack([rng.uniform(0.0, 1.0, len(rows)), rng.uniform(0.0, 0.1, len(rows))])
    for row, value in faults:
        outputs[row % len(rows), 0] = value
    found.answer.prediction.extend(outputs.ravel().tolist())
    found.answer.latency_ns = int(rng.integers(1, 10**8))
    found.answer.features = (rng.standard_normal((len(rows), 3)) + key // 8).astype("<f4").tobytes()
    return found


def came(key: int, rows: np.ndarray, rng: np.random.Generator) -> Obs:
    found = Obs(key_sha256=f"{key:064x}", ts_event_ns=key + 1, row=rows.tolist())
    found.outcome.value.extend((rng.random(len(rows)) < 0.4).astype(float).tolist())
    if key % 3:
        found.outcome.realized_return.extend((0.01 * rng.standard_normal(len(rows))).tolist())
    return found


@settings(max_examples=4, deadline=None, phases=(Phase.generate,))
@given(
    seed=st.integers(0, 2**32),
    block_ns=st.sampled_from([0, 1, 3]),
    faults=st.lists(st.sampled_from(WRONG), max_size=3),
    broken=st.sets(st.integers(0, 15)),
)
def test_rows_taken_together_leave_the_state_that_they_leave_one_by_one(
    seed: int, block_ns: int, faults: list[tuple[int, float]], broken: set[int]
) -> None:
    """To the last bit: counters, windows, losses, drift, the test against the champion, and what is found wrong."""
    rng = np.random.default_rng(seed)
    together, apart = Registry(block_ns), Registry(block_ns)
    for key in range(16):
        rows = np.flatnonzero(rng.random(120) < 0.7)
        for version in (CHAMPION, CANARY):
            found = []
            if key >= 3:
                found.append(came(key - 3, np.flatnonzero(rng.random(120) < 0.8), np.random.default_rng(key)))
            if key in broken:
                failure = Obs.Failure(reason=int(rng.integers(1, 7)), latency_ns=int(rng.integers(0, 10**6)))
                found.append(Obs(key_sha256=f"{key:064x}", ts_event_ns=key + 1, row=rows.tolist(), failure=failure))
            else:
                found.append(answered(key, rows, rng, faults if key == 14 else []))
            together.record(version, found)
            apart.record(version, [part for whole in found for part in one_by_one(whole)])
        assert repr(together.alerts()) == repr(apart.alerts())  # of a NaN, too
    assert together.state.dump() == apart.state.dump()
    monitors = [version.monitor for version in together.state.models["m"].versions.values()]
    assert all(monitor.requests == monitors[0].requests > 0 for monitor in monitors)


def answer(**fields: object) -> Obs:
    found = {"prediction": [0.5, 0.6, 0.7], "latency_ns": 1, **fields}
    return Obs(key_sha256="0" * 64, ts_event_ns=1, row=[2, 5, 9], answer=Obs.Answer(**found))  # type: ignore[arg-type]


def outcome(**fields: object) -> Obs:
    return Obs(key_sha256="0" * 64, ts_event_ns=1, row=[2, 5, 9], outcome=Obs.Outcome(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sent", "field", "words"),
    [
        (Obs(row=[2, 5, 5], outcome=Obs.Outcome(value=[1.0, 0.0, 1.0])), "row[2]", "not above the one before"),
        (answer(prediction=[0.5, 0.6]), "answer.prediction", "2 values for 3 rows"),
        (answer(prediction=[0.5] * 3 * 65), "answer.prediction", "64 at most"),
        (answer(features=bytes(13)), "answer.features", "no whole single-precision"),
        (answer(features=bytes(16)), "answer.features", "4 values for 3 rows"),
        (answer(features=np.array([1, 2, 3, np.inf, 5, 6], "<f4").tobytes()), "answer.features[3]", "inf, of row 5"),
        (outcome(value=[1.0, 0.0]), "outcome.value", "2 values for 3 rows"),
        (outcome(value=[1.0, 0.0, np.nan]), "outcome.value[2]", "nan, of row 9"),
        (outcome(value=[1.0, 0.0, 1.0], realized_return=[0.1]), "outcome.realized_return", "1 values for 3 rows"),
    ],
)
def test_what_does_not_fit_its_rows_is_refused_with_its_place(sent: Obs, field: str, words: str) -> None:
    with pytest.raises(ServiceError) as raised:
        observations.read([outcome(value=[1.0, 0.0, 1.0]), sent])
    assert raised.value.violations[0][0] == f"observations[1].{field}"
    assert words in raised.value.message


def test_more_rows_than_may_be_sent_at_once_are_refused() -> None:
    half = Obs(key_sha256="0" * 64, row=range(5001), failure=Obs.Failure(reason=Obs.REASON_DEADLINE))
    with pytest.raises(ServiceError, match="more than 10000 rows"):
        observations.read([half, half])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sets(st.integers(0, 9), min_size=1), st.booleans()), max_size=30))
def test_what_is_kept_is_what_a_dictionary_would_keep(steps: list[tuple[int, set[int], bool]]) -> None:
    kept, known = Kept(10**6), dict[tuple[int, int], float]()
    for number, (key, chosen, taken) in enumerate(steps):
        rows = np.array(sorted(chosen))
        if taken:
            found = kept.pop(str(key), rows)
            wanted = np.array([known.pop((key, row), np.nan) for row in rows.tolist()])
            assert np.array_equal(found, wanted, equal_nan=True)
        else:
            kept.put(str(key), rows, rows + 100.0 * number)
            known |= {(key, row): row + 100.0 * number for row in rows.tolist()}
    assert len(kept) == len(known)
    for key in range(5):
        found = kept.get(str(key), np.arange(10))
        assert np.array_equal(found, [known.get((key, row), np.nan) for row in range(10)], equal_nan=True)


def test_past_the_limit_the_oldest_question_is_forgotten() -> None:
    kept = Kept(10)
    for key in ("a", "b", "c"):
        kept.put(key, np.arange(4), np.ones(4))
    assert len(kept) == 8
    assert np.isnan(kept.get("a", np.arange(4))).all()
    assert (kept.get("b", np.arange(4)) == 1.0).all()
