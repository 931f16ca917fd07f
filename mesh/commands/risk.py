"""risk: what an account risks now."""

from __future__ import annotations

from pathlib import Path

import grpc
import orjson

from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc

from .. import risk_report
from ..connect import reading
from ..errors import MeshError
from ..rundir import RunDir


async def risk(account: str | None, backtest: bool, data_dir: Path | None, as_json: bool) -> int:
    """Shows the report of now, of a system that is up or down, and the backtest of its forecasts when wanted."""
    run = RunDir.find(data_dir)
    async with reading(run) as system:
        stub = system.stub(risk_pb2_grpc.RiskServiceStub, "risk")
        try:
            answer = await stub.GetRiskReport(risk_pb2.GetRiskReportRequest(account_id=account or ""))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                wanted = f"no account {account!r}" if account else "no account"
                raise MeshError(f"{run.path} holds {wanted}; `alphamesh session` opens one") from None
            raise
        content = risk_report.plain(answer.report)
        if backtest:
            request = risk_pb2.BacktestValueAtRiskRequest(
                account_id=answer.report.account_id, min_seq=answer.applied_seq
            )
            content["backtest"] = risk_report.plain_backtest(await stub.BacktestValueAtRisk(request))
    if as_json:
        print(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
        return 0
    risk_report.show(content)
    if backtest:
        risk_report.show_backtest(content["backtest"])
    return 0
