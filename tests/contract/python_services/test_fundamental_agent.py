"""Facts as market_data serves them, and AgentService of the fundamental agents as the coordinator meets it."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import grpc
import protovalidate
import pytest

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2
from mesh import topology
from python_services.kit.config import ConfigError
from python_services.kit.facts import COLUMNS, FactView
from python_services.kit.facts_table import NOTHING, FactsClient
from python_services.kit.snapshots import SnapshotClient
from python_services.local import LocalSystem
from python_services.market_data import facts, store
from python_services.market_data.facts import ANSWER_BYTES
from tests.unit.python_services.market_data.files import row, write

from .test_market_data import DAY_NS, journalled, refused
from .two_services import UNIVERSE, cut_request, market_data

NAMES = [f"fundamental.{name}" for name in ("accruals", "altman", "dcf", "growth", "piotroski", "quality", "value")]
BEFORE_AFTER = ("2010-02-23", "2010-02-24")  # IBM's annual report becomes known in between
MISSING = agent_pb2.Abstention.REASON_MISSING_DATA


def at(day: str) -> int:
    """The close of a day of winter time in New York."""
    return int(datetime.fromisoformat(f"{day}T21:00").replace(tzinfo=UTC).timestamp()) * 10**9


def system(run_dir: Path, **configs: Mapping[str, Any]) -> LocalSystem:
    """market_data and fundamental_agent with the topology's configuration, changed where `configs` says so."""
    whole = topology.load()
    for name, changes in configs.items():
        whole = whole.with_config(name, changes)
    wanted = tuple(service for service in whole.services if service.name in ("market_data", "fundamental_agent"))
    return LocalSystem(run_dir, dataclasses.replace(whole, services=wanted))


def agents(running: LocalSystem) -> agent_pb2_grpc.AgentServiceAsyncStub:
    stub: agent_pb2_grpc.AgentServiceAsyncStub = running.stub(agent_pb2_grpc.AgentServiceStub, "fundamental_agent")
    return stub


async def forecasts(
    running: LocalSystem, request: marketdata_pb2.CutSnapshotRequest
) -> dict[str, agent_pb2.AgentForecast]:
    snapshot_id = (await market_data(running).CutSnapshot(request)).header.snapshot_id
    asked = agent_pb2.ComputeForecastsRequest(decision_id="d", snapshot_id=snapshot_id)
    response = await agents(running).ComputeForecasts(asked)
    assert await agents(running).ComputeForecasts(asked) == response  # nothing is remembered
    assert response.data_sha256 == response.snapshot_id == snapshot_id
    return {forecast.agent_id: forecast for forecast in response.forecasts}


def spoken_of(forecast: agent_pb2.AgentForecast) -> set[str]:
    return {UNIVERSE[i] for i in forecast.estimates.instrument_index}


async def test_forecasts_on_2010_03_01(tmp_path: Path) -> None:
    """Three annual reports are out; of Microsoft there are two quarters."""
    async with system(tmp_path / "1") as running:
        found = await forecasts(running, cut_request(at("2010-03-01")))
    assert list(found) == NAMES
    for forecast in found.values():
        protovalidate.validate(forecast)
        answered = list(forecast.estimates.instrument_index)
        abstained = [row for abstention in forecast.abstentions for row in abstention.instrument_index]
        assert sorted(answered + abstained) == list(range(len(UNIVERSE)))
        assert all(len(evidence.value) == len(answered) for evidence in forecast.estimates.evidence)
        assert all(abstention.reason and abstention.detail for abstention in forecast.abstentions)
    spoken = {name: spoken_of(forecast) for name, forecast in found.items()}
    assert spoken == {
        "fundamental.accruals": {"AAPL"},
        "fundamental.altman": set(),  # all of them are safe
        "fundamental.dcf": set(),  # prices lie in the range of reasonable values
        "fundamental.growth": {"IBM"},
        "fundamental.piotroski": set(),  # first annual reports: the assets of a third year end are not in them
        "fundamental.quality": {"GOOG"},
        "fundamental.value": {"IBM"},
    }
    async with system(tmp_path / "2") as running:
        again = await forecasts(running, cut_request(at("2010-03-01")))
    assert {name: each.SerializeToString(deterministic=True) for name, each in again.items()} == {
        name: each.SerializeToString(deterministic=True) for name, each in found.items()
    }


