"""The registry for real before ONNX Runtime: what is shipped badly is caught at its stage, and the champion goes on."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest

from alphamesh.audit.v1 import state_pb2, state_pb2_grpc
from alphamesh.model.v1 import model_pb2, model_pb2_grpc
from mesh import topology
from python_services.kit.errors import ServiceError, from_rpc_error
from python_services.kit.rollout import asked, choose, key_sha256
from python_services.local import LocalSystem
from python_services.model_registry import signing
from python_services.model_registry.signing import Manifest, Signer
from tests.integration.services.conftest import new_id
from tests.services.models import made
from tests.services.models import service as models
from tests.services.models.requests import register
from tests.services.models.serving import OnnxServing

MODEL = "made"
DAY = 86_400 * 10**9
START = 1_600_000_000 * 10**9
A, Obs = model_pb2.Alert, model_pb2.Observation
REGISTERED, VALIDATED = model_pb2.MODEL_STAGE_REGISTERED, model_pb2.MODEL_STAGE_VALIDATED
SHADOW, CANARY = model_pb2.MODEL_STAGE_SHADOW, model_pb2.MODEL_STAGE_CANARY
CHAMPION, RETIRED = model_pb2.MODEL_STAGE_CHAMPION, model_pb2.MODEL_STAGE_RETIRED
ROLLED_BACK = model_pb2.MODEL_STAGE_ROLLED_BACK
MESH = topology.load(topology.ROOT / "tests" / "services" / "registry.yaml")


class Keeper:
    """A person and an agent before the registry."""

    def __init__(self, system: LocalSystem, folder: Path, serving: OnnxServing) -> None:
        self.system = system
        self.data = folder / "data" / "model_registry"
        self.inbox = self.data / "inbox"
        self.serving = serving
        self.stub = system.stub(model_pb2_grpc.ModelRegistryServiceStub, "model_registry")
        self.rng = np.random.default_rng(11)
        self.questions = 0

    async def register(self, content: bytes, golden: bytes | None = None, **fields: Any) -> int:
        """Writes it to the inbox and registers it."""
        name = f"v{len(list(self.inbox.iterdir()))}"
        made.write(self.inbox / name, content, golden)
        return (await self.stub.RegisterModelVersion(register(content, name, **fields))).model_version.version

    async def stage(self, version: int) -> int:
        return (await self.version(version)).stage

    async def version(self, version: int) -> model_pb2.ModelVersion:
        request = model_pb2.GetModelVersionRequest(model_id=MODEL, version=version)
        return (await self.stub.GetModelVersion(request)).model_version

    async def until(self, version: int, stage: int) -> None:
        """Waits for what the registry does by itself."""
        for _ in range(200):
            if await self.stage(version) == stage:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"version {version} is {await self.stage(version)}, not {stage}")

    async def promote(self, version: int, stage: int) -> model_pb2.Rollout:
        request = model_pb2.PromoteModelVersionRequest(
            request_id=new_id(), model_id=MODEL, version=version, to_stage=stage, reason="test"
        )
        return (await self.stub.PromoteModelVersion(request)).rollout

    async def champion(self) -> int:
        """A good first version, all the way."""
        version = await self.register(made.graph())
        await self.until(version, VALIDATED)
        for stage in (SHADOW, CANARY, CHAMPION):
            await self.promote(version, stage)
        return version

    async def candidate(self, weights: tuple[float, ...] = (1.1, -0.6, 0.3), stage: int = CANARY) -> int:
        """Another good version, up to `stage`, promoted by hand."""
        version = await self.register(made.graph(weights), made.golden(made.answers(weights)))
        await self.until(version, VALIDATED)
        for following in (SHADOW, CANARY):
            if following <= stage:
                await self.promote(version, following)
        return version

    async def rollout(self) -> model_pb2.Rollout:
        return (await self.stub.GetRollout(model_pb2.GetRolloutRequest(model_id=MODEL))).rollout

    async def health(self, version: int) -> model_pb2.GetModelHealthResponse:
        return await self.stub.GetModelHealth(model_pb2.GetModelHealthRequest(model_id=MODEL, version=version))

    async def record(self, version: int, *observations: Obs) -> model_pb2.RecordObservationsResponse:
        request = model_pb2.RecordObservationsRequest(
            request_id=new_id(), model_id=MODEL, version=version, observations=observations
        )
        return await self.stub.RecordObservations(request)

    def answer(self, key: int, prediction: float, latency_ms: float = 1.0, **fields: Any) -> Obs:
        answered = Obs.Answer(prediction=[prediction], latency_ns=int(latency_ms * 1e6))
        return Obs(key_sha256=key_sha256(str(key)), row=[0], ts_event_ns=START + key, answer=answered)

    async def ask(self, features: np.ndarray[Any, Any], fallback: float | None = None) -> float:
        """An agent's question: every version is asked, the chosen one's answer counts. Records what happened."""
        self.questions += 1
        key, rollout = f"account|{self.questions}", await self.rollout()
        found: dict[int, float] = {}
        for version in asked(rollout):
            record = Obs(key_sha256=key_sha256(key), row=[0], ts_event_ns=START + self.questions)
            try:
                value = await self.serving.infer(
                    MODEL, version, {"features": features.astype(np.float32)[None, :]}, {"up_probability": (1, 1)}
                )
                found[version] = float(value["up_probability"][0, 0])
                record.answer.prediction.append(found[version])
                record.answer.latency_ns = 1_000_000
            except Exception:
                record.failure.reason = Obs.REASON_BAD_REPLY
            await self.record(version, record)
        return found.get(choose(rollout, key), found.get(rollout.champion_version, np.nan))

    async def failure(self, call: Any) -> ServiceError:
        """The typed error of a call."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        return from_rpc_error(raised.value)


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    models.serving = OnnxServing()
    async with LocalSystem(tmp_path, MESH) as system:
        yield Keeper(system, tmp_path, models.serving)


