"""Logs: one file of JSON lines per process, read here for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

_TAIL_BYTES = 64 * 1024
_OWN_COLUMNS = frozenset({"timestamp", "level", "service", "version", "event", "exception", "trace_id"})
_NATS_LINE = re.compile(r"^\[\d+\] (\S+ \S+) \[(\w{3})\] (.*)$")
_NATS_LEVELS = {"INF": "info", "WRN": "warning", "ERR": "error", "FTL": "critical", "DBG": "debug", "TRC": "debug"}
_TRITON_LINE = re.compile(r'^\d{4}-\d\d-\d\dT\S+Z ([IWEF]) \d+ \S+\] ?"?(.*?)"?$')
_TRITON_TABLE = re.compile(r"^(\+-|\| )")
_TRITON_LEVELS = {"I": "info", "W": "warning", "F": "critical"}
_POSTGRES_LINE = re.compile(r"^(LOG|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT|CONTEXT|STATEMENT|QUERY):  (.*)$")
_POSTGRES_LEVELS = {"WARNING": "warning", "ERROR": "error", "FATAL": "critical", "PANIC": "critical"}


def wrap(service: str, line: str) -> bytes:
    """A line of plain text (stderr, or the own format of nats-server, Triton or PostgreSQL) as a JSON line."""
    level, event = "error", line
    if match := _NATS_LINE.match(line):
        level, event = _NATS_LEVELS.get(match[2], "info"), match[3]
    elif match := _TRITON_LINE.match(line):
        level, event = _TRITON_LEVELS.get(match[1], "error"), match[2]
    elif _TRITON_TABLE.match(line):
        level = "info"
    elif match := _POSTGRES_LINE.match(line):
        level, event = _POSTGRES_LEVELS.get(match[1], "info"), match[2]
    return record(service, event, level)


def record(service: str, event: str, level: str = "info") -> bytes:
    """A JSON line of now."""
    fields = {
        "service": service,
        "stream": "stderr",
        "event": event,
        "level": level,
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    return orjson.dumps(fields) + b"\n"


def parse(line: bytes) -> dict[str, Any]:
    """One record. What is not JSON (a stray print) becomes the event's text."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        record = None
    return record if isinstance(record, dict) else {"event": line.decode(errors="replace").rstrip()}


def read(path: Path) -> Iterator[dict[str, Any]]:
    """All records of a file, oldest first; nothing when there is no such file."""
    try:
        with path.open("rb") as file:
            for line in file:
                yield parse(line)
    except FileNotFoundError:
        return


def tail(path: Path, count: int) -> list[dict[str, Any]]:
    """The last `count` records."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    return [parse(line) for line in lines if line.strip()][-count:]


def plain(record: dict[str, Any]) -> str:
    """A record as one line for a person; an exception follows on its own lines."""
    time = str(record.get("timestamp", ""))[11:23]
    extra = " ".join(f"{key}={value}" for key, value in record.items() if key not in _OWN_COLUMNS | {"stream"})
    text = " ".join(
        part
        for part in (
            time,
            f"{record.get('level', 'info'):<8}",
            f"{record.get('service', ''):<16}",
            str(record.get("event", "")),
            extra,
        )
        if part
    ).rstrip()
    return f"{text}\n{record['exception']}" if "exception" in record else text


def excerpt(path: Path, count: int) -> str:
    """The last records of a log, indented, and where it is: the end of an error message."""
    lines = [f"  {line}" for record in tail(path, count) for line in plain(record).splitlines()]
    return "\n".join([*lines, f"  log: {path}"])
