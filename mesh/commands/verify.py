"""verify: every view as it is served, against the same view rebuilt from the journals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from alphamesh.audit.v1 import state_pb2, state_pb2_grpc

from .. import tables
from ..connect import System, reading, run_topology
from ..rundir import RunDir
from ..topology import Topology

STATE = "alphamesh.audit.v1.StateService/*"


async def verify(data_dir: Path | None, as_json: bool) -> int:
    """0 when every view is what the journals say, else 1."""
    run = RunDir.find(data_dir)
    async with reading(run) as system:
        rows = [row for service in _keepers(run_topology(run)) for row in await _compare(system, service)]
    same = all(row["same"] for row in rows)
    if as_json:
        print(orjson.dumps({"same": same, "views": rows}, option=orjson.OPT_INDENT_2).decode())
        return 0 if same else 1
    shown = tables.table(
        "", "service", "view", "events", "began with", "served", "rebuilt", "", numbers=frozenset({"events"})
    )
    for row in rows:
        began = f"snapshot at {row['snapshot_seq']}" if row["snapshot_seq"] else "the first event"
        verdict = "[green]same[/green]" if row["same"] else "[red]DIFFERENT[/red]"
        served, rebuilt = row["served_sha256"][:16], row["rebuilt_sha256"][:16]
        shown.add_row(row["service"], row["view"], str(row["events"]), began, served, rebuilt, verdict)
    tables.console.print(shown)
    return 0 if same else 1


def _keepers(mesh: Topology) -> list[str]:
    """Services that keep state: those that an operator may ask for it."""
    return sorted({call.service for client in mesh.clients for call in client.calls if STATE in call.methods})


async def _compare(system: System, service: str) -> list[dict[str, Any]]:
    stub = system.stub(state_pb2_grpc.StateServiceStub, service)
    return [
        {
            "service": service,
            "view": response.comparison.view,
            "applied_stream_seqs": dict(response.comparison.applied_stream_seqs),
            "events": response.comparison.events,
            "snapshot_seq": response.comparison.snapshot_seq if response.comparison.HasField("snapshot_seq") else None,
            "served_sha256": response.comparison.served_sha256.hex(),
            "rebuilt_sha256": response.comparison.rebuilt_sha256.hex(),
            "same": response.comparison.served_sha256 == response.comparison.rebuilt_sha256,
        }
        async for response in stub.VerifyViews(state_pb2.VerifyViewsRequest())
    ]
