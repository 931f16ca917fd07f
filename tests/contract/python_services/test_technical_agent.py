"""AgentService of the technical agents as the coordinator meets it."""

from __future__ import annotations

from pathlib import Path

import grpc
import protovalidate
import pytest

from alphamesh.agent.v1 import agent_pb2
from python_services.kit.config import ConfigError
from python_services.kit.errors import from_rpc_error

from .two_services import UNIVERSE, agents, cut_request, market_data, system

NAMES = [
    f"technical.{name}"
    for name in (
        "breakout",
        "candles",
        "levels",
        "mean_reversion",
        "momentum",
        "pairs",
        "relative_strength",
        "trend",
        "volatility",
        "volatility_regime",
        "volume",
    )
]


async def forecasts(run_dir: Path) -> agent_pb2.ComputeForecastsResponse:
    async with system(run_dir) as running:
        snapshot_id = (await market_data(running).CutSnapshot(cut_request())).header.snapshot_id
        request = agent_pb2.ComputeForecastsRequest(decision_id="d", snapshot_id=snapshot_id)
        response = await agents(running).ComputeForecasts(request)
        assert await agents(running).ComputeForecasts(request) == response  # nothing is remembered
    return response


async def test_forecasts_on_2009_07_01(tmp_path: Path) -> None:
    response = await forecasts(tmp_path)
    assert response.data_sha256 == response.snapshot_id
    assert [forecast.agent_id for forecast in response.forecasts] == NAMES
    for forecast in response.forecasts:
        protovalidate.validate(forecast)
        answered = list(forecast.estimates.instrument_index)
        abstained = [row for abstention in forecast.abstentions for row in abstention.instrument_index]
        assert sorted(answered + abstained) == list(range(len(UNIVERSE)))
        assert all(len(evidence.value) == len(answered) for evidence in forecast.estimates.evidence)
        assert all(abstention.reason and abstention.detail for abstention in forecast.abstentions)
    trend, volatility = (response.forecasts[NAMES.index(f"technical.{name}")] for name in ("trend", "volatility"))
    assert [UNIVERSE[i] for i in trend.estimates.instrument_index] == ["AAPL", "MSFT", "GOOG"]
    assert all(0 < value < 0.02 for value in trend.estimates.expected_return)
    assert len(volatility.estimates.instrument_index) == 4
    assert not volatility.estimates.expected_return


async def test_two_systems_answer_alike_to_the_bit(tmp_path: Path) -> None:
    first, second = await forecasts(tmp_path / "1"), await forecasts(tmp_path / "2")
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


async def test_some_agents_only_and_errors(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        snapshot_id = (await market_data(running).CutSnapshot(cut_request(lookback_bars=30))).header.snapshot_id
        request = agent_pb2.ComputeForecastsRequest(
            decision_id="d", snapshot_id=snapshot_id, agent_ids=["technical.trend"]
        )
        (only,) = (await agents(running).ComputeForecasts(request)).forecasts
        assert {a.reason for a in only.abstentions} == {agent_pb2.Abstention.REASON_INSUFFICIENT_HISTORY}
        assert [row for a in only.abstentions for row in a.instrument_index] == [0, 1, 2, 3]
        request.agent_ids[:] = ["technical.oracle"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agents(running).ComputeForecasts(request)
        assert from_rpc_error(caught.value).reason == "AGENT_NOT_FOUND"
        unknown = agent_pb2.ComputeForecastsRequest(decision_id="d", snapshot_id="0" * 64)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agents(running).ComputeForecasts(unknown)
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "SNAPSHOT_NOT_FOUND")


async def test_agents_are_listed_and_chosen_by_configuration(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        listed = (await agents(running).ListAgents(agent_pb2.ListAgentsRequest())).agents
    assert [agent.agent_id for agent in listed] == NAMES
    assert all(agent.version and agent.minimum_bars and agent.horizon_bars and agent.description for agent in listed)
    async with system(tmp_path, technical_agent={"agents": ["technical.trend"]}) as running:
        listed = (await agents(running).ListAgents(agent_pb2.ListAgentsRequest())).agents
    assert [agent.agent_id for agent in listed] == ["technical.trend"]
    with pytest.raises(ConfigError, match=r"technical\.oracle"):
        async with system(tmp_path, technical_agent={"agents": ["technical.oracle"]}):
            raise AssertionError("it must not start")