# --- a good version -----------------------------------------------------------------------------------


async def test_a_good_version_is_validated_by_its_golden_rows_and_goes_all_the_way(keeper: Keeper) -> None:
    version = await keeper.champion()
    found = await keeper.version(version)
    assert (found.stage, found.validation.passed, found.validation.validator) == (CHAMPION, True, "model_registry")
    assert found.validation.parity_error < 1e-6
    assert (await keeper.rollout()).champion_version == version
    assert (await keeper.health(version)).health.loaded
    transitions = (await keeper.stub.ListTransitions(model_pb2.ListTransitionsRequest(model_id=MODEL))).transitions
    assert [each.to_stage for each in transitions] == [VALIDATED, SHADOW, CANARY, CHAMPION]
    assert [each.actor for each in transitions] == ["model_registry", "operator", "operator", "operator"]


async def test_a_better_canary_is_promoted_by_itself_through_every_step(keeper: Keeper) -> None:
    old = await keeper.champion()
    new = await keeper.candidate(stage=SHADOW)
    shares = []
    for batch in range(40):
        keys = range(batch * 20, batch * 20 + 20)
        up = keeper.rng.random(20) < 0.5
        for version, right in ((old, 0.55), (new, 0.9)):
            await keeper.record(
                version, *(keeper.answer(key, right if y else 1 - right) for key, y in zip(keys, up, strict=True))
            )
        for version in (old, new):
            outcomes = [
                Obs(
                    key_sha256=key_sha256(str(key)),
                    row=[0],
                    ts_event_ns=START + key,
                    outcome=Obs.Outcome(value=[float(y)]),
                )
                for key, y in zip(keys, up, strict=True)
            ]
            await keeper.record(version, *outcomes)
        rollout = await keeper.rollout()
        shares.append((rollout.canary_version, rollout.config.canary_basis_points))
        if rollout.champion_version == new:
            break
    assert rollout.champion_version == new
    assert [share for share in dict.fromkeys(shares) if share[0]] == [(new, 500), (new, 2500), (new, 5000)]
    assert rollout.previous_champion_version == old
    assert await keeper.stage(old) == RETIRED
    transitions = (await keeper.stub.ListTransitions(model_pb2.ListTransitionsRequest(model_id=MODEL))).transitions
    assert "better than the champion" in transitions[-2].reason


