"""The recording replays end to end: the command of docs/order_book.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_the_recording_replays_with_a_market_maker_and_every_algorithm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.order_book", "--json", "--plots", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)
    for row in tables["market_making"]:
        assert row["fills"] > 100
        assert row["maker share"] == 1.0
        assert abs(row["final position"]) <= 110
        assert row["median lots ahead"] > 0
    algorithms = {row["algorithm"]: row for row in tables["executions"]}
    assert set(algorithms) == {"TWAP", "VWAP", "IMPLEMENTATION_SHORTFALL", "POV 1%", "ICEBERG"}
    assert all(row["filled"] == "100%" for name, row in algorithms.items() if not name.startswith("POV"))
    # What rests pays the maker's fee.
    assert algorithms["ICEBERG"]["fees, USDT"] < algorithms["TWAP"]["fees, USDT"] / 2
    for name in ("market_maker.png", "algorithms.png"):
        assert (tmp_path / name).stat().st_size > 10_000