async def test_before_anything_is_filed_every_agent_says_so(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        header = (await market_data(running).CutSnapshot(cut_request())).header
        assert not header.HasField("facts_sha256")
        asked = marketdata_pb2.GetFactsRequest(snapshot_id=header.snapshot_id)
        error = await refused(market_data(running).GetFacts(asked))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_FACTS")
        for forecast in (await forecasts(running, cut_request())).values():
            assert {abstention.reason for abstention in forecast.abstentions} == {MISSING}
            assert sum(len(abstention.instrument_index) for abstention in forecast.abstentions) == len(UNIVERSE)


async def test_facts_are_named_by_their_hash_also_after_a_restart(tmp_path: Path) -> None:
    days = [at("2010-02-22") + day * DAY_NS for day in range(5)]  # IBM's report is filed on the 23rd
    async with system(tmp_path) as running:
        headers = [(await market_data(running).CutSnapshot(cut_request(day))).header for day in days]
    hashes = [header.facts_sha256 for header in headers]
    assert hashes[0] == hashes[1] != hashes[2]
    assert len(set(hashes[2:])) == 1
    async with system(tmp_path) as running:
        for day in range(store.KEPT + 1):  # out of memory
            await market_data(running).CutSnapshot(cut_request(at("2010-04-01") + day * DAY_NS, lookback_bars=2))
        for header in headers:
            request = marketdata_pb2.GetFactsRequest(snapshot_id=header.snapshot_id)
            answer = await market_data(running).GetFacts(request)
            assert hashlib.sha256(answer.company_sha256).hexdigest() == header.facts_sha256
            listed = [answer.company_sha256[at : at + 32] for at in range(0, 32 * len(UNIVERSE), 32)]
            sent = [hashlib.sha256(table).digest() for table in answer.company_facts]
            assert sent == [hash_ for hash_ in listed if any(hash_)]
        unknown = marketdata_pb2.GetFactsRequest(snapshot_id="0" * 64)
        error = await refused(market_data(running).GetFacts(unknown))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "SNAPSHOT_NOT_FOUND")