async def test_the_old_champion_stays_loaded_while_the_new_one_bakes_and_comes_back(keeper: Keeper) -> None:
    old = await keeper.champion()
    new = await keeper.candidate()
    await keeper.record(new, *(keeper.answer(key, 0.6) for key in range(40)))
    await keeper.promote(new, CHAMPION)
    assert (await keeper.health(old)).health.loaded
    answered = await keeper.record(new, *(keeper.answer(key, np.nan) for key in range(1)))
    assert answered.stage == ROLLED_BACK
    rollout = await keeper.rollout()
    assert (rollout.champion_version, rollout.previous_champion_version) == (old, 0)
    assert (await keeper.stage(old), await keeper.stage(new)) == (CHAMPION, ROLLED_BACK)


async def test_a_person_rolls_back_and_a_model_before_is_loaded_again_first(keeper: Keeper) -> None:
    old = await keeper.champion()
    new = await keeper.candidate()
    await keeper.record(new, *(keeper.answer(key, 0.6) for key in range(40)))
    await keeper.promote(new, CHAMPION)
    await keeper.record(new, *(keeper.answer(key, 0.5 + 0.001 * (key % 7)) for key in range(70)))  # baked
    for _ in range(100):
        if not (await keeper.health(old)).health.loaded:
            break
            await asyncio.sleep(0.01)
    assert old not in (await keeper.serving.loaded())[MODEL]
    request = model_pb2.RollbackModelRequest(request_id=new_id(), model_id=MODEL, reason="it feels wrong")
    answer = await keeper.stub.RollbackModel(request)
    assert (answer.rolled_back.version, answer.rollout.champion_version) == (new, old)
    assert old in (await keeper.serving.loaded())[MODEL]
    assert await keeper.stub.RollbackModel(request) == answer  # a repeat gets the first answer
    again = model_pb2.RollbackModelRequest(request_id=new_id(), model_id=MODEL, reason="more")
    assert (await keeper.failure(keeper.stub.RollbackModel(again))).reason == "NOTHING_TO_ROLL_BACK_TO"


# --- bad versions: refused when they are registered -----------------------------------------------------


async def refused(keeper: Keeper, content: bytes, **fields: Any) -> ServiceError:
    made.write(keeper.inbox / "bad", content)
    return await keeper.failure(keeper.stub.RegisterModelVersion(register(content, "bad", **fields)))


def zipped() -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("data.pkl", b"")
    return content.getvalue()


def external() -> bytes:
    model = onnx.load_model_from_string(made.graph())
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    tensor.ClearField("raw_data")
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (pickle.dumps({"a": 1}), "pickle"),
        (pickle.dumps([1, 2], protocol=0), "pickle"),
        (zipped(), "zip archive"),
        (b"\x7fELF" + bytes(40), "program"),
        (b"\x08garbage that is no graph", "protobuf"),
        (external(), "lies in another file"),
        (b"nothing known", "none of ONNX"),
    ],
)
async def test_what_can_run_code_or_is_no_model_is_refused_by_its_content(
    keeper: Keeper, content: bytes, word: str
) -> None:
    error = await refused(keeper, content)
    assert (error.code, error.violations[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "artifact.format")
    assert word in error.message
    assert (await keeper.stub.ListModelVersions(model_pb2.ListModelVersionsRequest())).model_versions == []


async def test_a_corrupt_file_is_refused_and_the_refusal_is_an_event(keeper: Keeper) -> None:
    champion = await keeper.champion()
    content = made.graph()
    made.write(keeper.inbox / "bad", content[:-1] + b"\x00")
    error = await keeper.failure(keeper.stub.RegisterModelVersion(register(content, "bad")))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CHECKSUM_MISMATCH")
    made.write(keeper.inbox / "short", content[:-1])
    error = await keeper.failure(keeper.stub.RegisterModelVersion(register(content, "short")))
    assert error.reason == "SIZE_MISMATCH"
    schemas = await keeper_events(keeper)
    assert schemas.count("alphamesh.model.v1.ModelArtifactRefused") == 2
    assert (await keeper.rollout()).champion_version == champion


async def keeper_events(keeper: Keeper) -> list[str]:
    stub = keeper.system.stub(state_pb2_grpc.StateServiceStub, "model_registry")
    request = state_pb2.ReadEventsRequest(from_seq=1, stop_at_end=True)
    return [
        event.schema
        async for response in stub.ReadEvents(request)
        for frame in response.frames
        for event in frame.events
    ]


async def test_a_signature_of_other_tensors_than_the_files_is_refused(keeper: Keeper) -> None:
    error = await refused(keeper, made.graph(columns=2))
    assert "FP32 [-1, 2], of the signature FP32 [-1, 1]" in error.message


async def test_a_file_outside_of_the_inbox_is_not_read(keeper: Keeper, tmp_path: Path) -> None:
    content = made.graph()
    made.write(tmp_path / "elsewhere", content)
    (keeper.inbox / "link").symlink_to(tmp_path / "elsewhere")
    error = await keeper.failure(keeper.stub.RegisterModelVersion(register(content, "link")))
    assert "leads out of the inbox" in error.message


# --- bad versions: caught when they are loaded ----------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "golden", "trigger"),
    [
        (made.graph(poison=True), None, A.TRIGGER_GOLDEN_ROWS),  # NaN
        (made.graph((2.0, 0.0, 0.0)), None, A.TRIGGER_GOLDEN_ROWS),  # not what was trained
        (made.graph(), made.golden(np.zeros((8, 2))), A.TRIGGER_GOLDEN_ROWS),  # another shape than recorded
    ],
)
async def test_what_does_not_answer_its_golden_rows_never_gets_on(
    keeper: Keeper, content: bytes, golden: bytes | None, trigger: int
) -> None:
    champion = await keeper.champion()
    version = await keeper.register(content, golden)
    await keeper.until(version, ROLLED_BACK)
    (alert,) = (await keeper.health(version)).alerts
    assert (alert.trigger, alert.action) == (trigger, A.ACTION_QUARANTINE)
    error = await keeper.failure(keeper.promote(version, SHADOW))
    assert error.reason == "NOT_NEXT_STAGE"
    assert (await keeper.serving.loaded())[MODEL] == {champion}
    assert 0.0 < await keeper.ask(made.ROWS[0]) < 1.0


