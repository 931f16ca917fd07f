"""Ctrl-C in the middle of a real session, and the same command again."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson

from mesh import topology
from mesh.rundir import RunDir

from ..conftest import alive, alphamesh

PATIENCE_S = 60


def test_ctrl_c_ends_every_process_and_the_same_command_goes_on_where_it_was():
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        run, report = Path(folder) / "run", Path(folder) / "report.json"
        arguments = ["session", "--up", "--data-dir", str(run), "--end", "2009-10-30", "--report", str(report)]
        command = [sys.executable, "-m", "mesh.cli", *arguments]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("cycle "):
                break
        pids = [facts["pid"] for facts in RunDir(run).state()["processes"].values()]
        # A sidecar each, the clients' one, Triton's and itself, the event log.
        assert len(pids) == 2 * len(topology.load().processes) + 4
        assert all(alive(pid) for pid in pids)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=PATIENCE_S)
        assert (child.returncode, errors) == (130, "")
        assert not any(alive(pid) for pid in pids)
        assert not report.exists()

        again = alphamesh(*arguments, timeout=PATIENCE_S)
        assert again.returncode == 0, again.stderr
        facts = orjson.loads(report.read_bytes())
        assert facts["cycles"] == 86
        assert facts["reconciled"]

        other = Path(folder) / "other.json"
        end = ("--end", "2009-10-30", "--report", other, "--data-dir", Path(folder) / "other")
        assert alphamesh("session", "--local", *end, timeout=PATIENCE_S).returncode == 0
        assert orjson.loads(other.read_bytes())["final_event_hash"] == facts["final_event_hash"]
