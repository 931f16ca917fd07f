"""replay, archive: run a recorded session again from its inputs, and compare every event."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from alphamesh.audit.v1 import event_pb2
from alphamesh.decision.v1 import decision_pb2, events_pb2
from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.marketdata.v1 import events_pb2 as marketdata_events
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from python_services.kit import telemetry

from .. import comparison, recording, risk_report, tables
from .. import session as sessions
from ..errors import MeshError
from ..progress import ProgressView
from ..recording import Recording, journalled
from ..stored import JOURNAL

if TYPE_CHECKING:
    from python_services.local import LocalSystem

State = decision_pb2.Session.State
_BARS = marketdata_events.BarsIngested.DESCRIPTOR.full_name
_TEXTS = marketdata_events.TextsIngested.DESCRIPTOR.full_name
SETTLE_S = 5.0
SHOWN_FIELDS = 40
SHOWN_CHARACTERS = 200


@dataclass(kw_only=True)
class _Inputs:
    """What a session was made of, read from the recording."""

    session: decision_pb2.Session
    finished: bool
    dataset_sha256: str
    ingested: list[event_pb2.EventEnvelope] = field(default_factory=list)


async def replay(path: Path | None, as_json: bool) -> int:
    """0 when every event is the same, 1 at the first difference."""
    async with recording.opened(path) as recorded:
        with tempfile.TemporaryDirectory(prefix="alphamesh-replay-") as scratch:
            inputs = _inputs(recorded)
            _check_versions_agree(recorded)
            await _again(recorded, inputs, Path(scratch), quiet=as_json)
            data = Path(scratch) / "data"
            streams = {
                name: comparison.compare(*_sides(recorded, data, name), unfinished=not inputs.finished)
                for name in recorded.streams
            }
            content = _content(recorded, inputs, streams, data)
    if as_json:
        print(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(content)
    return 0 if content["equal"] else 1


async def archive(path: Path | None, target: Path) -> int:
    """Writes a run's recording into one file."""
    count = await recording.archive(path, target)
    print(f"{target}: {count} streams; replay it with `alphamesh replay {target}`")
    return 0


async def _again(recorded: Recording, inputs: _Inputs, scratch: Path, *, quiet: bool) -> None:
    """The session once more, all services in this process, in `scratch`."""
    from python_services.local import LocalSystem

    with (scratch / "log.jsonl").open("wb") as log, telemetry.logging_to("replay", log):
        async with LocalSystem(scratch, recorded.topology) as system:
            _check_versions(recorded, system.versions)
            await _check_data(recorded, inputs, system)
            async with _ingesting(system, inputs):
                with nullcontext() if quiet else ProgressView() as view:
                    show = view.show if view is not None else lambda *_: None
                    await sessions.trade(system, inputs.session.spec, show)
                await _settled(system, recorded)
                await _reported(system, inputs.session.spec.account_id)


async def _settled(system: LocalSystem, recorded: Recording) -> None:
    """Returns when every stream is as long as it was recorded, or after a while: what is missing then will be seen."""

    async def reach(stream: str, last_seq: int) -> None:
        async with aclosing(system.subscribe(stream)) as frames:
            async for frame in frames:
                if frame.first_seq + frame.count > last_seq:
                    return

    lengths = {stream: sum(1 for _ in recorded.events(stream)) for stream in recorded.streams}
    waits = [asyncio.create_task(reach(stream, length)) for stream, length in lengths.items() if length]
    _, late = await asyncio.wait(waits, timeout=SETTLE_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)


async def _reported(system: LocalSystem, account_id: str) -> None:
    """Returns when risk has reported every batch of the account's fills."""
    ledger = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    account = await ledger.GetAccount(execution_pb2.GetAccountRequest(account_id=account_id))
    await risk_report.read_report(system, account_id, account.applied_seq)