async def test_a_file_that_the_server_cannot_load_is_quarantined(keeper: Keeper) -> None:
    champion = await keeper.champion()
    model = onnx.load_model_from_string(made.graph())
    model.graph.node[0].op_type = "NoSuchOperator"
    version = await keeper.register(bytes(model.SerializeToString()))
    await keeper.until(version, ROLLED_BACK)
    assert (await keeper.health(version)).alerts[0].trigger == A.TRIGGER_LOAD
    assert (await keeper.serving.loaded())[MODEL] == {champion}


async def test_a_file_that_is_altered_after_it_was_signed_is_not_loaded(keeper: Keeper) -> None:
    champion = await keeper.champion()
    content = made.graph((1.1, -0.6, 0.3))
    version = await keeper.register(content, made.golden(made.answers((1.1, -0.6, 0.3))))
    await keeper.until(version, VALIDATED)
    sha256 = hashlib.sha256(content).hexdigest()
    blob = keeper.data / "blobs" / sha256[:2] / sha256
    blob.chmod(0o600)
    blob.write_bytes(made.graph((9.0, 9.0, 9.0)))
    error = await keeper.failure(keeper.promote(version, SHADOW))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VERSION_REFUSED")
    assert (await keeper.health(version)).alerts[0].trigger == A.TRIGGER_ARTIFACT
    assert (await keeper.stage(version), await keeper.stage(champion)) == (ROLLED_BACK, CHAMPION)


async def test_a_wrong_signature_is_refused_and_a_publishers_is_not(keeper: Keeper) -> None:
    content = made.graph()
    folder = made.write(keeper.inbox / "signed", content).parent
    stranger = Signer(keeper.data / "stranger")
    hashes = {name: hashlib.sha256((folder / f"{name}.json").read_bytes()).hexdigest() for name in ("card", "golden")}
    manifest = Manifest(
        model_id=MODEL, version=0, sha256=hashlib.sha256(content).hexdigest(),
        card_sha256=hashes["card"], golden_sha256=hashes["golden"],
    )  # fmt: skip
    sig = folder / "model.sig"
    sig.write_bytes(signing.to_file(manifest.text(), stranger.sign(manifest), stranger.key_id))
    error = await keeper.failure(keeper.stub.RegisterModelVersion(register(content, "signed")))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "BAD_SIGNATURE")
    assert "not trusted" in error.message
    own = Signer(keeper.data / "keys")  # the run's own key is trusted
    sig.write_bytes(signing.to_file(manifest.text(), stranger.sign(manifest), own.key_id))
    error = await keeper.failure(keeper.stub.RegisterModelVersion(register(content, "signed")))
    assert "does not fit" in error.message
    sig.write_bytes(signing.to_file(manifest.text(), own.sign(manifest), own.key_id))
    (folder / "card.json").write_bytes(b"{}")
    error = await keeper.failure(keeper.stub.RegisterModelVersion(register(content, "signed")))
    assert "other content" in error.message
    made.write(folder, content)
    answer = await keeper.stub.RegisterModelVersion(register(content, "signed"))
    assert answer.model_version.version == 1
    assert (keeper.data / "keys" / "signing.key").stat().st_mode & 0o777 == 0o600


