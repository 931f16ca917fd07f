"""log tail, grep, export, verify: the event log of a run, up or down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from alphamesh.audit.v1 import event_pb2

from .. import chains, tables
from ..errors import MeshError
from ..event_filter import Wanted, as_json, line, moment, select
from ..frames import Source, copies, journals
from ..rundir import RunDir

Envelopes = Sequence[event_pb2.EventEnvelope]
SUFFIXES = (".jsonl", ".parquet")


async def tail(conditions: Wanted, count: int, follow: bool, data_dir: Path | None, as_lines: bool) -> int:
    """The last events by market time; with `follow`, then each as it becomes durable."""
    async with journals(RunDir.find(data_dir)) as source:
        found = await select(source, conditions)
        ends = dict.fromkeys(conditions.of(source), 0) | _ends(found)
        _show(found[len(found) - count if count < len(found) else 0 :], as_lines)
        if follow:
            await _follow(source, conditions, ends, as_lines)
    return 0


async def grep(conditions: Wanted, data_dir: Path | None, as_lines: bool) -> int:
    """Events whose JSON matches; 1 when there is none, as grep does."""
    async with journals(RunDir.find(data_dir)) as source:
        found = await select(source, conditions)
    _show(found, as_lines)
    return 0 if found else 1


async def export(conditions: Wanted, target: Path, data_dir: Path | None) -> int:
    """Writes events to a file, by its suffix, or as JSON lines to standard output ("-")."""
    if str(target) != "-" and target.suffix not in SUFFIXES:
        raise MeshError(
            f"{target}: cannot tell the format; end the name in {' or '.join(SUFFIXES)}, or give - for output"
        )
    async with journals(RunDir.find(data_dir)) as source:
        found = await select(source, conditions)
    if str(target) == "-":
        for envelope in found:
            print(orjson.dumps(as_json(envelope)).decode())
        return 0
    new = target.with_name(f".{target.name}.new")
    try:
        if target.suffix == ".parquet":
            _write_parquet(found, new)
        else:
            with new.open("wb") as file:
                for envelope in found:
                    file.write(orjson.dumps(as_json(envelope)) + b"\n")
        new.replace(target)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise MeshError(f"cannot write {target}: {error.strerror}; choose another file") from error
    print(f"{len(found)} events in {target}")
    return 0


async def verify(streams: Sequence[str], data_dir: Path | None, as_lines: bool) -> int:
    """Walks the chain of each journal and of its copy; 1 when one is broken or they differ."""
    run = RunDir.find(data_dir)
    async with journals(run) as source, copies(run) as copy:
        names = Wanted(streams=tuple(streams)).of(source)
        found = [await chains.compare(name, source, copy) for name in names]
    good = all(result.good for result in found)
    if as_lines:
        print(
            orjson.dumps(
                {"good": good, "streams": [result.as_json() for result in found]}, option=orjson.OPT_INDENT_2
            ).decode()
        )
        return 0 if good else 1
    shown = tables.table("", "stream", "events", "journal", "copy", "last hash", numbers=frozenset({"events"}))
    for result in found:
        shown.add_row(result.stream, str(result.events), result.journal, result.copy, result.last_hash.hex()[:16])
    tables.console.print(shown)
    for result in found:
        if result.difference:
            difference = tables.table(f"First difference in {result.stream}", "", "journal", "copy")
            for name, values in result.difference.items():
                difference.add_row(name, *values)
            tables.console.print(difference)
    return 0 if good else 1


def _show(found: Envelopes, as_lines: bool) -> None:
    if as_lines:
        for envelope in found:
            print(orjson.dumps(as_json(envelope)).decode(), flush=True)
        return
    shown = tables.table("", "time", "stream", "seq", "type", "decision", "what", numbers=frozenset({"seq"}))
    for envelope in found:
        shown.add_row(*_row(envelope))
    if found:
        tables.console.print(shown)


async def _follow(source: Source, conditions: Wanted, ends: dict[str, int], as_lines: bool) -> None:
    async def follow(stream: str, from_seq: int) -> None:
        async for frame in source.journal(stream, from_seq, follow=True):
            for envelope in frame.events:
                if envelope.seq >= from_seq and conditions.meets(envelope):
                    if as_lines:
                        _show([envelope], as_lines)
                    else:
                        print("  ".join(_row(envelope)), flush=True)

    async with asyncio.TaskGroup() as tasks:
        for stream, end in ends.items():
            tasks.create_task(follow(stream, max(end + 1, conditions.from_seq)))


def _row(envelope: event_pb2.EventEnvelope) -> tuple[str, ...]:
    kind = envelope.schema.rpartition(".")[2]
    return (
        moment(envelope.ts_event_ns),
        envelope.stream,
        str(envelope.seq),
        kind,
        envelope.correlation_id,
        line(envelope),
    )


def _ends(found: Envelopes) -> dict[str, int]:
    ends: dict[str, int] = {}
    for envelope in found:
        ends[envelope.stream] = max(ends.get(envelope.stream, 0), envelope.seq)
    return ends


def _write_parquet(found: Envelopes, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows: dict[str, list[Any]] = {name: [] for name in PARQUET_COLUMNS}
    for envelope in found:
        record = as_json(envelope)
        for name in PARQUET_COLUMNS:
            rows[name].append(record.get(name))
        rows["payload"][-1] = orjson.dumps(record["payload"]).decode()
        rows["payload_bytes"][-1] = envelope.payload
        rows["prev_hash"][-1], rows["hash"][-1] = envelope.prev_hash, envelope.hash
    types = {"seq": pa.int64(), "ts_event_ns": pa.int64(), "ts_init_ns": pa.int64()} | dict.fromkeys(
        ("payload_bytes", "prev_hash", "hash"), pa.binary()
    )
    schema = pa.schema([(name, types.get(name, pa.string())) for name in PARQUET_COLUMNS])
    parquet.write_table(pa.table(rows, schema=schema), path, compression="zstd")


PARQUET_COLUMNS = (
    "stream", "seq", "event_id", "schema", "ts_event_ns", "ts_init_ns", "correlation_id", "causation_id", "producer",
    "producer_version", "payload", "payload_bytes", "prev_hash", "hash",
)  # fmt: skip
