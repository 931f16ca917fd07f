"""features list, check and backfill."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import orjson
from google.protobuf.json_format import MessageToDict

from alphamesh.feature.v1 import feature_pb2, feature_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from python_services.kit.instruments import list_instruments

from ..connect import System, reading, running
from ..errors import MeshError
from ..progress import Bar
from ..rundir import RunDir
from ..tables import console, table

if TYPE_CHECKING:  # only types have it
    Stub: TypeAlias = feature_pb2_grpc.FeatureServiceAsyncStub

E9 = 10**9
EARLIEST_NS, LATEST_NS = -(2**62), 2**62
SHORT = 12  # characters of a hash on the terminal
State = feature_pb2.Backfill.State


async def show(wanted: str | None, data_dir: Path | None, as_json: bool) -> int:
    """Features and sets."""
    async with reading(RunDir.find(data_dir)) as system:
        stub = _stub(system)
        features = [feature async for feature in _features(stub)]
        sets = await _sets(stub)
        if wanted is not None:
            chosen = _chosen(sets, wanted)
            order = {(each.feature_id, each.version): i for i, each in enumerate(chosen.features)}
            features = [each for each in features if (each.feature_id, each.version) in order]
            features.sort(key=lambda each: order[each.feature_id, each.version])
            sets = [chosen]
    if as_json:
        _print({"features": [_plain(each) for each in features], "feature_sets": [_plain(each) for each in sets]})
        return 0
    held: dict[tuple[str, str], list[str]] = {}
    for each in sets:
        for reference in each.features:
            held.setdefault((reference.feature_id, reference.version), []).append(each.display_name)
    rows = table(
        "Features", "feature", "version", "state", "owner", "unit", "bars", "kernel", "computed from", "sets",
        numbers=frozenset({"bars"}),
    )  # fmt: skip
    for feature in features:
        definition = feature.definition
        parameters = ", ".join(f"{name}={value:g}" for name, value in sorted(definition.parameters.items()))
        rows.add_row(
            feature.feature_id,
            feature.version[:SHORT],
            feature_pb2.Feature.State.Name(feature.state).removeprefix("STATE_"),
            definition.owner,
            definition.unit,
            str(definition.minimum_bars),
            f"{definition.kernel}({parameters})",
            ", ".join(_input(each) for each in definition.inputs),
            ", ".join(held.get((feature.feature_id, feature.version), ())),
        )
    console.print(rows)
    listed = table("Feature sets", "set", "version", "features", numbers=frozenset({"features"}))
    for each in sets:
        listed.add_row(each.display_name, each.feature_set_version, str(len(each.features)))
    console.print(listed)
    return 0


async def check(
    wanted: str,
    start: datetime | None,
    end: datetime | None,
    tolerance: float,
    data_dir: Path | None,
    as_json: bool,
) -> int:
    """Exit code 1 when a value differs."""
    start_ns, end_ns = _range(start, end)
    async with reading(RunDir.find(data_dir)) as system:
        stub = _stub(system)
        chosen = _chosen(await _sets(stub), wanted)
        answer = await stub.CheckParity(
            feature_pb2.CheckParityRequest(
                feature_set_version=chosen.feature_set_version, start_ns=start_ns, end_ns=end_ns, tolerance=tolerance
            )
        )
    if as_json:
        _print({"feature_set": chosen.display_name, **_plain(answer)})
    else:
        verdict = "[green]equal[/green]" if not answer.different else f"[red]{answer.different} differ[/red]"
        console.print(f"{chosen.display_name}: {answer.compared} values served online, {verdict}")
        if answer.differences:
            rows = table("First differences", "cut (UTC)", "instrument", "feature", "online", "historical")
            for each in answer.differences:
                rows.add_row(
                    f"{datetime.fromtimestamp(each.as_of_ns // E9, UTC):%Y-%m-%d %H:%M:%S}",
                    each.instrument_id,
                    each.feature_id,
                    repr(each.online) if each.HasField("online") else "none",
                    repr(each.historical) if each.HasField("historical") else "none",
                )
            console.print(rows)
    return 1 if answer.different else 0


async def backfill(
    wanted: str,
    start: datetime | None,
    end: datetime | None,
    instruments: str | None,
    detach: bool,
    data_dir: Path | None,
    as_json: bool,
) -> int:
    """Exit code 1 unless it succeeded."""
    start_ns, end_ns = _range(start, end)
    async with running(RunDir.find(data_dir)) as system:
        stub = _stub(system)
        chosen = _chosen(await _sets(stub), wanted)
        names = [name.strip() for name in (instruments or "").split(",") if name.strip()]
        if not names:
            names = list(await list_instruments(system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")))
        request = feature_pb2.CreateBackfillRequest(
            request_id=str(uuid.uuid4()),
            feature_set_version=chosen.feature_set_version,
            instrument_ids=names,
            start_ns=start_ns,
            end_ns=end_ns,
        )
        job = (await stub.CreateBackfill(request)).backfill
        if not detach:
            try:
                job = await _watched(stub, job, quiet=as_json)
            except asyncio.CancelledError:
                cancel = feature_pb2.CancelBackfillRequest(request_id=str(uuid.uuid4()), backfill_id=job.backfill_id)
                await stub.CancelBackfill(cancel)
                raise
    if as_json:
        _print(_plain(job))
    else:
        state = State.Name(job.state).removeprefix("STATE_")
        told = f", {job.failure}" if job.failure else ""
        console.print(f"{job.backfill_id}: {state}, {job.written_rows} of {job.total_rows} rows{told}")
    return 0 if detach or job.state == State.STATE_SUCCEEDED else 1


async def _watched(stub: Stub, job: feature_pb2.Backfill, *, quiet: bool) -> feature_pb2.Backfill:
    """The job when it has ended; a broken stream is watched on from where it broke."""
    with Bar(job.backfill_id, "", quiet=quiet) as bar:
        seq, completed = 0, feature_pb2.WatchBackfillResponse.END_REASON_COMPLETED
        while True:
            request = feature_pb2.WatchBackfillRequest(backfill_id=job.backfill_id, from_seq=seq + 1)
            try:
                async for response in stub.WatchBackfill(request):
                    seq = response.seq
                    for job in response.updates:
                        bar.update(job.written_rows, job.total_rows or None)
                    if response.end_reason == completed:
                        return job
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.2)  # it is being restarted, and goes on with the job


async def _features(stub: Stub) -> AsyncIterator[feature_pb2.Feature]:
    token = ""
    while True:
        answer = await stub.ListFeatures(feature_pb2.ListFeaturesRequest(page_size=1000, page_token=token))
        for feature in answer.features:
            yield feature
        token = answer.next_page_token
        if not token:
            return


async def _sets(stub: Stub) -> list[feature_pb2.FeatureSet]:
    """Newest first."""
    found: list[feature_pb2.FeatureSet] = []
    token = ""
    while True:
        answer = await stub.ListFeatureSets(feature_pb2.ListFeatureSetsRequest(page_size=1000, page_token=token))
        found += answer.feature_sets
        token = answer.next_page_token
        if not token:
            return found


def _chosen(sets: Sequence[feature_pb2.FeatureSet], wanted: str) -> feature_pb2.FeatureSet:
    for each in sets:
        if each.display_name == wanted or (len(wanted) >= SHORT and each.feature_set_version.startswith(wanted)):
            return each
    names = ", ".join(sorted({each.display_name for each in sets})) or "none"
    raise MeshError(f"no feature set {wanted!r}; there are: {names}")


def _range(start: datetime | None, end: datetime | None) -> tuple[int, int]:
    """Days to [first, last) in nanoseconds; the last day counts."""
    start_ns = EARLIEST_NS if start is None else _midnight_ns(start)
    end_ns = LATEST_NS if end is None else _midnight_ns(end + timedelta(days=1))
    if start_ns >= end_ns:
        raise MeshError("--start is after --end; swap them")
    return start_ns, end_ns


def _midnight_ns(day: datetime) -> int:
    return int(day.replace(tzinfo=UTC).timestamp()) * E9


def _input(message: feature_pb2.FeatureInput) -> str:
    if message.HasField("feature"):
        return f"{message.feature.feature_id}@{message.feature.version[:SHORT]}"
    return message.bar_column


def _stub(system: System) -> Stub:
    return system.stub(feature_pb2_grpc.FeatureServiceStub, "feature_store")


def _plain(message: Any) -> dict[str, Any]:
    return dict(MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))


def _print(content: object) -> None:
    print(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