# --- bad canaries: caught by what is observed -----------------------------------------------------------


def bad_answers(keeper: Keeper, kind: str, keys: range) -> list[Obs]:
    match kind:
        case "nan":
            return [keeper.answer(key, np.nan if key == keys[-1] else 0.5) for key in keys]
        case "out of range":
            return [keeper.answer(key, 1.5) for key in keys]
        case "slow":
            return [keeper.answer(key, 0.5 + 0.001 * (key % 9), latency_ms=90.0) for key in keys]
        case "in a row":
            failed = Obs.Failure(reason=Obs.REASON_BAD_REPLY)
            return [
                Obs(key_sha256=key_sha256(str(key)), row=[0], ts_event_ns=START + key, failure=failed)
                for key in keys[:3]
            ]
        case "now and then":
            failed = Obs.Failure(reason=Obs.REASON_DEADLINE)
            return [
                Obs(key_sha256=key_sha256(str(key)), row=[0], ts_event_ns=START + key, failure=failed)
                if key % 50 == 7
                else keeper.answer(key, 0.5)
                for key in keys
            ]
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "count", "trigger"),
    [
        ("nan", 5, A.TRIGGER_NOT_FINITE),
        ("out of range", 1, A.TRIGGER_OUT_OF_RANGE),
        ("slow", 300, A.TRIGGER_LATENCY),
        ("in a row", 3, A.TRIGGER_ERRORS_IN_A_ROW),
        ("now and then", 200, A.TRIGGER_ERROR_RATE),
    ],
)
async def test_a_bad_canary_is_taken_out_by_the_call_that_shows_it(
    keeper: Keeper, kind: str, count: int, trigger: int
) -> None:
    champion = await keeper.champion()
    canary = await keeper.candidate()
    rollout = await keeper.rollout()
    await keeper.stub.UpdateRollout(
        model_pb2.UpdateRolloutRequest(
            request_id=new_id(), model_id=MODEL, etag=rollout.etag,
            config=model_pb2.RolloutConfig(
                canary_basis_points=500, maximum_error_basis_points=100, maximum_p99_latency_ns=20_000_000,
                minimum_requests=10_000,
            ),
        )
    )  # fmt: skip
    await keeper.record(champion, *(keeper.answer(key, 0.5) for key in range(100)))
    answered = await keeper.record(canary, *bad_answers(keeper, kind, range(count)))
    assert answered.stage == ROLLED_BACK
    assert trigger in [alert.trigger for alert in answered.alerts]
    assert [alert.action for alert in answered.alerts].count(A.ACTION_QUARANTINE) == 1
    rollout = await keeper.rollout()
    assert (rollout.champion_version, rollout.canary_version) == (champion, 0)
    assert 0.0 < await keeper.ask(made.ROWS[0]) < 1.0
    await keeper.until(canary, ROLLED_BACK)


async def test_a_server_that_is_down_is_not_the_canarys_fault(keeper: Keeper) -> None:
    champion = await keeper.champion()
    canary = await keeper.candidate()
    for key in range(20):
        failed = Obs(
            key_sha256=key_sha256(str(key)),
            row=[0],
            ts_event_ns=START + key,
            failure=Obs.Failure(reason=Obs.REASON_UNAVAILABLE),
        )
        for version in (champion, canary):
            await keeper.record(version, failed)
    assert await keeper.stage(canary) == CANARY
    await keeper.record(champion, keeper.answer(30, 0.5))  # the champion is answered again, the canary is not
    away = Obs.Failure(reason=Obs.REASON_UNAVAILABLE)
    alone = [Obs(key_sha256=key_sha256(str(k)), row=[0], ts_event_ns=START + k, failure=away) for k in range(31, 34)]
    assert (await keeper.record(canary, *alone)).stage == ROLLED_BACK


