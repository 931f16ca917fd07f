"""Files of texts, JSON Lines or CSV, strictly: what is wrong is named with its line, and then nothing is taken.

Fields: text_id, source, instrument_ids (a list; in CSV separated by spaces), published_at, known_at, text. Moments are
ISO 8601 with an offset; known_at may be left out when a text was known as soon as it was published.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import protovalidate

from alphamesh.marketdata.v1 import marketdata_pb2

from .errors import MeshError

REQUIRED = ("text_id", "source", "instrument_ids", "published_at", "text")
FIELDS = frozenset({*REQUIRED, "known_at"})
_NAMES = {"ts_event_ns": "published_at", "known_at_ns": "known_at"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(path: Path) -> list[marketdata_pb2.Text]:
    """All texts, in the order of the file. Raises MeshError."""
    rows = {".jsonl": _json_lines, ".csv": _csv}.get(path.suffix)
    if rows is None:
        raise MeshError(f"{path} is neither .jsonl nor .csv; name it after what it is")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_text(f"{path}, line {line}", row) for line, row in rows(path, file)]
    except OSError as error:
        raise MeshError(f"{path} cannot be read: {error.strerror}; correct the path") from error
    except UnicodeDecodeError as error:
        raise MeshError(f"{path} is no UTF-8 at byte {error.start}; convert it") from error


def _json_lines(path: Path, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, content in enumerate(file, start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except ValueError as error:
            raise MeshError(f"{path}, line {line}: no JSON ({error}); write one object a line") from error
        if not isinstance(row, dict):
            raise MeshError(f"{path}, line {line}: {content.strip()[:40]} is no object; write one a line")
        yield line, row


def _csv(path: Path, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(file, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise MeshError(f"{path}, line {reader.line_num}: not as many values as the first line has names")
            row["instrument_ids"] = row.get("instrument_ids", "").split()
            yield reader.line_num, {name: value for name, value in row.items() if value != ""}
    except csv.Error as error:
        raise MeshError(
            f"{path}, line {reader.line_num + 1}: {error}; quote texts that hold commas or line ends"
        ) from error


def _text(where: str, row: Mapping[str, Any]) -> marketdata_pb2.Text:
    unknown, missing = sorted(set(row) - FIELDS), [name for name in REQUIRED if name not in row]
    if unknown or missing:
        problem = f"unknown field {unknown[0]!r}" if unknown else f"no {missing[0]}"
        raise MeshError(f"{where}: {problem}; fields are {', '.join(REQUIRED)}, and known_at if it differs")
    published_ns = _moment(where, row, "published_at")
    try:
        text = marketdata_pb2.Text(
            text_id=row["text_id"],
            source=row["source"],
            instrument_ids=_listed(row["instrument_ids"]),
            ts_event_ns=published_ns,
            known_at_ns=_moment(where, row, "known_at") if "known_at" in row else published_ns,
            text=row["text"],
        )
        protovalidate.validate(text)
    except TypeError as error:
        raise MeshError(
            f"{where}: {error}; text_id, source and text are texts, instrument_ids a list of them"
        ) from error
    except protovalidate.ValidationError as error:
        violation = error.violations[0].proto
        fields = ".".join(element.field_name for element in violation.field.elements) if violation.field else ""
        raise MeshError(f"{where}: {_NAMES.get(fields, fields) or 'times'}: {violation.message}; correct it") from error
    return text


def _listed(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError(f"instrument_ids is {value!r}")
    return value


def _moment(where: str, row: Mapping[str, Any], name: str) -> int:
    try:
        moment = datetime.fromisoformat(row[name])
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise MeshError(f"{where}: {name}: {row[name]!r} is no moment; write it like 2009-07-01T14:30:00Z")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
