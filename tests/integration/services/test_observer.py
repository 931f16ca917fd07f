"""The learned agent's observer before the real registry: what it tells is what the bars say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.model.v1 import model_pb2, model_pb2_grpc
from python_services.kit import snapshots
from python_services.kit.inference import InferenceError, Reason
from python_services.kit.snapshots import Snapshot
from python_services.learned_agent import logic
from python_services.learned_agent.observing import Observer, Question
from python_services.learned_agent.versions import Version
from python_services.local import LocalSystem
from tests.services.models import made
from tests.services.models import service as models
from tests.services.models.serving import OnnxServing

from .test_model_registry import MESH, MODEL, Keeper, hold, keeper_events

DAY = 86_400 * 10**9
NAMES = tuple(f"I{n}" for n in range(40))
FIRST, SECOND = (Version(number=number, feature_set_version="f", features=("a",)) for number in (1, 2))


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    models.serving = OnnxServing()
    async with LocalSystem(tmp_path, MESH) as system:
        yield Keeper(system, tmp_path, models.serving)


class Answers:
    """Asks the second version: it says the opposite of the first."""

    def __init__(self, up: np.ndarray) -> None:
        self.up = up

    async def infer(self, model: str, version: int, *_: Any, **__: Any) -> dict[str, np.ndarray]:
        return {"up_probability": 1.0 - self.up[:, None], "volatility": np.full((len(self.up), 1), 0.02)}


def snapshot(day: int, closes: np.ndarray, names: tuple[str, ...]) -> Snapshot:
    """Bars of ten days up to `day`."""
    columns = [NAMES.index(name) for name in names]
    close = np.ascontiguousarray(closes[day - 9 : day + 1, columns])
    times = (np.arange(day - 9, day + 1) + 1) * DAY
    header = marketdata_pb2.SnapshotHeader(as_of_ns=int(times[-1]), instrument_ids=names, bar_ts_ns=times.tolist())
    content = snapshots.in_memory(snapshots.seal(header, dict.fromkeys(snapshots.FLOAT_COLUMNS, close)))
    return snapshots.decode(header.snapshot_id, content)


async def test_every_answer_and_outcome_is_counted_once_for_each_version_also_when_the_universe_changes(
    keeper: Keeper,
) -> None:
    await served(keeper)
    rng = np.random.default_rng(4)
    closes = 100.0 * np.exp(0.002 * rng.standard_normal((30, len(NAMES))).cumsum(axis=0))
    closes[20, 3] = np.nan  # no bar: nobody knows what came of it
    up = rng.uniform(0.3, 0.7, (30, len(NAMES)))
    up[:, :3] = np.nan  # not asked about: a feature is missing
    stub = keeper.system.stub(model_pb2_grpc.ModelRegistryServiceStub, "model_registry")
    answers = Answers(up[0])
    observer = Observer(MODEL, stub, answers, 0.5)  # type: ignore[arg-type]
    before = await recorded(keeper)
    running = asyncio.create_task(observer.run())
    asked = 0
    for day in range(10, 21):
        names = NAMES if day < 17 else NAMES[::-1][2:]  # other places, and two are gone
        chosen = up[day][[NAMES.index(name) for name in names]]
        rows = np.flatnonzero(~np.isnan(chosen))
        answers.up = chosen[rows]
        volatility = np.full(len(rows), 0.02)
        failed = InferenceError(Reason.DEADLINE, "too late")
        answer = failed if day == 12 else logic.Answer(up_probability=chosen[rows], volatility=volatility)
        observer.take(
            Question(
                decision_id=f"d{day}", snapshot=snapshot(day, closes, names), rows=rows, used=FIRST, others=(SECOND,),
                table=logic.Table(names=("a",), values=chosen[:, None]), answer=answer, latency_ns=10**6,
            )
        )  # fmt: skip
        asked += len(rows)
        await until_recorded(keeper, asked)
    running.cancel()
    days = np.arange(10, 16)[:, None]  # five bars have closed since
    later, p = closes[15:21] / closes[10:16] - 1.0, up[10:16]
    known = ~np.isnan(p + later) & ((days < 12) | (np.arange(len(NAMES)) < 38))
    first, second = (await keeper.health(1)).health, (await keeper.health(2)).health
    assert (second.requests, second.failures, second.outcomes) == (asked, 0, known.sum())
    assert second.brier_score == pytest.approx(np.mean((1.0 - p - (later > 0.0))[known] ** 2))
    answered = known & (days != 12)
    assert (first.requests, first.failures, first.outcomes) == (asked, 37, answered.sum())
    assert first.realized_return == pytest.approx(np.where(p >= 0.5, later, -later)[answered].sum())
    assert second.pairs == first.outcomes  # on the same questions
    assert await recorded(keeper) - before == 2 * 11  # one event for each version and decision


async def served(keeper: Keeper) -> None:
    """A champion and a shadow with two outputs, which stay what they are."""
    signature = made.signature(columns=2)
    for number, weights in ((1, (1.0, -0.5, 0.25)), (2, (1.1, -0.6, 0.3))):
        golden = made.golden(np.tile(made.answers(weights), (1, 2)))
        assert await keeper.register(made.graph(weights, columns=2), golden, signature=signature) == number
        await keeper.until(number, model_pb2.MODEL_STAGE_VALIDATED)
        await keeper.promote(number, model_pb2.MODEL_STAGE_SHADOW)
        if number == 1:
            await keeper.promote(1, model_pb2.MODEL_STAGE_CANARY)
            await keeper.promote(1, model_pb2.MODEL_STAGE_CHAMPION)
    await hold(keeper)


async def until_recorded(keeper: Keeper, rows: int) -> None:
    for _ in range(500):
        if (await keeper.health(SECOND.number)).health.requests == rows:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{rows} rows were not recorded")


async def recorded(keeper: Keeper) -> int:
    return (await keeper_events(keeper)).count("alphamesh.model.v1.ModelObservationsRecorded")