async def test_a_canary_that_predicts_worse_is_taken_out_by_the_sequential_test(keeper: Keeper) -> None:
    champion = await keeper.champion()
    canary = await keeper.candidate()
    stage, pairs = CANARY, 0
    for key in range(600):
        up = float(keeper.rng.random() < 0.8)
        await keeper.record(champion, keeper.answer(key, 0.8), outcome(key, up))
        answered = await keeper.record(canary, keeper.answer(key, 0.2), outcome(key, up))
        stage, pairs = answered.stage, key + 1
        if stage == ROLLED_BACK:
            break
    assert stage == ROLLED_BACK
    assert answered.alerts[0].trigger == A.TRIGGER_WORSE_THAN_CHAMPION
    assert (answered.alerts[0].measured >= 20, answered.alerts[0].count) == (True, pairs)
    assert pairs < 150
    assert (await keeper.rollout()).champion_version == champion


def outcome(key: int, value: float, realized: float | None = None) -> Obs:
    found = Obs.Outcome(value=[value], realized_return=[] if realized is None else [realized])
    return Obs(key_sha256=key_sha256(str(key)), row=[0], ts_event_ns=START + key, outcome=found)


async def test_a_canary_that_loses_money_is_taken_out_at_the_drawdown_limit(keeper: Keeper) -> None:
    await keeper.champion()
    canary = await keeper.candidate()
    for key in range(30):
        answered = await keeper.record(canary, keeper.answer(key, 0.6), outcome(key, 1.0, realized=-0.011))
        if answered.stage == ROLLED_BACK:
            break
    assert answered.alerts[0].trigger == A.TRIGGER_DRAWDOWN
    assert key == 9


async def test_a_canary_whose_predictions_drift_is_taken_out_unless_the_champions_do_too(keeper: Keeper) -> None:
    champion = await keeper.champion()
    canary = await keeper.candidate()
    await hold(keeper)
    before, after = 0.5 + 0.1 * keeper.rng.standard_normal(500), 0.65 + 0.1 * keeper.rng.standard_normal(300)
    values = np.clip(np.concatenate([before, after]), 0.01, 0.99)
    await keeper.record(champion, *(keeper.answer(k, float(v)) for k, v in enumerate(values)))
    answered = await keeper.record(canary, *(keeper.answer(k, float(v)) for k, v in enumerate(values)))
    assert answered.stage == CANARY  # the market moved
    steady = np.clip(0.5 + 0.1 * keeper.rng.standard_normal(500), 0.01, 0.99)
    await keeper.record(champion, *(keeper.answer(k, float(v)) for k, v in enumerate(steady)))
    assert await keeper.stage(canary) == ROLLED_BACK
    assert (await keeper.health(canary)).alerts[0].trigger == A.TRIGGER_PREDICTION_DRIFT


async def hold(keeper: Keeper) -> None:
    """Promotes by hand only."""
    rollout = await keeper.rollout()
    config = model_pb2.RolloutConfig()
    config.CopyFrom(rollout.config)
    config.manual = True
    await keeper.stub.UpdateRollout(
        model_pb2.UpdateRolloutRequest(request_id=new_id(), model_id=MODEL, etag=rollout.etag, config=config)
    )


# --- what is durable, what is seen ----------------------------------------------------------------------