async def test_only_what_was_filed_since_is_sent(tmp_path: Path) -> None:
    """The caller names what it holds, whatever snapshot that was read for and whichever process answered."""
    async with system(tmp_path) as running:
        cuts = [await market_data(running).CutSnapshot(cut_request(at(day))) for day in BEFORE_AFTER]
        ids = [cut.header.snapshot_id for cut in cuts]
        before = await market_data(running).GetFacts(marketdata_pb2.GetFactsRequest(snapshot_id=ids[0]))
    async with system(tmp_path) as running:
        request = marketdata_pb2.GetFactsRequest(snapshot_id=ids[1], held_sha256=before.company_sha256)
        after = await market_data(running).GetFacts(request)
        (ibm,) = after.company_facts
        table = marketdata_pb2.FactsTable.FromString(ibm)
        assert [filing.form for filing in table.filings][-1] == "10-K"
        place = UNIVERSE.index("IBM") * 32
        assert hashlib.sha256(ibm).digest() == after.company_sha256[place : place + 32]
        request.held_sha256 = after.company_sha256
        again = await market_data(running).GetFacts(request)
        assert again == marketdata_pb2.GetFactsResponse(company_sha256=after.company_sha256)
        request.held_sha256 = b"half"
        error = await refused(market_data(running).GetFacts(request))
        assert (error.code, error.violations[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "held_sha256")
        assert "join the hashes of company_sha256" in error.message


@pytest.mark.parametrize("part_bytes", [1, ANSWER_BYTES])
async def test_a_reader_reads_every_company_once_until_it_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    """However many parts an answer comes in, and whether the snapshots are asked for at once or one by one."""
    monkeypatch.setattr(facts, "ANSWER_BYTES", part_bytes)
    read: list[FactView] = []

    def count(view: FactView) -> FactView:
        read.append(view)
        return view

    async with system(tmp_path) as running:
        client = FactsClient(market_data(running), count)
        snapshots = [
            await SnapshotClient(market_data(running)).get(
                (await market_data(running).CutSnapshot(cut_request(at(day)))).header.snapshot_id
            )
            for day in ("2009-06-01", *BEFORE_AFTER)
        ]
        assert await client.get(snapshots[0]) is None
        first, same = await asyncio.gather(client.get(snapshots[1]), client.get(snapshots[1]))
        assert first is same
        assert first is not None
        filed = sum(hash_ != NOTHING for hash_ in first.hashes)
        assert len(read) == filed > 1
        second = await client.get(snapshots[2])
    assert second is not None
    assert len(read) == filed + 1
    ibm = UNIVERSE.index("IBM")
    assert [i for i in range(len(UNIVERSE)) if first.read[i] is not second.read[i]] == [ibm]
    assert second.read[ibm] is read[-1]
    assert read[-1].balance("assets", date(2009, 12, 31)) == 109_022_000_000


HEADER = ",".join(COLUMNS)


def written(folder: Path, bars: list[str], facts: list[str]) -> dict[str, Any]:
    """Configuration of market_data that names these files."""
    config = write(folder, bars)
    path = folder / "facts.csv"
    path.write_text("\n".join((HEADER, *facts, "")), encoding="utf-8")
    return {**config, "facts": str(path)}


def accounts(name: str, shares: int, profit: int) -> list[str]:
    """An annual report with what `fundamental.value` reads."""
    report = "2009-12-31,2010-02-01,10-K"
    balances = {"Assets": 900, "StockholdersEquity": 500, "CommonStockSharesOutstanding": shares}
    flows = {"NetIncomeLoss": profit, "Revenues": 10 * profit}
    return [
        *(f"{name},{tag},0,{report},{name},{value}" for tag, value in balances.items()),
        *(f"{name},{tag},12,{report},{name},{value}" for tag, value in flows.items()),
    ]


async def test_a_split_since_the_filing_leaves_the_market_value_where_it_was(tmp_path: Path) -> None:
    """100 shares at 40, then 200 at 20: the filing still says 100, and so does everything made of it."""
    weekdays = [f"2010-{month:02}-{day:02}" for month in (1, 2, 3, 4) for day in range(1, 29)]
    split = "2010-04-20"
    bars = [
        row("A", day, 20 if day >= split else 40, adj=20)
        if index % 2
        else row("A", day, 20.2 if day >= split else 40.4, adj=20.2)
        for index, day in enumerate(weekdays)
    ]
    for name, close in (("B", 10), ("C", 11)):
        bars += [row(name, day, close + (index % 2) / 10) for index, day in enumerate(weekdays)]
    facts = [*accounts("A", 100, 2000), *accounts("B", 100, 50), *accounts("C", 100, 51)]
    config = written(tmp_path / "files", bars, facts)
    values = {}
    async with system(tmp_path / "run", market_data=config) as running:
        for day in ("2010-04-18", "2010-04-22"):
            request = cut_request(at(day), ["A", "B", "C"], 80)
            estimates = (await forecasts(running, request))["fundamental.value"].estimates
            assert estimates.instrument_index[0] == 0, day
            evidence = {each.name: each.value[0] for each in estimates.evidence}
            values[day] = evidence["market_value_usd"], evidence["earnings_yield"]
    assert values["2010-04-18"] == pytest.approx((4000.0, 0.5), rel=0.02)
    assert values["2010-04-22"] == pytest.approx((4000.0, 0.5), rel=0.02)


async def test_a_wrong_file_of_facts_stops_the_start(tmp_path: Path) -> None:
    bars = [row("A", "2010-03-01")]
    good = accounts("A", 100, 2000)
    for line, problem in (
        ("A,Assets,0,2009-12-31,soon,10-K,A,1", r"facts\.csv, line 7: .*soon"),
        (good[0], r"facts\.csv, line 7: the number of line 2 once more"),
    ):
        config = written(tmp_path / "files", bars, [*good, line])
        with pytest.raises(ConfigError, match=problem):
            async with system(tmp_path / "run", market_data=config):
                raise AssertionError("it must not start")
    foreign = tmp_path / "files" / "instruments.yaml"
    config = written(tmp_path / "files", bars, good)
    foreign.write_text(
        foreign.read_text().replace("instrument_id: A, currency_code: USD", "instrument_id: A, currency_code: EUR")
    )
    with pytest.raises(ConfigError, match="facts of A are in USD, and it trades in EUR"):
        async with system(tmp_path / "run", market_data=config):
            raise AssertionError("it must not start")


async def test_other_facts_are_another_data_set(tmp_path: Path) -> None:
    """What was decided on is not answered with other facts under the same id."""
    bars = [row("A", day) for day in ("2010-03-01", "2010-03-02")]
    config = written(tmp_path / "files", bars, accounts("A", 100, 2000))
    async with system(tmp_path / "run", market_data=config) as running:
        snapshot_id = (
            await market_data(running).CutSnapshot(cut_request(at("2010-03-02"), ["A"], 2))
        ).header.snapshot_id
    written(tmp_path / "files", bars, accounts("A", 100, 1999))
    async with system(tmp_path / "run", market_data=config) as running:
        error = await refused(market_data(running).GetFacts(marketdata_pb2.GetFactsRequest(snapshot_id=snapshot_id)))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATASET_CHANGED")
    assert [kind for kind, _ in journalled(tmp_path / "run")].count("DatasetLoaded") == 2


async def test_agents_and_assumptions_are_chosen_by_configuration(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        listed = (await agents(running).ListAgents(agent_pb2.ListAgentsRequest())).agents
    assert [agent.agent_id for agent in listed] == NAMES
    assert {agent.kind for agent in listed} == {agent_pb2.Agent.KIND_FUNDAMENTAL}
    assert all(agent.version and agent.minimum_bars and agent.horizon_bars and agent.description for agent in listed)
    chosen = {"agents": ["fundamental.dcf"], "dcf": {"discount_rate": 0.2}}
    async with system(tmp_path, fundamental_agent=chosen) as running:
        (only,) = (await forecasts(running, cut_request(at("2010-03-01")))).values()
        assert only.estimates.expected_return
        assert all(value < 0.0 for value in only.estimates.expected_return)  # at 20 % a year nothing is worth its price
        rate = next(each.value for each in only.estimates.evidence if each.name == "discount_rate_assumed")
        assert set(rate) == {0.2}
    for wrong, problem in (({"agents": ["fundamental.oracle"]}, "oracle"), ({"dcf": {"discount_rate": 0.03}}, "above")):
        with pytest.raises(ConfigError, match=json.dumps(problem)[1:-1]):
            async with system(tmp_path, fundamental_agent=wrong):
                raise AssertionError("it must not start")
