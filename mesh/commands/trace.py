"""trace, metrics."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import grpc
import orjson
from google.protobuf.json_format import MessageToDict

from alphamesh.audit.v1 import audit_pb2_grpc, trace_pb2

from .. import metrics, trace_tree
from ..connect import reading
from ..errors import MeshError
from ..rundir import RunDir
from .decision import latest_decision

AUDIT = "audit"
_TRACE_ID = re.compile(r"[0-9a-f]{32}")


async def trace(wanted: str | None, last: bool, listed: bool, failed: bool, data_dir: Path | None, json: bool) -> int:
    """Shows one trace, or which there are."""
    listed = listed or failed
    if (wanted is not None) + last + listed != 1:
        raise MeshError("give a decision_id (see `alphamesh decisions`), a trace id, --last, --list or --failed")
    run = RunDir.find(data_dir)
    async with reading(run) as system:
        audit = system.stub(audit_pb2_grpc.AuditServiceStub, AUDIT)
        if listed:
            found = await audit.ListTraces(trace_pb2.ListTracesRequest(failed_only=failed))
            if json:
                _print([MessageToDict(one, preserving_proto_field_name=True) for one in found.traces])
            else:
                trace_tree.show_list(found.traces)
            return 0
        request = trace_pb2.GetTraceRequest()
        if wanted is not None and _TRACE_ID.fullmatch(wanted):
            request.trace_id = wanted
        else:
            request.decision_id = wanted or await latest_decision(system)
        try:
            answer = await audit.GetTrace(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise MeshError(error.details() or "no such trace") from error
            raise
    if json:
        _print(trace_tree.content(answer))
    else:
        trace_tree.show(answer)
    return 0


async def show_metrics(service: str | None, data_dir: Path | None, json: bool) -> int:
    """Prints the metrics of one service as Prometheus reads them, or a table over all services."""
    run = RunDir.find(data_dir)
    if run.holder() is None:
        raise MeshError(f"no system is up in {run.path}, and metrics are not kept; start one with `alphamesh up`")
    if service is not None:
        print(await metrics.read(run, service), end="")
        return 0
    rows = metrics.rows([await metrics.read(run, name) for name in metrics.services(run)])
    if json:
        _print(rows)
    else:
        metrics.show(rows)
    return 0


def _print(content: Any) -> None:
    sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")
