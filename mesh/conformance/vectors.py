"""Snapshots that agents are tested with: a few whole ones in protos/, as JSON, and larger ones from a seed.

``python -m mesh.conformance.vectors`` writes those in protos/. Their bars are made up: random walks in cents, with
the holes, halts and short histories that real data has.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict, ParseDict
from numpy.typing import NDArray

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit import snapshots

Floats = NDArray[np.float64]

GOLDEN = Path(__file__).resolve().parents[2] / "protos/alphamesh/agent/v1/golden"
DAY_NS = 86_400 * 10**9
# The close of a trading day long ago, so that no agent can know it by heart.
LAST_CLOSE_NS = 1_246_392_000 * 10**9  # 2009-06-30 20:00 UTC
BARS, INSTRUMENTS = 130, 4


@dataclass(frozen=True, kw_only=True)
class Vector:
    """A snapshot as market_data serves it. unable: rows about which nobody can say anything, whatever they look at."""

    name: str
    why: str
    header: marketdata_pb2.SnapshotHeader
    content: bytes
    unable: tuple[int, ...] = ()

    @property
    def snapshot_id(self) -> str:
        """Hex sha256."""
        return self.header.snapshot_id

    def response(self) -> marketdata_pb2.GetSnapshotResponse:
        """The answer of GetSnapshot."""
        return marketdata_pb2.GetSnapshotResponse(arrow_ipc=self.content)


def walk(instruments: int, bars: int, seed: int) -> dict[str, Floats]:
    """Bars x instruments of open, high, low, close in cents, and volume: random walks without drift."""
    random = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(random.normal(0.0, 0.015, (bars, instruments)), axis=0))
    opened = np.vstack([close[:1], close[:-1]]) * np.exp(random.normal(0.0, 0.004, close.shape))
    spread = np.abs(random.normal(0.0, 0.006, (2, *close.shape)))
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * (1.0 + spread[0]),
        "low": np.minimum(opened, close) * (1.0 - spread[1]),
        "close": close,
    }
    made = {name: np.round(values, 2) for name, values in columns.items()}
    made["volume"] = random.integers(100_000, 5_000_000, close.shape).astype(np.float64)
    return made


def vector(
    name: str,
    why: str,
    columns: dict[str, Floats],
    *,
    unable: tuple[int, ...] = (),
    as_of_ns: int = LAST_CLOSE_NS,
    newest_ns: int = LAST_CLOSE_NS,
) -> Vector:
    """A snapshot of `columns`, one bar each weekday up to `newest_ns`."""
    bars, instruments = columns["close"].shape
    closes = _weekdays(newest_ns, bars)
    header = marketdata_pb2.SnapshotHeader(
        as_of_ns=as_of_ns,
        instrument_ids=[f"MADE{i:03d}" for i in range(instruments)],
        lookback_bars=bars,
        watermark={"bars": int(np.isfinite(columns["close"]).sum())},
        feature_set_version="bars-1",
        bar_ts_ns=closes.tolist(),
    )
    for column in columns["close"].T:
        there = np.flatnonzero(np.isfinite(column))
        header.mark_e9.append(round(float(column[there[-1]]) * 100) * 10**7 if len(there) else 0)
        header.mark_ts_ns.append(int(closes[there[-1]]) if len(there) else 0)
    content = snapshots.in_memory(snapshots.seal(header, columns))
    return Vector(name=name, why=why, header=header, content=content, unable=unable)


def altered(whole: Vector) -> marketdata_pb2.GetSnapshotResponse:
    """The same header, and one bit of the first value of each column turned over."""
    content = bytearray(whole.content)
    opened = snapshots.decode(whole.snapshot_id, whole.content)
    for name in snapshots.FLOAT_COLUMNS:
        content[whole.content.index(getattr(opened, name).tobytes())] ^= 1
    return marketdata_pb2.GetSnapshotResponse(arrow_ipc=bytes(content))


def large(instruments: int, bars: int) -> Vector:
    """As many instruments as a real universe has."""
    return vector("large", f"{instruments} instruments", walk(instruments, bars, 500))


def make() -> tuple[Vector, ...]:
    """Those that are kept as golden files."""
    plain = walk(INSTRUMENTS, BARS, 1)
    holes = walk(INSTRUMENTS, BARS, 2)
    for column in holes.values():
        column[-3, 0] = math.nan  # a hole three bars ago
        column[-1, 1] = math.nan  # no bar today
        column[:, 2] = math.nan  # never traded
    short = {name: values[-2:] for name, values in plain.items()}
    flat = walk(INSTRUMENTS, BARS, 3)
    for name, column in flat.items():
        column[:, 0] = 0.0 if name == "volume" else 25.0
    return (
        vector("plain", "130 whole bars of 4 instruments", plain),
        vector("one", "a universe of one instrument", walk(1, BARS, 4)),
        vector("holes", "a hole in the history (row 0), no bar today (1), no bar at all (2)", holes, unable=(2,)),
        vector("short", "two bars: no history to speak of", short),
        vector(
            "stale",
            "the newest bar is thirty days old",
            plain,
            as_of_ns=LAST_CLOSE_NS + 30 * DAY_NS,
            unable=tuple(range(INSTRUMENTS)),
        ),
        vector("flat", "row 0 never moves and never trades: a variance of zero", flat),
    )


@cache
def golden() -> dict[str, Vector]:
    """The golden files, by name."""
    found = {}
    for path in sorted(files("alphamesh").joinpath("golden").iterdir(), key=lambda each: each.name):
        if path.name.endswith(".json"):
            body = json.loads(path.read_text())
            answer = ParseDict(body["get_snapshot_response"], marketdata_pb2.GetSnapshotResponse())
            found[body["name"]] = Vector(
                name=body["name"],
                why=body["why"],
                header=ParseDict(body["header"], marketdata_pb2.SnapshotHeader()),
                content=answer.arrow_ipc,
                unable=tuple(body["unable_rows"]),
            )
    return found


def plain_json(made: Vector) -> dict[str, Any]:
    """A golden file: the message in protobuf's JSON, and what a decoder must find in it."""
    decoded = snapshots.decode(made.snapshot_id, made.content)
    return {
        "name": made.name,
        "why": made.why,
        "unable_rows": list(made.unable),
        "header": MessageToDict(made.header, preserving_proto_field_name=True),
        "get_snapshot_response": MessageToDict(made.response(), preserving_proto_field_name=True),
        "decoded": {
            "bars": len(decoded.close),
            "last_close": [None if math.isnan(value) else value for value in decoded.close[-1].tolist()],
            "missing_bars": np.isnan(decoded.close).sum(axis=0).tolist(),
        },
    }


def _weekdays(last_ns: int, bars: int) -> NDArray[np.int64]:
    days = np.busday_offset(np.datetime64(last_ns // DAY_NS, "D"), np.arange(1 - bars, 1), roll="backward")
    return np.asarray(days.astype(np.int64) * DAY_NS + last_ns % DAY_NS)


def main() -> None:
    """Writes protos/alphamesh/agent/v1/golden/."""
    GOLDEN.mkdir(exist_ok=True)
    for made in make():
        path = GOLDEN / f"{made.name}.json"
        path.write_text(json.dumps(plain_json(made), indent=1) + "\n")
        print(f"{path.relative_to(GOLDEN.parents[4])}: snapshot {made.snapshot_id}")


if __name__ == "__main__":
    main()
