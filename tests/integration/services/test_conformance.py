"""The conformance kit: agents that keep the contract pass, and each way to break it is found and named."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import math
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.json_format import ParseDict

from alphamesh.agent.v1 import agent_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from mesh.conformance import vectors
from mesh.conformance.market import Market, serve
from mesh.conformance.running import Outcome, conformance
from python_services.kit.agents import cluster
from python_services.kit.client import connect
from python_services.kit.context import Context
from python_services.kit.eventlog import LocalEventLog
from python_services.kit.server import make_server
from python_services.technical_agent.agents import AGENTS

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = sorted((ROOT / "protos/alphamesh/agent/v1/golden").glob("*.json"))
OURS = [f"python_services.{kind}_agent" for kind in ("technical", "fundamental", "sentiment")]
EXAMPLES = [f"examples.agents.{path.parent.name}" for path in sorted((ROOT / "examples/agents").glob("*/agent.py"))]


@pytest.mark.parametrize("module", [*OURS, *EXAMPLES])
def test_our_agents_and_the_examples_conform(module: str) -> None:
    command = [sys.executable, "-m", "mesh.cli", "conformance", "--module", module, "--deadline", "5", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["agents"]
    assert len(said["checks"]) == 11
    assert all(check["passed"] for check in said["checks"])


def test_three_examples_and_one_has_a_model() -> None:
    assert len(EXAMPLES) == 3
    assert len(list((ROOT / "examples/agents").glob("*/model.onnx"))) == 1


Servicer = cluster.Cluster[Any]
Break = Callable[[agent_pb2.ComputeForecastsResponse, marketdata_pb2.SnapshotHeader], None]


@asynccontextmanager
async def broken(
    tmp_path: Path, break_answer: Break | None = None, **methods: Any
) -> AsyncIterator[tuple[str, Market]]:
    """The technical agents behind a real server, with answers that are broken on their way out."""
    market = Market()
    theirs, own = f"unix:{tmp_path}/m.sock", f"unix:{tmp_path}/a.sock"
    market_server, _ = await serve(market, theirs)

    def fail(error: BaseException) -> None:
        raise error

    context: Context[cluster.Config] = Context(
        name="agent", version="1", config=cluster.Config(), data_dir=tmp_path, events=LocalEventLog(),
        connect=lambda name: connect("agent", name, theirs), fail=fail,
    )  # fmt: skip

    class Breaking(cluster.Cluster[Any]):
        async def ComputeForecasts(self, request: Any, context: Any) -> Any:
            answer = await super().ComputeForecasts(request, context)
            if break_answer is not None:
                break_answer(answer, (await self._snapshots.get(request.snapshot_id)))
            return answer

    for name, method in methods.items():
        setattr(Breaking, name, method)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "Cluster", Breaking)

        async def look(snapshot: Any, window: Any) -> Any:
            return window

        cluster.serve(context, agent_pb2.Agent.KIND_TECHNICAL, {agent.agent_id: agent for agent in AGENTS[-1:]}, look)
    server, _ = make_server(context)
    server.add_insecure_port(own)
    await server.start()
    try:
        yield own, market
    finally:
        await server.stop(None)
        await context.close()
        await market_server.stop(None)


def problems(outcome: Outcome) -> str:
    assert not outcome.passed
    return " | ".join(result.problem for result in outcome.results if not result.passed)


def first(answer: agent_pb2.ComputeForecastsResponse) -> agent_pb2.AgentForecast:
    return answer.forecasts[0]


def forget_the_hash(answer: Any, snapshot: Any) -> None:
    answer.data_sha256 = ""


def guess(answer: Any, snapshot: Any, random: Any = np.random.default_rng()) -> None:  # noqa: B008 - one for all
    if first(answer).estimates.confidence:
        first(answer).estimates.confidence[0] = random.random()


def lose_an_instrument(answer: Any, snapshot: Any) -> None:
    del first(answer).abstentions[:]
    first(answer).ClearField("estimates")


def divide_by_zero(answer: Any, snapshot: Any) -> None:
    for i in range(len(first(answer).estimates.volatility)):
        first(answer).estimates.volatility[i] = float("nan")


def make_it_up(answer: Any, snapshot: Any) -> None:
    """A number for every instrument, whether there is data or not."""
    del first(answer).abstentions[:]
    count = len(snapshot.instrument_ids)
    first(answer).estimates.CopyFrom(
        agent_pb2.Estimates(
            instrument_index=range(count), expected_return=[0.0] * count, volatility=[0.1] * count,
            confidence=[0.5] * count,
        )
    )  # fmt: skip


def grow_a_version(answer: Any, snapshot: Any, count: Any = itertools.count()) -> None:  # noqa: B008 - one for all
    first(answer).agent_version = f"2.0.{next(count)}"


@pytest.mark.parametrize(
    ("break_answer", "says"),
    [
        (forget_the_hash, "data_sha256 is empty"),
        (guess, "differ: nothing may be remembered, drawn or timed"),
        (lose_an_instrument, "every instrument is estimated or abstained from, once"),
        (divide_by_zero, "volatility"),
        (make_it_up, "about which nothing can be known"),
        (grow_a_version, "listed as"),
    ],
)
async def test_each_way_to_break_the_contract_is_named(tmp_path: Path, break_answer: Break, says: str) -> None:
    async with broken(tmp_path, break_answer) as (target, market):
        assert says in problems(await conformance(target, market, 0.3))


async def test_an_agent_that_answers_about_anything_is_found(tmp_path: Path) -> None:
    async def compute(self: Servicer, request: Any, context: Any) -> Any:
        return agent_pb2.ComputeForecastsResponse(snapshot_id=request.snapshot_id, data_sha256=request.snapshot_id)

    async with broken(tmp_path, ComputeForecasts=compute) as (target, market):
        said = problems(await conformance(target, market, 0.3))
    for part in ("an unknown snapshot was answered", "another snapshot was answered", "no Arrow file was answered"):
        assert part in said, said


async def test_an_agent_that_blocks_is_found(tmp_path: Path) -> None:
    original = cluster.Cluster.ComputeForecasts

    async def compute(self: Servicer, request: Any, context: Any) -> Any:
        answer = await original(self, request, context)
        if len((await self._snapshots.get(request.snapshot_id)).instrument_ids) > 400:
            time.sleep(1.0)  # noqa: ASYNC251 - it is what is wrong with it
        return answer

    async with broken(tmp_path, ComputeForecasts=compute) as (target, market):
        assert "the deadline is 0.5 s" in problems(await conformance(target, market, 0.5))


def test_golden_files_are_what_the_code_makes() -> None:
    assert {path.stem for path in GOLDEN} == {made.name for made in vectors.make()}
    for made in vectors.make():
        path = next(path for path in GOLDEN if path.stem == made.name)
        assert json.loads(path.read_text()) == json.loads(json.dumps(vectors.plain_json(made)))


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_golden_files_can_be_read_with_arrow_alone(path: Path) -> None:
    """As an agent in another language does: no code of ours but the messages."""
    body = json.loads(path.read_text())
    answer = ParseDict(body["get_snapshot_response"], marketdata_pb2.GetSnapshotResponse())
    header = ParseDict(body["header"], marketdata_pb2.SnapshotHeader())
    (batch,) = [pa.ipc.open_file(pa.BufferReader(answer.arrow_ipc)).get_batch(0)]
    closes = batch.column("close").to_pylist()  # a row per bar
    shown = [[None if math.isnan(value) else value for value in row] for row in closes]
    assert shown[-1] == body["decoded"]["last_close"]
    assert [sum(row[i] is None for row in shown) for i in range(len(shown[0]))] == body["decoded"]["missing_bars"]
    assert len(shown) == body["decoded"]["bars"] == len(header.bar_ts_ns)
    packed = struct.pack(f"<{len(closes) * len(closes[0])}d", *itertools.chain(*closes))
    assert hashlib.sha256(packed).hexdigest() == header.column_sha256[3]
    bare = base64.b64decode(batch.schema.metadata[b"alphamesh.snapshot_header"])
    assert hashlib.sha256(bare).hexdigest() == header.snapshot_id
    found = marketdata_pb2.SnapshotHeader.FromString(bare)
    found.snapshot_id = header.snapshot_id
    assert found == header


def test_nobody_there_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.conformance.running.START_S", 0.3)
    from mesh.errors import MeshError

    with pytest.raises(MeshError, match="start the agent, and give its address"):
        asyncio.run(conformance(f"unix:{tmp_path}/nobody.sock", Market(), 0.3))