async def test_a_restart_knows_the_same(keeper: Keeper) -> None:
    champion = await keeper.champion()
    canary = await keeper.candidate()
    for key in range(30):
        for version in (champion, canary):
            value = 0.5 + 0.2 * keeper.rng.standard_normal()
            await keeper.record(version, keeper.answer(key, float(np.clip(value, 0, 1))), outcome(key, 1.0, 0.001))
    await keeper.stub.SetAlias(
        model_pb2.SetAliasRequest(request_id=new_id(), model_id=MODEL, alias="reviewed", version=canary)
    )
    stub = keeper.system.stub(state_pb2_grpc.StateServiceStub, "model_registry")
    before = [one.comparison async for one in stub.VerifyViews(state_pb2.VerifyViewsRequest())]
    health = (await keeper.health(canary)).health
    await keeper.system.stop("model_registry")
    await keeper.system.start("model_registry")
    after = [one.comparison async for one in stub.VerifyViews(state_pb2.VerifyViewsRequest())]
    assert before == after
    assert before[0].served_sha256 == before[0].rebuilt_sha256
    assert (await keeper.health(canary)).health == health
    aliases = (await keeper.stub.ListAliases(model_pb2.ListAliasesRequest(model_id=MODEL))).aliases
    assert [(each.alias, each.version) for each in aliases] == [
        ("challenger", canary), ("champion", champion), ("reviewed", canary),
    ]  # fmt: skip


async def test_watchers_see_the_rollouts_of_now_and_then_every_change_in_order(keeper: Keeper) -> None:
    champion = await keeper.champion()
    stream = keeper.stub.WatchRollouts(model_pb2.WatchRolloutsRequest())
    first = await anext(aiter(stream))
    assert [rollout.champion_version for rollout in first.updates] == [champion]
    canary = await keeper.candidate()
    seen: list[model_pb2.Rollout] = []
    async for response in stream:
        seen += response.updates
        if seen and seen[-1].canary_version == canary:
            break
    assert [list(rollout.shadow_versions) for rollout in seen] == [[canary], []]
    again = keeper.stub.WatchRollouts(model_pb2.WatchRolloutsRequest(from_seq=1))
    past = await anext(aiter(again))
    assert past.updates[-1].canary_version == canary
    assert past.updates[0].champion_version == 0
    ahead = keeper.stub.WatchRollouts(model_pb2.WatchRolloutsRequest(from_seq=10_000))
    assert (await keeper.failure(anext(aiter(ahead)))).code == grpc.StatusCode.OUT_OF_RANGE


async def test_a_model_server_that_was_away_gets_what_it_must_serve_when_it_is_back(keeper: Keeper) -> None:
    champion = await keeper.champion()
    keeper.serving.sessions.clear()  # killed and started again, empty
    for _ in range(200):
        if MODEL in keeper.serving.sessions:
            break
        await asyncio.sleep(0.01)
    assert set(keeper.serving.sessions[MODEL]) == {champion}
    keeper.serving.away = True
    version = await keeper.register(made.graph((1.1, -0.6, 0.3)), made.golden(made.answers((1.1, -0.6, 0.3))))
    await asyncio.sleep(0.05)
    assert await keeper.stage(version) == REGISTERED
    keeper.serving.away = False
    await keeper.until(version, VALIDATED)


async def test_old_etags_other_holders_and_guardrails_are_typed_errors(keeper: Keeper) -> None:
    await keeper.champion()
    canary = await keeper.candidate()
    other = await keeper.candidate((0.9, -0.4, 0.2), stage=SHADOW)
    assert (await keeper.failure(keeper.promote(other, CANARY))).code == grpc.StatusCode.ABORTED
    assert (await keeper.failure(keeper.promote(canary, CHAMPION))).reason == "GUARDRAILS_NOT_MET"
    stale = model_pb2.RetireModelVersionRequest(
        request_id=new_id(), model_id=MODEL, version=other, etag="1", reason="test"
    )
    assert (await keeper.failure(keeper.stub.RetireModelVersion(stale))).reason == "ETAG_MISMATCH"
    stale.etag = ""
    assert (await keeper.stub.RetireModelVersion(stale)).model_version.stage == RETIRED
    reserved = model_pb2.SetAliasRequest(request_id=new_id(), model_id=MODEL, alias="champion", version=canary)
    assert "follows the rollout" in (await keeper.failure(keeper.stub.SetAlias(reserved))).message
    unknown = model_pb2.GetModelVersionRequest(model_id="nobody", version=1)
    assert (await keeper.failure(keeper.stub.GetModelVersion(unknown))).code == grpc.StatusCode.NOT_FOUND
    early = await keeper.register(made.graph((0.5, 0.5, 0.5)), made.golden(made.answers((0.5, 0.5, 0.5))))
    assert (await keeper.failure(keeper.record(early, keeper.answer(1, 0.5)))).reason == "NOT_SERVED"
