"""AgentService of the sentiment agents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from alphamesh.agent.v1 import agent_pb2
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from python_services.kit.agents import Agent, Floats, Mask, Window, forecast
from python_services.kit.agents.cluster import chosen, serve
from python_services.kit.agents.window import made_up
from python_services.kit.config import ConfigError
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.ids import content_id
from python_services.kit.inference import InferenceClient
from python_services.kit.snapshots import Snapshot
from python_services.kit.texts import TextClient

from .agents import AGENTS
from .ahead import follow
from .config import Config
from .logic import Stories, View
from .reader import Reader
from .scoring import Lexicon, Scorer

NAME = "sentiment_agent"


def tokenizer(config: Config) -> Any:
    """That of the model's version. Raises ConfigError when it is missing, or not the one that the card names."""
    from tokenizers import Tokenizer

    folder = config.version_folder()
    try:
        content, card = (folder / "tokenizer.json").read_bytes(), json.loads((folder / "card.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{NAME}: {folder} has no usable tokenizer.json and card.json ({error}); correct models, model_id or "
            "model_version"
        ) from error
    if content_id(content) != card.get("files", {}).get("tokenizer.json"):
        raise ConfigError(f"{NAME}: {folder}/tokenizer.json is not the one that its card names; restore it")
    return Tokenizer.from_buffer(content)


def lexicon() -> Lexicon:
    """VADER (Hutto and Gilbert 2014): its compound score, -1 to 1."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    return lambda text: float(analyzer.polarity_scores(text)["compound"])


async def scores_of(stories: Stories, scorer: Scorer) -> tuple[Floats, Mask, str | None]:
    """Of each text its score, and whether the lexicon gave it; and why that had to. What the model gives is kept."""
    score = stories.scores[stories.number]
    lexical = np.zeros(len(score), dtype=np.bool_)
    new = np.flatnonzero(np.isnan(score))[::-1]  # the newest first
    if not len(new):
        return score, lexical, None
    found = await scorer.score(stories.texts.take(pa.array(new)).to_pylist(), of=len(score))
    score[new], lexical[new] = found.value, found.lexical
    sure = ~found.lexical
    stories.scores[stories.number[new[sure]]] = found.value[sure]
    return score, lexical, found.problem


async def build(context: Context[Config]) -> None:
    """Loads what a text needs before the first one comes; whether the model answers is seen then."""
    config = context.config
    running = chosen(AGENTS, config.agents, NAME)
    texts = TextClient(context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data"), context.snapshots)
    scorer = Scorer(
        InferenceClient.of(context, failures=config.breaker_failures, reset_s=config.breaker_reset_s),
        tokenizer(config),
        lexicon(),
        model_id=config.model_id,
        version=config.model_version,
        patience_s=config.scoring_s,
        timeout_s=config.inference_s,
    )
    _load(running)
    context.on_close(scorer.close)
    context.spawn(follow(context.events, scorer), "ahead")
    reader = Reader(config.credibility(), config.other_credibility)

    async def look(snapshot: Snapshot, window: Window) -> View:
        with scorer.attention():
            found = await texts.get(snapshot)
            stories = reader.read(found, snapshot.as_of_ns)
            score, lexical, problem = await scores_of(stories, scorer)
        return View(
            window=window,
            instruments=len(snapshot.instrument_ids),
            instrument=stories.instrument,
            age_days=stories.age_days,
            credibility=stories.credibility,
            score=score[stories.words],
            lexical=lexical[stories.words],
            model=scorer.model,
            degraded=problem,
        )

    serve(context, agent_pb2.Agent.KIND_SENTIMENT, running, look)


def _load(agents: Mapping[str, Agent[View]]) -> None:
    """Kernels are loaded before the first request."""
    bars, none = made_up(), np.empty(0)
    nothing = View(
        window=bars,
        instruments=bars.close.shape[1],
        instrument=none.astype(np.int64),
        age_days=none,
        credibility=none,
        score=none,
        lexical=none.astype(np.bool_),
        model="",
    )
    for agent in agents.values():
        forecast(agent, bars, nothing)


DEFINITION = ServiceDefinition(name=NAME, version="0.1.0", config=Config, build=build)
