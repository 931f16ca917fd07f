"""A decision on 500 instruments through the sidecars, with every cluster of agents at work, and what one more costs.

The universe is synthetic: bars (benchmarks/synthetic_universe.py), company facts of every instrument, and a few texts a
day, so that technical, fundamental, sentiment and learned agents all have something to say. A turn is a whole session
through the command line, decision after decision without a pause; the figures are those of its report. It begins when
the sentiment agents have scored the texts, which they do as texts come in: a system that trades has long done so when
it decides.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import synthetic_facts, synthetic_universe
from benchmarks.runner import Case
from benchmarks.sessions import STEPS, Sessions, alphamesh, rate, step
from mesh.topology import DEFAULT_PATH

INSTRUMENTS, DAYS = 500, 400
SESSION = ("--start", "2009-03-02", "--end", "2009-05-29")
ADDED = ("opening_gap", "turn_of_month")
TEXTS_A_DAY = 20
PATIENCE_S = 300.0
PACE_S = 0.5
_SENTENCES = (
    "{name} raises its forecast after orders grew by {number} percent",
    "{name} loses a large customer and closes {number} stores",
    "{name} holds its annual meeting on the {number}th floor",
    "Analysts cut {name} on falling margins, {number} percent below last year",
    "{name} wins a contract worth {number} million",
)
_KEEP: list[tempfile.TemporaryDirectory[str]] = []


def cases() -> list[Case]:
    """Rows; nothing runs before the first is measured."""
    keep = tempfile.TemporaryDirectory(prefix="alphamesh-bench-")  # the sessions' data lies in it
    _KEEP.append(keep)
    folder = Path(keep.name)
    bars, facts = synthetic_universe.write(folder, instruments=INSTRUMENTS, days=DAYS, seed=7)
    universe = synthetic_universe.names(INSTRUMENTS)
    filed = synthetic_facts.write(folder, instruments=INSTRUMENTS, seed=7)
    write_texts(folder / "texts.jsonl", universe)
    data = {"datasets": [str(bars)], "instruments": str(facts), "facts": str(filed)}
    few = Ready(folder, topology(folder, data), universe)
    paced = Ready(folder, topology(folder, data, pace_s=PACE_S), universe)
    more = Ready(folder, topology(folder, data, ADDED), universe)
    label = f"{INSTRUMENTS} instruments, 4 clusters"
    return [
        Case(name=f"cycle p50, {label}", unit="ms", ours=few.figure("p50", step("cycle", "p50")), goal="ours <= 50"),
        Case(name=f"cycle p99, {label}", unit="ms", ours=few.figure("p99", step("cycle", "p99"))),
        Case(
            name=f"cycle p50, {label}, one in {PACE_S:g} s",
            unit="ms",
            ours=paced.figure("p50", step("cycle", "p50")),
            goal="ours <= 50",
        ),
        Case(name=f"cycles, {label}", unit="1/s", ours=few.figure("rate", rate), better="higher"),
        *(
            Case(name=f"{name} {quantile}", unit="ms", ours=few.figure(f"{name}-{quantile}", step(name, quantile)))
            for name in STEPS
            for quantile in ("p50", "p99")
        ),
        Case(
            name=f"cycle p50 with {len(ADDED)} more agents, a service each",
            unit="ms",
            ours=more.figure("p50", step("cycle", "p50")),
            peer=few.figure("p50-again", step("cycle", "p50")),
            peer_name="4 clusters",
        ),
    ]


class Ready(Sessions):
    """Sessions in systems that are up, and that have read their texts."""

    def __init__(self, folder: Path, topology: Path, universe: list[str]) -> None:
        super().__init__(folder, "--instruments", ",".join(universe), *SESSION)
        self._topology = topology
        self._texts = folder / "texts.jsonl"

    def trade(self, run: Path, report: Path) -> None:
        """One session in a system of its own."""
        where = ("--data-dir", str(run))
        alphamesh("up", "--detach", "--topology", str(self._topology), *where)
        try:
            alphamesh("texts", "import", str(self._texts), *where)
            self._wait(where, time.monotonic() + PATIENCE_S)
            super().trade(run, report)
        finally:
            alphamesh("down", *where)

    def _wait(self, where: tuple[str, str], give_up: float) -> None:
        texts = len(self._texts.read_text().splitlines())
        seen = f'alphamesh_texts_seen_total{{service="sentiment_agent"}} {texts}'
        while seen not in alphamesh("metrics", "sentiment_agent", *where).splitlines():
            if time.monotonic() > give_up:
                raise RuntimeError(f"the texts are not scored after {PATIENCE_S:g} s")
            time.sleep(1.0)


def topology(folder: Path, data: dict[str, Any], added: tuple[str, ...] = (), pace_s: float = 0.0) -> Path:
    """What ships, with the synthetic data, examples of agents as further services, and time between decisions."""
    path = folder / f"{len(added)}-{pace_s:g}.yaml"
    content: dict[str, Any] = yaml.safe_load(DEFAULT_PATH.read_text())
    content["services"]["market_data"]["config"] = data
    content["services"]["coordinator"]["config"] = {"pace_s": pace_s}
    for name in added:
        content["services"][name] = {"module": f"examples.agents.{name}", "agent": True, "sensitivity": "public"}
    path.write_text(yaml.safe_dump(content))
    return path


def write_texts(path: Path, universe: list[str]) -> None:
    """Some headlines each weekday of the session and the month before, seeded."""
    random = np.random.default_rng(12)
    days = np.arange(np.datetime64("2009-02-02"), np.datetime64("2009-05-30"))
    lines = []
    for day in days[np.is_busday(days)]:
        for number in range(TEXTS_A_DAY):
            name = universe[int(random.integers(len(universe)))]
            said = _SENTENCES[int(random.integers(len(_SENTENCES)))].format(
                name=name, number=int(random.integers(2, 90))
            )
            lines.append(
                {
                    "text_id": f"{day}-{number}", "source": "newswire", "instrument_ids": [name],
                    "published_at": f"{day}T12:{number:02d}:00+00:00", "text": said,
                }
            )  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
