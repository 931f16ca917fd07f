"""The event log and the views of a system that is trading: followed, checked and compared while it works."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path

from .conftest import ALPHAMESH, alphamesh
from .test_recovery import start, wait_for_cycles

EVENTS = 40


def test_a_running_system_is_followed_checked_and_compared(tmp_path: Path) -> None:
    data_dir = tmp_path / "run"
    process = start(data_dir, "--serve")
    try:
        wait_for_cycles(data_dir, process)
        options = ("-n", "0", "-f", "--json", "--stream", "execution", "--data-dir", str(data_dir))
        with subprocess.Popen([ALPHAMESH, "log", "tail", *options], stdout=subprocess.PIPE, text=True) as follow:
            assert follow.stdout is not None
            events = [json.loads(follow.stdout.readline()) for _ in range(EVENTS)]
            follow.send_signal(signal.SIGINT)
            assert follow.wait(timeout=10) == 130
        first = events[0]["seq"]
        assert [event["seq"] for event in events] == list(range(first, first + EVENTS))
        assert all(later["prev_hash"] == event["hash"] for event, later in itertools.pairwise(events))

        compared = alphamesh("verify", "--json", "--data-dir", data_dir)
        assert compared.returncode == 0, compared.stdout + compared.stderr
        views = {(row["service"], row["view"]): row for row in json.loads(compared.stdout)["views"]}
        assert views["portfolio", "ledger"]["events"] >= first + EVENTS - 1
        assert views["audit", "audit"]["events"] > 0

        checked = alphamesh("log", "verify", "--json", "--data-dir", data_dir)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        empty = [row["stream"] for row in json.loads(checked.stdout)["streams"] if not row["events"]]
        assert set(empty) <= {"audit", "training"}  # nobody was refused, and nothing was trained
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=30)
