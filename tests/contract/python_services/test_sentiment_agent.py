"""AgentService of the sentiment agents as the coordinator meets it, with the model that ships."""

from __future__ import annotations

import dataclasses
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import protovalidate
import pytest

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2
from inference import grpc_service_pb2_grpc
from mesh import texts_file, topology
from python_services.kit.config import ConfigError
from python_services.kit.inference import InferenceClient
from python_services.local import LocalSystem
from python_services.sentiment_agent.config import Config
from python_services.sentiment_agent.scoring import Scorer
from python_services.sentiment_agent.service import lexicon, tokenizer

from .two_services import CLOSE_2009_07_01, UNIVERSE, cut_request, market_data

MADE_UP = Path(__file__).parents[2] / "texts" / "made_up_2009.jsonl"
NAMES = ["sentiment.dispersion", "sentiment.news", "sentiment.trend"]
DAY_NS = 86_400 * 10**9
JULY_24 = CLOSE_2009_07_01 + 23 * DAY_NS
NEWS = 1


def system(run_dir: Path, triton: bool = True, **config: Any) -> LocalSystem:
    """market_data and the sentiment agents; without Triton the model is UNAVAILABLE."""
    whole = topology.load().with_config("sentiment_agent", config)
    if not triton and whole.triton is not None:
        whole = dataclasses.replace(whole, triton=dataclasses.replace(whole.triton, enabled=False))
    wanted = tuple(service for service in whole.services if service.name in ("market_data", "sentiment_agent"))
    return LocalSystem(run_dir, dataclasses.replace(whole, services=wanted))


async def take_in(running: LocalSystem, texts: Sequence[marketdata_pb2.Text]) -> None:
    request = marketdata_pb2.IngestTextsRequest(request_id=str(uuid.uuid4()), texts=texts)
    assert (await market_data(running).IngestTexts(request)).accepted == len(texts)


async def ask(
    running: LocalSystem, as_of_ns: int = JULY_24, instrument_ids: Sequence[str] = UNIVERSE
) -> agent_pb2.ComputeForecastsResponse:
    """Forecasts on a new snapshot."""
    header = (await market_data(running).CutSnapshot(cut_request(as_of_ns, instrument_ids))).header
    stub = running.stub(agent_pb2_grpc.AgentServiceStub, "sentiment_agent")
    request = agent_pb2.ComputeForecastsRequest(decision_id="d", snapshot_id=header.snapshot_id)
    response: agent_pb2.ComputeForecastsResponse = await stub.ComputeForecasts(request)
    assert response.data_sha256 == response.snapshot_id == header.snapshot_id
    return response


def returns(response: agent_pb2.ComputeForecastsResponse, names: Sequence[str] = UNIVERSE) -> Mapping[str, float]:
    """Expected returns of sentiment.news."""
    estimates = response.forecasts[NEWS].estimates
    return {names[i]: r for i, r in zip(estimates.instrument_index, estimates.expected_return, strict=True)}