@asynccontextmanager
async def _ingesting(system: LocalSystem, inputs: _Inputs) -> AsyncIterator[None]:
    """Bars and texts come in where they came in: after the event before them, and before anything else is cut."""
    stub = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    waiting = iter([*inputs.ingested, None])
    following = next(waiting)
    reached, caught_up = 0, asyncio.Event()

    async def follow() -> None:
        nonlocal following, reached
        async for frame in system.subscribe("market_data"):
            reached = frame.first_seq + frame.count - 1
            while following is not None and following.seq == reached + 1:
                envelope, following = following, next(waiting)
                await _ingest(stub, envelope)
                reached = envelope.seq
            caught_up.set()

    task = asyncio.create_task(follow())
    try:
        waits = asyncio.create_task(caught_up.wait())
        await asyncio.wait((task, waits), return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        if task.done():
            await task
        yield
        if task.done():
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _ingest(stub: marketdata_pb2_grpc.MarketDataServiceAsyncStub, envelope: event_pb2.EventEnvelope) -> None:
    if envelope.schema == _TEXTS:
        texts = marketdata_events.TextsIngested.FromString(envelope.payload).texts
        await stub.IngestTexts(marketdata_pb2.IngestTextsRequest(request_id=envelope.causation_id, texts=texts))
    else:
        await stub.IngestBars(_request(envelope))


def _request(envelope: event_pb2.EventEnvelope) -> marketdata_pb2.IngestBarsRequest:
    event = marketdata_events.BarsIngested.FromString(envelope.payload)
    names = ("ts_event_ns", "known_at_ns", "open_e9", "high_e9", "low_e9", "close_e9", "volume_e9")
    request = marketdata_pb2.IngestBarsRequest(request_id=envelope.causation_id, stream=event.stream)
    if event.watermark_ns:
        request.watermark_ns = event.watermark_ns
    for row, index in enumerate(event.instrument_index):
        bar = request.bars.add(instrument_id=event.instrument_ids[index])
        bar.ts_open_ns = event.ts_open_ns[row]
        for name in names:
            setattr(bar, name, getattr(event, name)[row])
        if event.adjustment_step[row]:
            bar.adjustment_step = event.adjustment_step[row]
        if event.split_ratio[row]:
            bar.split_ratio = event.split_ratio[row]
    return request


def _inputs(recorded: Recording) -> _Inputs:
    for needed in ("coordinator", "market_data"):
        if needed not in recorded.streams:
            raise MeshError(f"{recorded.source} has no stream {needed}; it holds no recorded session")
    session, finished = None, False
    for envelope in recorded.events("coordinator"):
        match envelope.schema:
            case "alphamesh.decision.v1.SessionStarted":
                session = events_pb2.SessionStarted.FromString(envelope.payload).session
            case "alphamesh.decision.v1.SessionEnded":
                finished = True
                ended = events_pb2.SessionEnded.FromString(envelope.payload).session
                if ended.state == State.STATE_CANCELED:
                    raise MeshError(
                        f"session {ended.session_id} was cancelled by a person after cycle {ended.cycles_done}; a "
                        "replay repeats what services decide, not what people do; replay a session that ended by itself"
                    )
    if session is None:
        raise MeshError(f"{recorded.source} holds no session; start one with `alphamesh session`")
    inputs = _Inputs(session=session, finished=finished, dataset_sha256="")
    for envelope in recorded.events("market_data"):
        if envelope.schema == "alphamesh.marketdata.v1.DatasetLoaded":
            loaded = marketdata_events.DatasetLoaded.FromString(envelope.payload).dataset_sha256
            if inputs.dataset_sha256 not in ("", loaded):
                raise MeshError(
                    f"the data set changed during the recording, from {inputs.dataset_sha256} to {loaded} (market_data "
                    f"seq {envelope.seq}); no single data set gives these events again"
                )
            inputs.dataset_sha256 = loaded
        elif envelope.schema in (_BARS, _TEXTS):
            inputs.ingested.append(envelope)
    return inputs


def _recorded_versions(recorded: Recording, stream: str) -> list[str]:
    return sorted({envelope.producer_version for envelope in recorded.events(stream)})


def _check_versions_agree(recorded: Recording) -> None:
    known = {service.name for service in recorded.topology.services}
    missing = [name for name in recorded.streams if name not in known]
    if missing:
        raise MeshError(
            f"the recording has streams of {', '.join(missing)}, which the topology {recorded.topology.path} has not; "
            "replay with the AlphaMesh that recorded it"
        )
    for stream in recorded.streams:
        versions = _recorded_versions(recorded, stream)
        if len(versions) > 1:
            raise MeshError(
                f"{stream} changed its version during the recording ({', '.join(versions)}); no single version gives "
                "these events again"
            )


def _check_versions(recorded: Recording, here: dict[str, str]) -> None:
    changed = [
        f"{stream} {versions[0]} (here {here[stream]})"
        for stream in recorded.streams
        if (versions := _recorded_versions(recorded, stream)) and versions[0] != here[stream]
    ]
    if changed:
        raise MeshError(f"recorded by other versions: {', '.join(changed)}; replay with the AlphaMesh that recorded it")


async def _check_data(recorded: Recording, inputs: _Inputs, system: LocalSystem) -> None:
    async with aclosing(system.subscribe("market_data")) as frames:
        first = (await anext(frames)).events[0]
    here = marketdata_events.DatasetLoaded.FromString(first.payload).dataset_sha256
    if here != inputs.dataset_sha256:
        config = recorded.topology.service("market_data").config
        files = ", ".join([*config["datasets"], config["instruments"]])
        raise MeshError(
            f"the data differs from the recording: {files} have sha256 {here}, recorded was {inputs.dataset_sha256}; "
            "put back the files of that time"
        )


def _sides(recorded: Recording, data: Path, stream: str) -> tuple[comparison.Events, comparison.Events]:
    return lambda: recorded.events(stream), lambda: journalled(data / stream / JOURNAL)


def _content(recorded: Recording, inputs: _Inputs, streams: dict[str, comparison.Stream], data: Path) -> dict[str, Any]:
    """Plain values, for JSON and for `_show`."""
    different = {name: stream for name, stream in streams.items() if stream.difference is not None}
    first = min(different, key=lambda name: _moment(different[name]), default=None)
    return {
        "recording": str(recorded.source),
        "session_id": inputs.session.session_id,
        "finished": inputs.finished,
        "equal": not different,
        "streams": {
            name: {"recorded": stream.recorded, "replayed": stream.replayed, "equal": stream.equal}
            for name, stream in streams.items()
        },
        "difference": None if first is None else _difference(first, different[first]),
        "moved": [name for name, stream in streams.items() if stream.moved],
        "lost": {name: comparison.lost(*_sides(recorded, data, name)) for name in different},
    }


def _moment(stream: comparison.Stream) -> int:
    assert stream.difference is not None
    return min(envelope.ts_init_ns for envelope in stream.difference if envelope is not None)


def _difference(name: str, stream: comparison.Stream) -> dict[str, Any]:
    assert stream.difference is not None
    recorded, replayed = map(comparison.fields, stream.difference)
    return {
        "stream": name,
        "seq": next(envelope.seq for envelope in stream.difference if envelope is not None),
        "recorded": recorded or None,
        "replayed": replayed or None,
        "fields": comparison.differing(recorded, replayed),
    }


def _show(content: dict[str, Any]) -> None:
    console = tables.console
    rows = tables.table(f"Session {content['session_id']}", "stream", "recorded", "replayed", "equal", numbers=_NUMBERS)
    for name, counts in content["streams"].items():
        rows.add_row(name, *(f"{count:,}" for count in counts.values()))
    console.print(rows)
    if content["equal"]:
        total = sum(counts["equal"] for counts in content["streams"].values())
        moved = "".join(f", but for the places of background events in {name}" for name in content["moved"])
        note = "" if content["finished"] else "; the recording stops before the session's end"
        console.print(f"equal: all {total:,} recorded events came out the same, hash for hash{moved}{note}")
        return
    found = content["difference"]
    console.print(f"[bold]first difference: {found['stream']} seq {found['seq']}[/bold]")
    for side in ("recorded", "replayed"):
        facts = found[side]
        what = "no such event" if facts is None else f"{facts['event_id']} at {facts['ts_event_ns']}"
        console.print(f"{side}: {what}", markup=False)
    rows = tables.table("", "field", "recorded", "replayed")
    for line in found["fields"][:SHOWN_FIELDS]:
        rows.add_row(line["field"], _short(line["recorded"]), _short(line["replayed"]))
    console.print(rows, markup=False)
    if len(found["fields"]) > SHOWN_FIELDS:
        console.print(f"and {len(found['fields']) - SHOWN_FIELDS} more fields; --json has all")
    for name, count in content["lost"].items():
        if count:
            console.print(
                f"{name}: the recording lacks {count} events and is otherwise the same; a service that was killed can "
                "lose the last ones it answered ahead of the disk"
            )


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"


_NUMBERS = frozenset({"recorded", "replayed", "equal"})
