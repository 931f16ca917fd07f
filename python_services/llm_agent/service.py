"""AgentService of the language model's analyst."""

from __future__ import annotations

from pathlib import Path

from alphamesh.agent.v1 import agent_pb2
from python_services.kit import metrics, telemetry
from python_services.kit.agents import Window
from python_services.kit.agents.cluster import serve
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.snapshots import Snapshot

from .analyst import Analyst
from .budget import Budget
from .cassette import Cassette
from .config import LIVE, RECORD, REPLAY, Config
from .conversation import Model
from .endpoint import Endpoint
from .logic import Look, agent_of

_COUNTED = {
    "answers": "Answers of the language model, recorded ones included.",
    "bad_answers": "Answers that were refused because they did not fit the schema.",
    "unanswered": "Questions without an answer.",
    "tokens": "Tokens paid for.",
}


async def build(context: Context[Config]) -> None:
    """Refuses to start without a key, or without the recording that it is to replay."""
    config = context.config
    asks = config.mode != REPLAY
    endpoint = Endpoint(config) if asks else None
    budget = Budget(config, context.data_dir / "spending.jsonl") if asks else None
    cassette = Cassette(Path(config.cassette), record=config.mode == RECORD) if config.mode != LIVE else None
    model = Model(config, endpoint, budget, cassette)
    context.on_close(model.close)
    for name, text in _COUNTED.items():
        metrics.figure(f"alphamesh_llm_{name}_total", text, lambda name=name: model.counts[name])  # type: ignore[misc]
    analyst = Analyst(model)

    async def look(snapshot: Snapshot, window: Window) -> Look:
        return Look(
            window=window, opinion=await analyst.study(window, snapshot.instrument_ids, telemetry.decision.get())
        )

    agent = agent_of(config)
    serve(context, agent_pb2.Agent.KIND_LLM, {agent.agent_id: agent}, look)


DEFINITION = ServiceDefinition(name="llm_agent", version="0.1.0", config=Config, build=build)