async def test_the_news_of_july_2009(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        await take_in(running, texts_file.read(MADE_UP))
        response = await ask(running)
        again = await ask(running)
    assert again == response
    assert [forecast.agent_id for forecast in response.forecasts] == NAMES
    for forecast in response.forecasts:
        protovalidate.validate(forecast)
        answered = list(forecast.estimates.instrument_index)
        answered += [row for abstention in forecast.abstentions for row in abstention.instrument_index]
        assert sorted(answered) == list(range(len(UNIVERSE)))
        assert forecast.model_version == "headline_sentiment:1"
        assert not forecast.HasField("degraded")
    found = returns(response)
    assert found["AAPL"] > 0.0 > found["MSFT"]  # its best quarter; a miss by a wide margin
    evidence = {each.name: each.value for each in response.forecasts[NEWS].estimates.evidence}
    apple = list(response.forecasts[NEWS].estimates.instrument_index).index(UNIVERSE.index("AAPL"))
    assert evidence["texts"][apple] == 2.0  # of July; those of June are too old
    assert evidence["credibility"][apple] == 0.9
    assert evidence["newest_age_days"][apple] == pytest.approx(2.98, abs=0.01)


async def test_two_systems_and_other_instruments_beside_it_change_no_bit(tmp_path: Path) -> None:
    """The model is asked about other texts, in another order; what it says of a company's own stays."""
    found = []
    for number, names in enumerate((UNIVERSE, ("IBM", "AAPL"), ("AAPL",))):
        async with system(tmp_path / str(number)) as running:
            await take_in(running, texts_file.read(MADE_UP))
            found.append(returns(await ask(running, instrument_ids=names), names)["AAPL"])
    assert len(set(found)) == 1


async def test_texts_that_become_known_later_change_no_byte(tmp_path: Path) -> None:
    texts = texts_file.read(MADE_UP)
    known = [text for text in texts if text.known_at_ns <= JULY_24]
    answers = []
    for taken in (known, texts):
        async with system(tmp_path / str(len(taken))) as running:
            await take_in(running, taken)
            answers.append((await ask(running)).SerializeToString(deterministic=True))
    assert len(known) < len(texts)
    assert answers[0] == answers[1]


async def test_without_texts_every_agent_abstains_for_every_instrument_and_says_why(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        response = await ask(running)
    for forecast in response.forecasts:
        assert not forecast.estimates.instrument_index
        assert {(a.reason, a.detail) for a in forecast.abstentions} == {
            (agent_pb2.Abstention.REASON_MISSING_DATA, "no text about it in the last 30 days")
        }
        assert not forecast.HasField("degraded")


async def test_without_the_model_the_lexicon_answers_and_says_so(tmp_path: Path) -> None:
    texts = texts_file.read(MADE_UP)
    answers = {}
    for triton in (True, False):
        async with system(tmp_path / str(triton), triton=triton) as running:
            await take_in(running, texts)
            answers[triton] = (await ask(running)).forecasts[NEWS]
    whole, part = answers[True], answers[False]
    assert "texts are scored by the VADER lexicon: headline_sentiment:1 did not answer: " in part.degraded
    assert "UNAVAILABLE" in part.degraded or "BREAKER_OPEN" in part.degraded
    assert part.estimates.instrument_index
    assert max(part.estimates.confidence) < max(whole.estimates.confidence)
    score = lexicon()
    apple = list(part.estimates.instrument_index).index(UNIVERSE.index("AAPL"))
    evidence = {each.name: each.value[apple] for each in part.estimates.evidence}
    said = [text for text in texts if "AAPL" in text.instrument_ids and text.known_at_ns <= JULY_24]
    said = [text for text in said if text.known_at_ns >= JULY_24 - 30 * DAY_NS]
    weights = 0.9 * 2.0 ** (-np.array([JULY_24 - text.ts_event_ns for text in said]) / (3 * DAY_NS))
    assert evidence["tone"] == pytest.approx(np.average([score(text.text) for text in said], weights=weights))


async def test_a_text_has_its_score_bit_for_bit_in_any_company(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        client = InferenceClient(
            running.stub(grpc_service_pb2_grpc.GRPCInferenceServiceStub, "triton", caller="sentiment_agent")
        )

        def scorer() -> Scorer:
            return Scorer(
                client, tokenizer(Config()), lexicon(),
                model_id="headline_sentiment", version=1, patience_s=60.0, timeout_s=30.0,
            )  # fmt: skip

        texts = [text.text for text in texts_file.read(MADE_UP)][8:20]
        together = await scorer().score(texts)
        assert together.problem is None
        assert together.value.min() < -0.5 < 0.5 < together.value.max()
        backwards = await scorer().score(texts[::-1])
        assert backwards.value[::-1].tobytes() == together.value.tobytes()
        for text, value in zip(texts, together.value, strict=True):
            assert (await scorer().score([text])).value[0] == value
        # What a batch would do to them, which is why there is none.
        encoded = tokenizer(Config()).encode_batch(texts)
        inputs = {
            "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in encoded], dtype=np.int64),
        }
        found = await client.infer("headline_sentiment", 1, inputs, {"probabilities": (len(texts), 3)}, 30.0)
        batched = found["probabilities"][:, 1].astype(np.float64) - found["probabilities"][:, 0]
        np.testing.assert_allclose(batched, together.value, atol=1e-5)


async def test_a_deadline_is_kept_and_the_scores_are_there_for_the_next_forecast(tmp_path: Path) -> None:
    async with system(tmp_path, scoring_s=0.0) as running:
        await take_in(running, texts_file.read(MADE_UP))
        first = (await ask(running)).forecasts[NEWS]
        assert "had not answered when the time was over" in first.degraded
        for _ in range(100):
            following = (await ask(running)).forecasts[NEWS]
            if not following.HasField("degraded"):
                break
        assert not following.HasField("degraded")


async def test_it_starts_with_the_tokenizer_of_its_model_only(tmp_path: Path) -> None:
    for config, problem in (
        ({"model_version": 9}, r"headline_sentiment/9 has no usable tokenizer\.json"),
        ({"agents": ["sentiment.oracle"]}, r"sentiment\.oracle"),
    ):
        with pytest.raises(ConfigError, match=problem):
            async with system(tmp_path, **config):
                raise AssertionError("it must not start")
    shipped, models = Config().version_folder(), tmp_path / "models"
    folder = models / "headline_sentiment" / "1"
    folder.mkdir(parents=True)
    for name in ("card.json", "tokenizer.json"):
        shutil.copy(shipped / name, folder)
    content = json.loads((folder / "tokenizer.json").read_bytes())
    content["truncation"]["max_length"] = 8
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="is not the one that its card names"):
        async with system(tmp_path, models=str(models)):
            raise AssertionError("it must not start")
