"""Calls that sidecars refused, from their logs into the stream "audit".

A sidecar writes a line for each (mesh/envoy/parts.py: denials). The event says how far it has read, so that every call
is counted once, also after a kill. Equal calls of one look are one event, and a caller that invents methods gets one
event for all of them: however many calls are refused, a look adds a few events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from alphamesh.audit.v1 import event_pb2, events_pb2
from python_services.kit import telemetry
from python_services.kit.journal import Event, Journal

SUFFIX = ".denied.jsonl"
READ_BYTES = 4 << 20  # of one log in one look
MOST = 32  # events of one log in one look that name a method
_FORWARDED = "via_upstream"  # the callee refused it, and its own sidecar has the line


@dataclass(frozen=True)
class _Kind:
    caller: str
    user: str
    service: str
    method: str
    status_code: int
    detail: str


class Denials:
    """Reads every log in `folder`; what it found is durable before it reads on."""

    def __init__(self, folder: Path, journal: Journal, pause_s: float) -> None:
        self._folder = folder
        self._journal = journal
        self._pause_s = pause_s
        self._positions = {event.log: event.log_position for event in _recorded(journal.read(1))}

    async def run(self) -> None:
        """For ever. Raises JournalError."""
        while True:
            if not await self.look():
                await asyncio.sleep(self._pause_s)

    async def look(self) -> bool:
        """Takes what is new; whether a log probably has more."""
        more = False
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            log = path.name.removesuffix(SUFFIX)
            start = self._positions.get(log, 0)
            with path.open("rb") as file:
                if file.seek(0, 2) < start:
                    start = 0  # another file has taken its place
                file.seek(start)
                read = file.read(READ_BYTES)
            whole = read[: read.rfind(b"\n") + 1]
            if not whole:
                continue
            events = summarise(log, whole, start)
            if events:
                self._journal.add(
                    [Event(payload=event, ts_event_ns=first, ts_init_ns=first) for event, first in events]
                )
                await self._journal.commit()
            self._positions[log] = start + len(whole)
            more = more or len(read) == READ_BYTES
        return more


def summarise(log: str, lines: bytes, start: int) -> list[tuple[events_pb2.AccessDenied, int]]:
    """Events for whole lines of a log that begin at byte `start`, each with the time of its first call."""
    found: dict[_Kind, tuple[events_pb2.AccessDenied, int]] = {}
    for line in lines.splitlines():
        try:
            values = {key: value or "" for key, value in orjson.loads(line).items()}
            moment = int(values["timestamp"])
            kind = _kind(log, values)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            telemetry.logger().warning("a line of refused calls cannot be read", log=log, error=repr(error))
            continue
        if kind.detail == _FORWARDED and kind.service != log:
            continue
        if kind not in found and len(found) >= MOST:
            kind = _Kind(kind.caller, "", log, "", kind.status_code, "")
        event, _ = found.setdefault(kind, (_event(kind, log, values), moment))
        event.calls += 1
        event.last_ns = moment
    for event, _ in found.values():
        event.log_position = start + len(lines)
    return list(found.values())


def _kind(log: str, values: dict[str, str]) -> _Kind:
    return _Kind(
        caller=values["caller"],
        user=values["user"],
        service=values["service"].removesuffix(".mesh"),
        method=values["method"],
        status_code=_STATUSES[values["status"]],
        detail=values["detail"],
    )


def _event(kind: _Kind, log: str, values: dict[str, str]) -> events_pb2.AccessDenied:
    parts = values["traceparent"].split("-")
    return events_pb2.AccessDenied(
        caller=kind.caller,
        user=kind.user,
        service=kind.service,
        method=kind.method,
        status_code=kind.status_code,
        detail=kind.detail,
        trace_id=parts[1] if len(parts) == 4 else "",
        log=log,
    )


# As Envoy writes them, by google.rpc.Code.
_STATUSES = {"PermissionDenied": 7, "Unauthenticated": 16}


def _recorded(frames: Iterable[event_pb2.EventFrame]) -> Iterable[events_pb2.AccessDenied]:
    return (events_pb2.AccessDenied.FromString(event.payload) for frame in frames for event in frame.events)
