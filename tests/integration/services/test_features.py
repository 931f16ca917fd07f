"""The feature store with the real market_data: what a model's trainer and its server would notice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pytest

from alphamesh.feature.v1 import feature_pb2, feature_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from mesh import topology
from mesh.connect import SocketSystem
from mesh.rundir import RunDir
from python_services.feature_store.definitions import DAILY_TECHNICAL, KERNELS, volatility
from python_services.kit.errors import from_rpc_error
from python_services.local import LocalSystem
from tests.integration.conftest import alphamesh
from tests.unit.python_services.market_data.files import write

E9 = 10**9
SET = DAILY_TECHNICAL.version
NAMES = ["A", "B"]
Backfill = feature_pb2.Backfill


def bars(days: int) -> list[str]:
    """Random walks of A and B, with gaps, a split and dividends."""
    random = np.random.default_rng(5)
    lines = []
    for name in NAMES:
        close, factor = 50.0, 1.0
        for i, day in enumerate(np.busday_offset("2006-01-02", np.arange(days), roll="forward").astype(str)):
            close = round(close * float(np.exp(0.01 * random.standard_normal())), 2)
            factor *= 2.0 if i == 140 else float(random.choice([1.0, 1.01], p=[0.98, 0.02]))
            if i in (0, days - 1) or random.random() > 0.01:
                prices = f"{close},{close * 1.02:.2f},{close * 0.98:.2f},{close}"
                lines.append(f"{name},{day},{prices},{random.integers(10**4, 10**6)},{close * factor!r}")
    return lines


def mesh(folder: Path, days: int) -> Path:
    files = write(folder / "data", bars(days))
    path = folder / "topology.yaml"
    path.write_text(
        "version: 1\nsupervision: {preload: [python_services.kit.server, numba], backoff_s: 0.05}\n"
        "event_log: {streams: {market_data: {maximum_mb: 0}, feature_store: {maximum_mb: 0}}}\n"
        "services:\n  market_data:\n    config: "
        f"{{datasets: {files['datasets']}, instruments: '{files['instruments']}'}}\n"
        "  feature_store:\n    calls:\n      market_data: [alphamesh.marketdata.v1.MarketDataService/*, "
        "alphamesh.audit.v1.StateService/ReadEvents]\n    reads: [market_data]\n"
    )
    return path


class Store:
    """The two services, and the questions that tests ask."""

    def __init__(self, system: LocalSystem) -> None:
        self.system = system
        self.features = system.stub(feature_pb2_grpc.FeatureServiceStub, "feature_store")
        self.data = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
        self.days: list[int] = []

    async def open(self) -> Store:
        days = marketdata_pb2.ListTradingDaysRequest(start_ns=0, end_ns=2**62, instrument_ids=NAMES)
        self.days = list((await self.data.ListTradingDays(days)).close_ns)
        return self

    async def online(self, cut_ns: int, lookback: int = 0, names: list[str] = NAMES) -> pa.Table:
        """From a snapshot of `lookback` bars, or from the bars themselves."""
        request = feature_pb2.GetOnlineFeaturesRequest(
            feature_set_version=SET, instrument_ids=names, known_at_ns=cut_ns
        )
        if lookback:
            cut = marketdata_pb2.CutSnapshotRequest(
                request_id=str(uuid.uuid4()), as_of_ns=cut_ns, instrument_ids=NAMES, lookback_bars=lookback
            )
            request.snapshot_id = (await self.data.CutSnapshot(cut)).header.snapshot_id
        return table((await self.features.GetOnlineFeatures(request)).arrow_ipc)

    async def past(self, rows: list[tuple[str, int]], known_at_ns: int = 0) -> pa.Table:
        request = feature_pb2.GetHistoricalFeaturesRequest(
            feature_set_version=SET,
            instrument_ids=[name for name, _ in rows],
            as_of_ns=[cut for _, cut in rows],
            known_at_ns=known_at_ns,
        )
        return table((await self.features.GetHistoricalFeatures(request)).arrow_ipc)

    async def parity(self, **fields: float) -> feature_pb2.CheckParityResponse:
        request = feature_pb2.CheckParityRequest(feature_set_version=SET, start_ns=0, end_ns=2**62, **fields)  # type: ignore[arg-type]
        return await self.features.CheckParity(request)

    async def correct(self, name: str, close_ns: int, known_ns: int) -> None:
        """Another bar of a day became known later."""
        bar = marketdata_pb2.BarVersion(
            instrument_id=name, ts_event_ns=close_ns, ts_open_ns=close_ns - 23_400 * E9, known_at_ns=known_ns,
            open_e9=40 * E9, high_e9=99 * E9, low_e9=33 * E9, close_e9=44 * E9, volume_e9=5_000 * E9,
        )  # fmt: skip
        request = marketdata_pb2.IngestBarsRequest(request_id=str(uuid.uuid4()), stream="vendor", bars=[bar])
        await self.data.IngestBars(request)

    async def backfill(self) -> Backfill:
        """All of it; the job when it has ended."""
        request = feature_pb2.CreateBackfillRequest(
            request_id=str(uuid.uuid4()), feature_set_version=SET, instrument_ids=NAMES, start_ns=0, end_ns=2**62
        )
        job = (await self.features.CreateBackfill(request)).backfill
        updates = [
            u async for u in self.features.WatchBackfill(feature_pb2.WatchBackfillRequest(backfill_id=job.backfill_id))
        ]
        assert updates[-1].end_reason == feature_pb2.WatchBackfillResponse.END_REASON_COMPLETED
        return updates[-1].updates[-1]


def table(content: bytes) -> pa.Table:
    return pa.ipc.open_file(pa.BufferReader(content)).read_all()


def values(found: pa.Table, row: int = 0) -> list[float | None]:
    return [found.column(feature_id)[row].as_py() for feature_id in DAILY_TECHNICAL.feature_ids]


async def refused(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    error = from_rpc_error(caught.value)
    return error.code, error.reason


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with LocalSystem(tmp_path / "run", topology.load(mesh(tmp_path, 200))) as running:
        yield await Store(running).open()


async def test_snapshot_bars_and_history_give_the_same_bits_and_parity_sees_it(store: Store) -> None:
    for day in store.days[-5:]:
        from_snapshot, from_bars = await store.online(day, 160), await store.online(day)
        past = await store.past([(name, day) for name in NAMES])
        for row in range(2):
            assert values(from_snapshot, row) == values(from_bars, row) == values(past, row)
            assert None not in values(past, row)
        assert past.column("event_time_ns").to_pylist() == [day, day]
        assert past.column("known_time_ns").to_pylist() == [day, day]
    checked = await store.parity()
    assert (checked.compared, checked.different) == (5 * 2 * 2 * len(DAILY_TECHNICAL.features), 0)


async def test_a_snapshot_that_is_too_short_has_nulls_and_parity_says_so(store: Store) -> None:
    short = await store.online(store.days[-1], 70)
    absent = {name for name, value in zip(DAILY_TECHNICAL.feature_ids, values(short), strict=True) if value is None}
    assert absent == {"momentum_120_20", "macd_histogram", "adx_14", "rsi_14", "atr_14"}
    checked = await store.parity()
    assert checked.different == 2 * len(absent)
    assert {each.feature_id for each in checked.differences} == absent
    assert not any(each.HasField("online") for each in checked.differences)


async def test_a_correction_changes_only_what_is_read_after_it_became_known(store: Store) -> None:
    day, known = store.days[-10], store.days[-8] + 3_600 * E9
    rows = [("A", cut) for cut in store.days[-12:]]
    before = await store.past(rows)
    assert (await store.backfill()).state == Backfill.STATE_SUCCEEDED
    await store.correct("A", day, known)
    after = await store.past(rows)
    for i, (_, cut) in enumerate(rows):
        assert (values(before, i) == values(after, i)) == (cut < known), i
    as_it_was = await store.past(rows, known_at_ns=known - 1)
    assert values(as_it_was, 0) == values(before, 0)
    assert values(await store.online(store.days[-1])) == values(after, len(rows) - 1)
    assert values(await store.online(store.days[-9])) == values(before, 3)
    # A second backfill writes what the correction put out of use.
    assert (await store.backfill()).state == Backfill.STATE_SUCCEEDED
    assert (await store.past(rows)).equals(after)
    assert (await store.parity()).different == 0


async def test_rows_from_disk_are_the_rows_that_were_computed(store: Store, tmp_path: Path) -> None:
    rows = [(name, day) for name in NAMES for day in store.days]
    computed = await store.past(rows)
    first = await store.backfill()
    assert first.written_rows == first.total_rows == sum(len(set(store.days)) - gaps for gaps in await gaps_of(store))
    files = sorted((tmp_path / "run" / "data" / "feature_store" / "offline" / SET / "A").glob("*.parquet"))
    assert files
    written = [file.stat().st_mtime_ns for file in files]
    assert (await store.past(rows)).equals(computed)
    again = await store.backfill()
    assert again.content_sha256 == first.content_sha256
    assert [file.stat().st_mtime_ns for file in files] == written  # nothing was missing
    files[0].write_bytes(files[0].read_bytes()[:-7])  # a damaged file is not believed
    await store.system.stop("feature_store")
    await store.system.start("feature_store")
    assert (await store.past(rows)).equals(computed)
    ended = await store.features.GetBackfill(feature_pb2.GetBackfillRequest(backfill_id=again.backfill_id))
    assert ended.backfill == again


async def gaps_of(store: Store) -> list[int]:
    request = marketdata_pb2.ListBarsRequest(instrument_ids=NAMES, start_ns=0, end_ns=2**62)
    held = [bar.instrument_id for bar in (await store.data.ListBars(request)).bars]
    return [len(store.days) - held.count(name) for name in NAMES]


async def test_what_is_code_is_registered_once_and_two_versions_stand_side_by_side(store: Store) -> None:
    listed = (await store.features.ListFeatures(feature_pb2.ListFeaturesRequest(page_size=1000))).features
    both = [feature for feature in listed if feature.feature_id == "volatility_20"]
    assert [feature.definition.kernel for feature in both] == ["close_to_close_volatility", "yang_zhang_volatility"]
    newest = await store.features.GetFeature(feature_pb2.GetFeatureRequest(feature_id="volatility_20"))
    assert newest.feature == both[1]
    [held] = (await store.features.ListFeatureSets(feature_pb2.ListFeatureSetsRequest())).feature_sets
    assert (held.display_name, held.feature_set_version) == ("daily_technical", SET)
    assert [each.version for each in held.features if each.feature_id == "volatility_20"] == [both[1].version]
    [ratio] = [feature for feature in listed if feature.feature_id == "volatility_ratio_5_60"]
    lineage = {each.feature.feature_id for each in ratio.definition.inputs}
    assert lineage == {"volatility_5", "volatility_60"}
    await store.system.stop("feature_store")
    await store.system.start("feature_store")
    again = await store.features.ListFeatures(feature_pb2.ListFeaturesRequest(page_size=1000))
    assert list(again.features) == list(listed)
    old = feature_pb2.RegisterFeatureSetRequest(
        request_id=str(uuid.uuid4()), display_name="closes", features=[volatility.VOLATILITY_20_CLOSES.reference]
    )
    made = (await store.features.RegisterFeatureSet(old)).feature_set
    request = feature_pb2.GetOnlineFeaturesRequest(
        feature_set_version=made.feature_set_version, instrument_ids=["A"], known_at_ns=store.days[-1]
    )
    first = table((await store.features.GetOnlineFeatures(request)).arrow_ipc).column("volatility_20")[0].as_py()
    second = (await store.online(store.days[-1])).column("volatility_20")[0].as_py()
    assert first != second
    assert abs(first / second - 1) < 0.9


def registration(feature_id: str, **fields: object) -> feature_pb2.RegisterFeatureRequest:
    """return_20 by hand, but for `fields`."""
    settings: dict[str, object] = {
        "description": "Return over a month.", "owner": "alice", "unit": "1", "kernel": "simple_return",
        "parameters": {"bars": 21}, "code_sha256": KERNELS["simple_return"].sha256,
        "inputs": [feature_pb2.FeatureInput(bar_column="close")], "minimum_bars": 22, "maximum_age_ns": 86_400 * E9,
    }  # fmt: skip
    definition = feature_pb2.FeatureDefinition(**(settings | fields))  # type: ignore[arg-type]
    return feature_pb2.RegisterFeatureRequest(
        request_id=str(uuid.uuid4()), feature_id=feature_id, definition=definition
    )


async def test_a_feature_that_somebody_registers_is_served_until_it_is_deprecated(store: Store) -> None:
    made = (await store.features.RegisterFeature(registration("return_21"))).feature
    assert (await store.features.RegisterFeature(registration("return_21"))).feature == made
    reference = feature_pb2.FeatureReference(feature_id="return_21", version=made.version)
    request = feature_pb2.RegisterFeatureSetRequest(
        request_id=str(uuid.uuid4()), display_name="mine", features=[reference]
    )
    mine = (await store.features.RegisterFeatureSet(request)).feature_set.feature_set_version
    asked = feature_pb2.GetHistoricalFeaturesRequest(
        feature_set_version=mine, instrument_ids=["A"], as_of_ns=[store.days[-1] + 10 * E9]
    )
    served = table((await store.features.GetHistoricalFeatures(asked)).arrow_ipc)
    assert served.column("return_21")[0].as_py() is not None
    asked.as_of_ns[0] = store.days[-1] + 2 * 86_400 * E9  # older than its maximum age
    stale = table((await store.features.GetHistoricalFeatures(asked)).arrow_ipc)
    assert stale.column("return_21")[0].as_py() is None
    deprecate = feature_pb2.DeprecateFeatureRequest(
        request_id=str(uuid.uuid4()), feature=reference, etag="another", reason="too slow"
    )
    assert await refused(store.features.DeprecateFeature(deprecate)) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    deprecate.etag, deprecate.request_id = made.etag, str(uuid.uuid4())
    gone = (await store.features.DeprecateFeature(deprecate)).feature
    assert gone.state == feature_pb2.Feature.STATE_DEPRECATED
    request.request_id = str(uuid.uuid4())
    request.features.append(volatility.VOLATILITY_60.reference)
    code, reason = await refused(store.features.RegisterFeatureSet(request))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FEATURE_DEPRECATED")
    assert await store.features.GetHistoricalFeatures(asked)  # the set that holds it goes on


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"kernel": "oracle"}, "INVALID_ARGUMENT", "INVALID_FIELD"),
        ({"code_sha256": "0" * 64}, "FAILED_PRECONDITION", "KERNEL_CHANGED"),
        ({"parameters": {"days": 21}}, "INVALID_ARGUMENT", "INVALID_FIELD"),
        ({"parameters": {"bars": 2.5}}, "INVALID_ARGUMENT", "INVALID_FIELD"),
        ({"minimum_bars": 21}, "INVALID_ARGUMENT", "INVALID_FIELD"),
        ({"inputs": [feature_pb2.FeatureInput(bar_column="open")]}, "INVALID_ARGUMENT", "INVALID_FIELD"),
    ],
)
async def test_a_definition_that_cannot_be_computed_is_refused(
    store: Store, fields: dict[str, object], code: str, reason: str
) -> None:
    found = await refused(store.features.RegisterFeature(registration("mine", **fields)))
    assert found == (grpc.StatusCode[code], reason)


async def test_what_cannot_be_answered_is_an_error_with_a_reason(store: Store) -> None:
    unknown = feature_pb2.GetFeatureSetRequest(feature_set_version="0" * 64)
    assert await refused(store.features.GetFeatureSet(unknown)) == (
        grpc.StatusCode.NOT_FOUND, "FEATURE_SET_NOT_FOUND",
    )  # fmt: skip
    early = store.past([("A", store.days[0] - 1)])
    assert await refused(early) == (grpc.StatusCode.OUT_OF_RANGE, "NO_DATA_SO_EARLY")
    assert await refused(store.online(store.days[-1], names=["NONE"])) == (
        grpc.StatusCode.NOT_FOUND, "INSTRUMENT_NOT_FOUND",
    )  # fmt: skip
    assert await refused(store.parity()) == (grpc.StatusCode.OUT_OF_RANGE, "NOTHING_SERVED")
    cut = marketdata_pb2.CutSnapshotRequest(
        request_id=str(uuid.uuid4()), as_of_ns=store.days[-1], instrument_ids=NAMES, lookback_bars=160
    )
    snapshot_id = (await store.data.CutSnapshot(cut)).header.snapshot_id
    leaking = feature_pb2.GetOnlineFeaturesRequest(
        feature_set_version=SET, instrument_ids=["A"], known_at_ns=store.days[-1] - 1, snapshot_id=snapshot_id
    )
    assert await refused(store.features.GetOnlineFeatures(leaking)) == (
        grpc.StatusCode.FAILED_PRECONDITION, "SNAPSHOT_AFTER_CUT",
    )  # fmt: skip
    behind = feature_pb2.GetFeatureRequest(feature_id="rsi_14", min_seq=10**6)
    assert await refused(store.features.GetFeature(behind)) == (grpc.StatusCode.UNAVAILABLE, "NOT_APPLIED_YET")


async def test_a_job_that_waits_can_be_cancelled_and_a_queue_has_an_end(store: Store) -> None:
    def request() -> feature_pb2.CreateBackfillRequest:
        return feature_pb2.CreateBackfillRequest(
            request_id=str(uuid.uuid4()), feature_set_version=SET, instrument_ids=NAMES, start_ns=0, end_ns=2**62
        )

    jobs = await asyncio.gather(*(store.features.CreateBackfill(request()) for _ in range(24)), return_exceptions=True)
    full = [job for job in jobs if isinstance(job, grpc.aio.AioRpcError)]
    assert full
    assert {(error.code(), from_rpc_error(error).reason) for error in full} == {
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "BACKFILLS_WAITING")
    }
    queued = [job.backfill.backfill_id for job in jobs if isinstance(job, feature_pb2.CreateBackfillResponse)]
    cancel = feature_pb2.CancelBackfillRequest(request_id=str(uuid.uuid4()), backfill_id=queued[-1])
    assert (await store.features.CancelBackfill(cancel)).backfill.state == Backfill.STATE_CANCELED
    for backfill_id in queued:
        watch = feature_pb2.WatchBackfillRequest(backfill_id=backfill_id)
        last = [update async for response in store.features.WatchBackfill(watch) for update in response.updates][-1]
        assert last.state == (Backfill.STATE_CANCELED if backfill_id == queued[-1] else Backfill.STATE_SUCCEEDED)
    cancel.request_id = str(uuid.uuid4())
    assert await refused(store.features.CancelBackfill(cancel)) == (
        grpc.StatusCode.FAILED_PRECONDITION, "ALREADY_ENDED",
    )  # fmt: skip


# --- as processes ------------------------------------------------------------------------------------


@pytest.fixture
def run() -> Iterator[RunDir]:
    """market_data and the feature store as processes with a supervisor, and fifteen years of bars."""
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        path = Path(folder) / "run"
        started = alphamesh("up", "--detach", "--data-dir", path, "--topology", mesh(Path(folder), 3_900))
        assert started.returncode == 0, started.stderr
        yield RunDir(path)
        assert alphamesh("down", "--data-dir", path).returncode == 0


async def test_cancelled_and_killed_in_a_backfill_it_goes_on_and_the_command_line_shows_it(run: RunDir) -> None:
    system = SocketSystem(run)
    features = system.stub(feature_pb2_grpc.FeatureServiceStub, "feature_store")
    request = feature_pb2.CreateBackfillRequest(
        request_id=str(uuid.uuid4()), feature_set_version=SET, instrument_ids=NAMES, start_ns=0, end_ns=2**62
    )
    job = (await features.CreateBackfill(request)).backfill
    cancelled, asked = list[Backfill](), False
    async for response in features.WatchBackfill(feature_pb2.WatchBackfillRequest(backfill_id=job.backfill_id)):
        if response.updates and response.updates[-1].state == Backfill.STATE_RUNNING and not asked:
            cancel = feature_pb2.CancelBackfillRequest(request_id=str(uuid.uuid4()), backfill_id=job.backfill_id)
            await features.CancelBackfill(cancel)
            asked = True
        cancelled += response.updates
    assert cancelled[-1].state == Backfill.STATE_CANCELED
    assert cancelled[-1].written_rows < cancelled[-1].total_rows
    request.request_id = str(uuid.uuid4())
    job = (await features.CreateBackfill(request)).backfill
    folder = run.path / "data" / "feature_store" / "offline" / SET
    begun = len(list(folder.glob("*/*.parquet")))
    while len(list(folder.glob("*/*.parquet"))) == begun:  # noqa: ASYNC110 - another process writes them
        await asyncio.sleep(0.005)
    os.kill(run.state()["processes"]["feature_store"]["pid"], signal.SIGKILL)
    done = len(list(folder.glob("*/*.parquet")))
    ended = None
    while ended is None:
        try:
            watch = feature_pb2.WatchBackfillRequest(backfill_id=job.backfill_id)
            async for response in features.WatchBackfill(watch):
                if response.end_reason == feature_pb2.WatchBackfillResponse.END_REASON_COMPLETED:
                    ended = response.updates[-1]
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
                raise
            await asyncio.sleep(0.05)
    await system.close()
    assert ended.state == Backfill.STATE_SUCCEEDED
    assert done < len(list(folder.glob("*/*.parquet")))
    again = alphamesh("features", "backfill", "--instruments", "A,B", "--json", "--data-dir", run.path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["content_sha256"] == ended.content_sha256
    listed = alphamesh("features", "list", "--set", "daily_technical", "--json", "--data-dir", run.path)
    content = json.loads(listed.stdout)
    assert [each["feature_id"] for each in content["features"]] == list(DAILY_TECHNICAL.feature_ids)
    nothing = alphamesh("features", "check", "--data-dir", run.path)
    assert nothing.returncode == 1
    assert "no features of this set were served online" in nothing.stderr
    assert datetime.now(UTC).isoformat()[:10] in ended.create_time.ToJsonString()
